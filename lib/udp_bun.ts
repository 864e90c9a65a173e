/**
 * UDP through `Bun.udpSocket`, with the kernel's segmentation (GSO) and coalescing (GRO) where it has them.
 *
 * udp(7): UDP_SEGMENT makes one send of up to 64 KB leave as equal datagrams, UDP_GRO joins them again on receipt.
 * Bun has no option for either, so they are set on the socket's descriptor.
 */

import type { HostPort } from "./address.ts";
import { unmapAddress } from "./address.ts";
import { freeBytes } from "./bytes.ts";
import { errorCode, messageOf } from "./caught.ts";
import { SystemError } from "./errors.ts";
import { libc, ptr } from "./libc.ts";
import {
  dup,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from "./libc_linux.ts";
import { HEADER_BYTES, MAX_SEND_BYTES, SOCKET_BUFFER_BYTES } from "./limits.ts";
import { pieceSize, writeDatagrams } from "./protocol.ts";
import { isIP } from "node:net";
import { AF_INET, AF_INET6 } from "./sockaddr_linux.ts";
import { PollDatagramSocket } from "./udp_poll.ts";
import type { DatagramSocket, ReceiveDatagrams, SendResult } from "./udp.ts";

/**
 * Errors that an ICMP message left on the socket (ip(7), IP_RECVERR): the next send reports and clears them, whoever it
 * is for. Without a second try anybody's "port unreachable" would cost somebody else a record.
 */
const PENDING_ERRORS = new Set([
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "EHOSTDOWN",
  "ECONNRESET",
  "EPROTO",
]);

/**
 * The path takes less than a full datagram: the kernel fragments lone datagrams, but refuses to segment into ones that
 * it would have to fragment (udp_send_skb in net/ipv4/udp.c: EMSGSIZE, before Linux 6.13 EINVAL).
 */
const PATH_TOO_NARROW = new Set(["EMSGSIZE", "EINVAL"]);

type BunSocket = Bun.udp.Socket<"uint8array"> & { readonly fd: number };

/**
 * Binds a UDP socket; an empty host binds every address, of both families where the machine has IPv6.
 *
 * @throws {SystemError} when the address is in use or not of this machine
 */
export async function openUdp(bind: HostPort): Promise<BunDatagramSocket> {
  const hosts = bind.host === "" ? ["::", "0.0.0.0"] : [bind.host];
  let failure: unknown;
  for (const host of hosts) {
    const handlers = new Handlers();
    try {
      const socket = await Bun.udpSocket({
        hostname: host,
        port: bind.port,
        binaryType: "uint8array",
        socket: handlers.callbacks,
      });
      return new BunDatagramSocket(socket as BunSocket, handlers);
    } catch (error) {
      failure = error;
      if (isInUse(error)) break;
    }
  }
  throw bindError(bind, failure);
}

function isInUse(error: unknown): boolean {
  return errorCode(error) === "EADDRINUSE";
}

function bindError(bind: HostPort, failure: unknown): SystemError {
  const where = `UDP port ${bind.port} of "${bind.host === "" ? "*" : bind.host}"`;
  const hint = isInUse(failure)
    ? "the port is in use; stop the other program or choose another with --address"
    : messageOf(failure);
  return new SystemError(`Cannot listen on ${where}: ${hint}`, "bind", 0);
}

/** The callbacks of a socket, which must exist before the socket does. */
class Handlers {
  receive: ReceiveDatagrams | null = null;
  drained: (() => void) | null = null;
  lastError: string | null = null;
  readonly callbacks = {
    data: (_socket: unknown, bytes: Uint8Array, port: number, address: string): void => {
      this.receive?.(bytes as Uint8Array<ArrayBuffer>, bytes.length, { host: unmapAddress(address), port });
      freeBytes(bytes as Uint8Array<ArrayBuffer>);
    },
    drain: (): void => this.drained?.(),
    // ICMP errors of earlier sends arrive here; the peer may come back, so they only matter to the log. Bun 1.4.5
    // passes the error alone, its types promise the socket before it: the last argument is right either way.
    error: (...args: unknown[]): void => {
      this.lastError = messageOf(args.at(-1));
    },
  };
}

/** A socket of Bun. */
export class BunDatagramSocket implements DatagramSocket {
  readonly port: number;
  readonly #socket: BunSocket;
  readonly #handlers: Handlers;
  /** Passed to setsockopt by address, so it lives as long as the socket. */
  readonly #option = new Int32Array(1);
  readonly #sendBuffer = new Uint8Array(MAX_SEND_BYTES);
  /** The UDP_SEGMENT now set; 0 is off. */
  #segmentBytes = 0;
  #gso: boolean;

  constructor(socket: BunSocket, handlers: Handlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.port = socket.port;
    this.#gso = process.platform === "linux";
    // on macOS the numbers differ, and too large a buffer is refused instead of cut: its defaults stay
    if (!this.#gso) return;
    this.#setOption(SOL_UDP, UDP_GRO, 1);
    this.#setBuffer(SO_RCVBUFFORCE, SO_RCVBUF);
    this.#setBuffer(SO_SNDBUFFORCE, SO_SNDBUF);
  }

  get lastError(): string | null {
    return this.#handlers.lastError;
  }

  onReceive(receive: ReceiveDatagrams): void {
    this.#handlers.receive = receive;
  }

  onDrain(drained: () => void): void {
    this.#handlers.drained = drained;
  }

  sendRecord(
    header: Uint8Array,
    body: Uint8Array,
    tag: Uint8Array | null,
    pieces: number,
    to: HostPort,
  ): SendResult {
    const end = writeDatagrams(this.#sendBuffer, header, body, tag, pieces);
    const segmentBytes = HEADER_BYTES + pieceSize(body.length + (tag?.length ?? 0), pieces);
    return this.send(this.#sendBuffer.subarray(0, end), segmentBytes, to.host, to.port);
  }

  /** The kernel fragments whatever is sent here: this socket sets no DF bit. */
  sendFragments(
    header: Uint8Array,
    body: Uint8Array,
    tag: Uint8Array | null,
    pieces: number,
    to: HostPort,
  ): SendResult {
    return this.sendRecord(header, body, tag, pieces, to);
  }

  /** Sends `bytes` as datagrams of `segmentBytes` each, the last one possibly shorter. */
  send(bytes: Uint8Array, segmentBytes: number, host: string, port: number): SendResult {
    const alone = bytes.length <= segmentBytes;
    if (this.#gso) this.#segmentFor(bytes.length, alone ? 0 : segmentBytes);
    try {
      if (!alone && !this.#gso) return this.#sendOneByOne(bytes, segmentBytes, host, port);
      return this.#socket.send(bytes, port, host) ? "sent" : "full";
    } catch (error) {
      this.#handlers.lastError = messageOf(error);
      return this.#sendAgain(errorCode(error), bytes, segmentBytes, host, port);
    }
  }

  /** Once more after an error that is not about these bytes, or that sending piece by piece avoids. */
  #sendAgain(code: string, bytes: Uint8Array, segmentBytes: number, host: string, port: number): SendResult {
    // EIO: the outgoing device cannot segment (udp_send_skb in net/ipv4/udp.c); it is asked once and no more
    if (code === "EIO") this.#gso = false;
    else if (!PATH_TOO_NARROW.has(code) && !PENDING_ERRORS.has(code)) return "failed";
    if (!PENDING_ERRORS.has(code) && this.#setOption(SOL_UDP, UDP_SEGMENT, 0)) this.#segmentBytes = 0;
    try {
      return this.#sendOneByOne(bytes, segmentBytes, host, port);
    } catch (error) {
      this.#handlers.lastError = messageOf(error);
      return "failed";
    }
  }

  takeOverflowed(): number {
    return 0;
  }

  /** Hands the bound socket over to `data_loop_poll.ts`; this object is done. */
  toPoll(): PollDatagramSocket {
    const fd = dup(this.#socket.fd);
    const family = isIP(this.#socket.hostname) === 6 ? AF_INET6 : AF_INET;
    this.#socket.close();
    return new PollDatagramSocket(fd, family, this.port, () => libc.close(fd));
  }

  close(): void {
    this.#socket.close();
  }

  #sendOneByOne(bytes: Uint8Array, segmentBytes: number, host: string, port: number): SendResult {
    if (this.#gso) this.#segmentFor(Math.min(segmentBytes, bytes.length), 0);
    for (let at = 0; at < bytes.length; at += segmentBytes) {
      const end = Math.min(bytes.length, at + segmentBytes);
      // the pieces before this one are out: sending all again would be worse than losing the rest of the record
      if (!this.#socket.send(bytes.subarray(at, end), port, host)) return at === 0 ? "full" : "failed";
    }
    return "sent";
  }

  /** Makes the next send leave as datagrams of `segmentBytes`, or with 0 as one, at the price of a call if need be. */
  #segmentFor(length: number, segmentBytes: number): void {
    const current = this.#segmentBytes;
    // a lone datagram is left alone by a segment size that it does not exceed
    if (segmentBytes === current || (segmentBytes === 0 && length <= current)) return;
    if (this.#setOption(SOL_UDP, UDP_SEGMENT, segmentBytes)) this.#segmentBytes = segmentBytes;
    else this.#giveUpSegmentation();
  }

  #giveUpSegmentation(): void {
    this.#gso = false;
    this.#setOption(SOL_UDP, UDP_SEGMENT, 0);
  }

  #setBuffer(forced: number, ordinary: number): void {
    if (!this.#setOption(SOL_SOCKET, forced, SOCKET_BUFFER_BYTES))
      this.#setOption(SOL_SOCKET, ordinary, SOCKET_BUFFER_BYTES);
  }

  #setOption(level: number, name: number, value: number): boolean {
    this.#option[0] = value;
    return libc.setsockopt(this.#socket.fd, level, name, ptr(this.#option), 4) === 0;
  }
}
