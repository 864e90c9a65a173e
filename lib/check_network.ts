/** The probes of `check` that put something on the network: TCP and TLS, UDP, echoes (RFC 792, RFC 4443), path MTU. */

import { createSocket } from "node:dgram";
import { isIP } from "node:net";
import { connect } from "node:tls";
import type { HostPort } from "./address.ts";
import { errorCode, messageOf } from "./caught.ts";
import { parseClockOffset, parseMtuHint, parsePing, type PingCount } from "./check_parse.ts";
import type { RunCommand } from "./command.ts";
import { OmailError } from "./errors.ts";
import { ALPN_PROTOCOL } from "./limits.ts";

const TLS_TIMEOUT_MS = 5_000;
/** An ICMP "port unreachable" comes back within a round trip. */
const UDP_WAIT_MS = 1_000;
const ECHOES = 10;
/** Bytes of IPv4 or IPv6 header and ICMP header around an echo's payload. */
const ECHO_HEADER_BYTES = { 4: 28, 6: 48 } as const;
/** Bounds of the search: what every IPv6 path carries (RFC 8200, section 5), and Ethernet. */
const MIN_PATH_MTU_BYTES = 1280;
const MAX_PATH_MTU_BYTES = 1500;
/** Echoes under way at once when throughput is measured; their bytes are those of a full inner packet. */
const FLOOD_ECHOES = { count: 4_000, atOnce: 64, payloadBytes: 1_372, seconds: 2 } as const;

/** A finished TLS handshake. */
export interface TlsProbe {
  /** From the first SYN to the answer, in milliseconds. */
  readonly tcpMs: number;
  /** From there to the end of the handshake. */
  readonly tlsMs: number;
  /** SHA-256 of the certificate, upper-case hexadecimal with colons. */
  readonly fingerprint: string;
  /** Validity in milliseconds since the Unix epoch. */
  readonly validFrom: number;
  readonly validTo: number;
  /** Whether it chose our protocol. */
  readonly speaksOmail: boolean;
}

/**
 * Connects, shakes hands, and closes without a log-in. Any certificate passes.
 *
 * @throws {OmailError} when there is no connection or no handshake in time; says which
 */
export function probeTls(
  endpoint: HostPort,
  serverName: string,
  timeoutMs = TLS_TIMEOUT_MS,
): Promise<TlsProbe> {
  const start = performance.now();
  let connectedAt: number | null = null;
  const socket = connect({
    host: endpoint.host,
    port: endpoint.port,
    ...(isIP(serverName) === 0 ? { servername: serverName } : {}),
    rejectUnauthorized: false,
    minVersion: "TLSv1.3",
    ALPNProtocols: [ALPN_PROTOCOL],
  });
  return new Promise<TlsProbe>((resolve, reject) => {
    const fail = (reason: string): void => {
      clearTimeout(timer);
      const stage = connectedAt === null ? "no TCP connection" : "TCP is open, but no TLS handshake";
      reject(new OmailError(`${stage}: ${reason}`));
      socket.destroy();
    };
    const timer = setTimeout(() => fail(`no answer within ${timeoutMs} ms`), timeoutMs);
    socket.once("connect", () => (connectedAt = performance.now()));
    socket.on("error", (error: Error) => fail(errorCode(error) || messageOf(error)));
    socket.once("close", () => fail("the connection was closed"));
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      const certificate = socket.getPeerCertificate();
      resolve({
        tcpMs: (connectedAt ?? start) - start,
        tlsMs: performance.now() - (connectedAt ?? start),
        fingerprint: certificate.fingerprint256,
        validFrom: Date.parse(certificate.valid_from),
        validTo: Date.parse(certificate.valid_to),
        speaksOmail: socket.alpnProtocol === ALPN_PROTOCOL,
      });
      socket.destroy();
    });
  });
}

/** What became of a datagram to a port: the host refused it, this machine did, or nobody said anything. */
export type UdpAnswer = "refused" | "silence" | { readonly error: string };

/** Sends one datagram of a byte, which a server drops, and listens for an ICMP refusal. */
export function probeUdp({ host, port }: HostPort): Promise<UdpAnswer> {
  const socket = createSocket(isIP(host) === 6 ? "udp6" : "udp4");
  const { promise, resolve } = Promise.withResolvers<UdpAnswer>();
  const timer = setTimeout(() => resolve("silence"), UDP_WAIT_MS);
  socket.on("error", (error: Error) =>
    resolve(
      errorCode(error) === "ECONNREFUSED" ? "refused" : { error: errorCode(error) || messageOf(error) },
    ),
  );
  socket.connect(port, host, () => socket.send(new Uint8Array(1)));
  return promise.finally(() => {
    clearTimeout(timer);
    socket.close();
  });
}

/** Counts ten echoes over two seconds; null when ping could not send any. */
export async function probeEcho(address: string, run: RunCommand): Promise<PingCount | null> {
  const argv = ["ping", "-n", "-q", "-c", `${ECHOES}`, "-i", "0.2", "-W", "1", address];
  return parsePing((await run(argv)).stdout);
}

/** Keeps many large echoes under way for up to two seconds; null when nothing came back. */
export async function probeFlood(
  address: string,
  run: RunCommand,
): Promise<(PingCount & { megabitsPerSecond: number }) | null> {
  const { count, atOnce, payloadBytes, seconds } = FLOOD_ECHOES;
  const argv = ["ping", "-n", "-q", "-f", "-c", `${count}`, "-l", `${atOnce}`, "-s", `${payloadBytes}`];
  const counted = parsePing((await run([...argv, "-w", `${seconds}`, address])).stdout);
  if (counted === null || counted.received === 0) return null;
  const bits = counted.received * (payloadBytes + ECHO_HEADER_BYTES[4]) * 8;
  return { ...counted, megabitsPerSecond: bits / Math.max(1, counted.elapsedMs) / 1000 };
}

/** How far the clock of a neighbour is ahead of ours in milliseconds; null when it does not say. */
export async function probeClock(address: string, run: RunCommand): Promise<number | null> {
  return parseClockOffset((await run(["ping", "-n", "-c", "1", "-W", "1", "-T", "tsonly", address])).stdout);
}

/**
 * The largest packet that may not be fragmented and is still answered: from 1280 to 1500 bytes, or less where a router
 * names it ("fragmentation needed", RFC 1191).
 *
 * @returns null when not even 1280 bytes are answered, and no router says what would be
 */
export async function probePathMtu(address: string, run: RunCommand): Promise<number | null> {
  const header = ECHO_HEADER_BYTES[isIP(address) === 6 ? 6 : 4];
  const echo = async (bytes: number): Promise<string> => {
    const argv = ["ping", "-n", "-M", "do", "-c", "2", "-i", "0.2", "-W", "0.5"];
    return (await run([...argv, "-s", `${bytes - header}`, address])).stdout;
  };
  const passes = async (bytes: number) => (parsePing(await echo(bytes))?.received ?? 0) > 0;
  const largest = await echo(MAX_PATH_MTU_BYTES);
  if ((parsePing(largest)?.received ?? 0) > 0) return MAX_PATH_MTU_BYTES;
  // A router's word is taken when an echo of that size confirms it; a black hole says nothing.
  const said = parseMtuHint(largest);
  if (said !== null && said < MAX_PATH_MTU_BYTES && (await passes(said))) return said;
  if (!(await passes(MIN_PATH_MTU_BYTES))) return null;
  let [low, high] = [MIN_PATH_MTU_BYTES, MAX_PATH_MTU_BYTES];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (await passes(middle)) low = middle;
    else high = middle;
  }
  return low;
}
