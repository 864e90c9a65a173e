/**
 * `omail-client check`: what keeps, or would keep, this client from a good tunnel.
 *
 * Nothing is changed on the machine and nobody logs in. What only a tunnel can tell is asked of the running client by
 * its control socket; without one it is said to be not measured.
 */

import { formatHostPort, type HostPort, parseHostPort } from "./address.ts";
import { parseClientStatus } from "./admin_message.ts";
import { messageOf } from "./caught.ts";
import { attempt, checkPrivileges, checkTun } from "./check_host.ts";
import { checkDnsLeak, checkRouteLeak, hasFullTunnel } from "./check_leak.ts";
import {
  probeClock,
  probeEcho,
  probeFlood,
  probePathMtu,
  probeTls,
  probeUdp,
  type TlsProbe,
} from "./check_network.ts";
import { parseFirstHost } from "./check_parse.ts";
import { type CheckReport, type Finding, finding, makeReport, notMeasured } from "./check_report.ts";
import type { RunCommand } from "./command.ts";
import { requestStatus } from "./control_socket.ts";
import { NotRunningError, OmailError } from "./errors.ts";
import type { Instance } from "./instance.ts";
import { openKnownServers } from "./known_servers.ts";
import { DEFAULT_PORT, MIN_MTU_BYTES, RECORD_OVERHEAD_BYTES } from "./limits.ts";
import type { Log } from "./log.ts";
import type { ClientStatus } from "./status.ts";

/** What is checked. */
export interface ClientCheckOptions {
  readonly instance: Instance;
  /** Servers to reach; none: that of the running client. */
  readonly servers: readonly HostPort[];
  /** Largest inner packet. */
  readonly mtuBytes: number;
  /** Turns a server into literal addresses. */
  readonly resolve: (server: HostPort) => Promise<readonly HostPort[]>;
  readonly run: RunCommand;
  readonly log: Log;
  /** Milliseconds since the Unix epoch. */
  readonly now: () => number;
}

const START_IT = "start the client: only a tunnel can tell";
/** A round trip above which interactive work is felt to be slow (ITU-T G.114 gives 400 ms, both ways together 300). */
const SLOW_RTT_MS = 300;
/** Loss above which TCP slows down visibly. */
const LOSS_PERCENT = 1;
/** Silence of three keep-alives of the default interval. */
const SILENCE_MS = 30_000;
/** One-time codes are of 30 s (RFC 6238): a clock this wrong makes them fail. */
const CLOCK_SKEW_MS = 30_000;
const UDP_HEADER_BYTES = 8;

/** The running client, as far as it says. */
interface Tunnel {
  readonly status: ClientStatus;
  /** Null where the system has no ip(8) to ask. */
  readonly fullTunnel: boolean | null;
  /** The server's inner IPv4 address; null when there is none to ask. */
  readonly innerServer: string | null;
}

/** A server that answered. */
interface Reached {
  readonly endpoint: HostPort;
  readonly probe: TlsProbe;
}

/** Looks at everything; takes up to about 15 s on a bad network. */
export async function checkClient(options: ClientCheckOptions): Promise<CheckReport> {
  const findings: Finding[] = [await checkPrivileges(null), ...(await checkTun())];
  const { tunnel, server, finding: client } = await findTunnel(options);
  findings.push(client);
  const servers = options.servers.length === 0 && server !== null ? [server] : options.servers;
  const { reached, endpoint, findings: reach } = await reachServers(servers, options);
  findings.push(...reach);
  findings.push(await checkUdp(tunnel, endpoint, options));
  findings.push(...(await checkEcho(tunnel, reached, options)));
  findings.push(...(await attempt("path MTU", () => checkPathMtu(tunnel, endpoint, options))));
  findings.push(...(await attempt("throughput", () => checkThroughput(tunnel, options))));
  findings.push(...(await attempt("DNS leak", () => checkLeaks(tunnel, endpoint, options))));
  findings.push(...(await attempt("clock skew", () => checkClock(tunnel, reached, options))));
  return makeReport(findings);
}

/** What the control socket tells. */
interface Found {
  /** Null when it is not connected. */
  readonly tunnel: Tunnel | null;
  /** The server that the client was given; null when no client runs. */
  readonly server: HostPort | null;
  readonly finding: Finding;
}

async function findTunnel({ instance, run }: ClientCheckOptions): Promise<Found> {
  const name = "tunnel";
  const reply = await statusReply(instance);
  if (reply === null) {
    const figure = `no client runs with interface "${instance.tun}"`;
    return { tunnel: null, server: null, finding: notMeasured(name, START_IT, figure) };
  }
  const status = parseClientStatus(reply);
  const server = parseHostPort(status.server, DEFAULT_PORT);
  if (status.state !== "connected") {
    const figure = `${status.state} to ${status.server}`;
    return { tunnel: null, server, finding: finding(name, "failure", figure, "the client's log says why") };
  }
  const routing = await readRouting(instance.tun, run);
  const kind = { true: "full tunnel", false: "split tunnel", null: "tunnel" }[`${routing.fullTunnel}`];
  return {
    tunnel: { status, ...routing },
    server,
    finding: finding(name, "ok", `${kind} to ${status.server} by ${status.transport}`),
  };
}

/** What the kernel knows of the tunnel. */
async function readRouting(
  tun: string,
  run: RunCommand,
): Promise<Pick<Tunnel, "fullTunnel" | "innerServer">> {
  try {
    const { stdout } = await run(["ip", "-4", "-json", "address", "show", "dev", tun]);
    return { fullTunnel: await hasFullTunnel(tun, run), innerServer: parseFirstHost(stdout) };
  } catch (error) {
    if (!(error instanceof OmailError)) throw error;
    return { fullTunnel: null, innerServer: null };
  }
}

/** @returns null when no client runs */
async function statusReply(instance: Instance): Promise<unknown> {
  try {
    return await requestStatus(instance);
  } catch (error) {
    if (error instanceof NotRunningError) return null;
    throw error;
  }
}

/** Tries every server; one that fails is no failure while another answers. */
async function reachServers(
  servers: readonly HostPort[],
  options: ClientCheckOptions,
): Promise<{ reached: Reached | null; endpoint: HostPort | null; findings: readonly Finding[] }> {
  if (servers.length === 0) {
    const advice = "give --server HOST:PORT";
    return {
      reached: null,
      endpoint: null,
      findings: [notMeasured("TCP", advice), notMeasured("certificate", advice)],
    };
  }
  let reached: Reached | null = null;
  let endpoint: HostPort | null = null;
  const failed: { server: string; reason: string }[] = [];
  const findings: Finding[] = [];
  for (const server of servers) {
    try {
      const address = (await options.resolve(server))[0] ?? server;
      endpoint ??= address;
      const probe = await probeTls(address, server.host);
      findings.push(tcpFinding(server, probe), await certificateFinding(server, probe, options));
      if (reached === null) [reached, endpoint] = [{ endpoint: address, probe }, address];
    } catch (error) {
      if (!(error instanceof OmailError)) throw error;
      failed.push({ server: formatHostPort(server), reason: messageOf(error) });
    }
  }
  const level = reached === null ? "failure" : "warning";
  const advice = "check the name, the port, and that TCP to it is let through by the firewalls on the way";
  findings.push(...failed.map(({ server, reason }) => finding("TCP", level, `${server}: ${reason}`, advice)));
  if (reached === null) findings.push(notMeasured("certificate", "reach a server first"));
  return { reached, endpoint, findings };
}

function tcpFinding(server: HostPort, { tcpMs, tlsMs, speaksOmail }: TlsProbe): Finding {
  const figure = `${formatHostPort(server)}: connected in ${tcpMs.toFixed(1)} ms, TLS 1.3 in ${tlsMs.toFixed(1)} ms`;
  return speaksOmail
    ? finding("TCP", "ok", figure, "", tcpMs)
    : finding("TCP", "failure", figure, "that is no OMail VPN server: check the port", tcpMs);
}

async function certificateFinding(
  server: HostPort,
  { fingerprint, validTo, validFrom }: TlsProbe,
  { instance, log, now }: ClientCheckOptions,
): Promise<Finding> {
  const known = (await openKnownServers(instance.stateDir, log)).find(formatHostPort(server));
  const name = "certificate";
  if (known !== null && known !== fingerprint) {
    return finding(
      name,
      "warning",
      `SHA-256 ${fingerprint}, another than last time (${known})`,
      "ask the server's operator; the log-in proves the server in any case",
    );
  }
  if (now() < validFrom || now() > validTo) {
    const figure = `valid from ${day(validFrom)} to ${day(validTo)} only`;
    return finding(name, "warning", figure, "look at this machine's clock, or have the certificate renewed");
  }
  return finding(
    name,
    "ok",
    `SHA-256 ${fingerprint}, until ${day(validTo)}${known === null ? "" : ", as last time"}`,
  );
}

function day(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10);
}

async function checkUdp(
  tunnel: Tunnel | null,
  endpoint: HostPort | null,
  { now }: ClientCheckOptions,
): Promise<Finding> {
  const name = "UDP";
  if (tunnel !== null) {
    const { transport, lastSeenAt } = tunnel.status;
    const silentMs = lastSeenAt === null ? Infinity : Math.max(0, now() - lastSeenAt);
    const figure = `the tunnel's data goes by ${transport}, last heard ${(silentMs / 1000).toFixed(1)} s ago`;
    if (transport !== "udp")
      return finding(
        name,
        "warning",
        figure,
        "have UDP to the server's port let through, unless --transport tcp is meant",
      );
    return silentMs < SILENCE_MS
      ? finding(name, "ok", figure, "", silentMs / 1000)
      : finding(name, "failure", figure, "the path lets no UDP through any more", silentMs / 1000);
  }
  if (endpoint === null) return notMeasured(name, "give --server HOST:PORT");
  const answer = await probeUdp(endpoint);
  const at = formatHostPort(endpoint);
  if (answer === "refused")
    return finding(name, "failure", `${at} refuses it`, "no server listens there by UDP");
  if (answer !== "silence")
    return finding(name, "failure", `${at}: ${answer.error}`, "look at routes and firewalls here");
  return notMeasured(name, START_IT, `${at}: nobody refuses it, and a server does not answer strangers`);
}

/** Round trip and loss: of the tunnel's own records, else of echoes to the server, else of the TCP handshake. */
async function checkEcho(
  tunnel: Tunnel | null,
  reached: Reached | null,
  { run }: ClientCheckOptions,
): Promise<readonly Finding[]> {
  if (tunnel !== null) {
    const { rttMs, lossPercent } = tunnel.status;
    return [
      rttMs === null
        ? notMeasured("RTT", "wait for the first keep-alive")
        : rttFinding(rttMs, "the tunnel's keep-alive records"),
      lossFinding(lossPercent, "the tunnel's records of the last keep-alive interval"),
    ];
  }
  if (reached === null) return [notMeasured("RTT", START_IT), notMeasured("loss", START_IT)];
  const handshake = rttFinding(reached.probe.tcpMs, "estimated from one TCP handshake");
  try {
    const echo = await probeEcho(reached.endpoint.host, run);
    if (echo === null || echo.rttMs === null) {
      return [handshake, notMeasured("loss", START_IT, "not measured: the server answers no ping")];
    }
    const from = `${echo.sent} pings outside the tunnel`;
    return [rttFinding(echo.rttMs, from), lossFinding(echo.lossPercent, from)];
  } catch (error) {
    if (!(error instanceof OmailError)) throw error;
    return [handshake, notMeasured("loss", error.message)];
  }
}

function rttFinding(ms: number, from: string): Finding {
  const figure = `${ms.toFixed(2)} ms (${from})`;
  return ms < SLOW_RTT_MS
    ? finding("RTT", "ok", figure, "", ms)
    : finding(
        "RTT",
        "warning",
        figure,
        "the path is long or its queues are full: choose a nearer server",
        ms,
      );
}

function lossFinding(percent: number, from: string): Finding {
  const figure = `${percent.toFixed(1)} % (${from})`;
  return percent < LOSS_PERCENT
    ? finding("loss", "ok", figure, "", percent)
    : finding(
        "loss",
        "warning",
        figure,
        "look at the Wi-Fi or the line; records are made smaller meanwhile",
        percent,
      );
}

async function checkPathMtu(
  tunnel: Tunnel | null,
  endpoint: HostPort | null,
  { mtuBytes, run }: ClientCheckOptions,
): Promise<readonly Finding[]> {
  const name = "path MTU";
  const found = tunnel?.status.pathMtu ?? null;
  if (found !== null)
    return [finding(name, "ok", `at least ${found} bytes (the tunnel's own probes)`, "", found)];
  if (endpoint === null) return [notMeasured(name, "give --server HOST:PORT")];
  const bytes = await probePathMtu(endpoint.host, run);
  if (bytes === null) {
    const advice = START_IT;
    return [notMeasured(name, advice, "not measured: the server answers no ping of 1,280 bytes")];
  }
  const around = RECORD_OVERHEAD_BYTES + UDP_HEADER_BYTES + (endpoint.host.includes(":") ? 40 : 20);
  const figure = `${bytes}${bytes === 1500 ? " or more" : ""} bytes (pings that may not be fragmented)`;
  const fits = Math.max(MIN_MTU_BYTES, bytes - around);
  return [
    bytes >= mtuBytes + around
      ? finding(name, "ok", figure, "", bytes)
      : finding(
          name,
          "warning",
          `${figure}; a full packet of the tunnel needs ${mtuBytes + around}`,
          `the tunnel cuts its datagrams to fit; --mtu ${fits} at the client makes full packets fit whole`,
          bytes,
        ),
  ];
}

async function checkThroughput(
  tunnel: Tunnel | null,
  { run }: ClientCheckOptions,
): Promise<readonly Finding[]> {
  const name = "throughput";
  if (tunnel === null) return [notMeasured(name, START_IT)];
  const flood = tunnel.innerServer === null ? null : await probeFlood(tunnel.innerServer, run);
  if (flood === null) {
    const advice = "measure with iperf3 to a machine behind the server (flooding pings needs root)";
    return [
      notMeasured(name, advice, `not measured: ${tunnel.innerServer ?? "no inner address"} answers no pings`),
    ];
  }
  const { megabitsPerSecond, received, sent } = flood;
  const figure =
    `at least ${megabitsPerSecond.toFixed(0)} Mbit/s each way ` +
    `(${received} of ${sent} pings of 1,400 bytes answered through the tunnel)`;
  return [finding(name, "ok", figure, "", megabitsPerSecond)];
}

async function checkLeaks(
  tunnel: Tunnel | null,
  endpoint: HostPort | null,
  { instance, run }: ClientCheckOptions,
): Promise<readonly Finding[]> {
  if (tunnel === null) return [notMeasured("DNS leak", START_IT), notMeasured("route leak", START_IT)];
  if (tunnel.fullTunnel === null) {
    const advice = "compare the routes by hand: this system has no ip command";
    return [notMeasured("DNS leak", advice), notMeasured("route leak", advice)];
  }
  if (!tunnel.fullTunnel) {
    const figure = "not looked for: a split tunnel leaves the rest outside by choice";
    return [finding("DNS leak", "ok", figure), finding("route leak", "ok", figure)];
  }
  return [await checkDnsLeak(instance.tun, run), ...(await checkRouteLeak(instance.tun, endpoint, run))];
}

/** Through the tunnel the server's own stamp (to the millisecond); without it only the certificate's bounds. */
async function checkClock(
  tunnel: Tunnel | null,
  reached: Reached | null,
  { run, now }: ClientCheckOptions,
): Promise<readonly Finding[]> {
  const name = "clock skew";
  const inner = tunnel?.innerServer ?? null;
  const skewMs = inner === null ? null : await probeClock(inner, run);
  if (skewMs !== null) {
    const figure = `${(skewMs / 1000).toFixed(3)} s (the server's clock less ours, from its IP timestamp)`;
    const level = Math.abs(skewMs) < CLOCK_SKEW_MS ? "ok" : "warning";
    const advice =
      level === "ok" ? "" : "set both clocks by NTP: one-time codes and certificates depend on them";
    return [finding(name, level, figure, advice, skewMs / 1000)];
  }
  if (reached === null) return [notMeasured(name, START_IT)];
  const { validFrom, validTo } = reached.probe;
  const bounds = `the server's certificate, ${day(validFrom)} to ${day(validTo)}`;
  return [
    now() >= validFrom && now() <= validTo
      ? finding(name, "unknown", `not measured; our clock lies inside ${bounds}`, START_IT)
      : finding(
          name,
          "failure",
          `our clock (${day(now())}) lies outside ${bounds}`,
          "set this machine's clock by NTP",
        ),
  ];
}
