/**
 * UDP through `Bun.udpSocket`: binds, and on macOS sends and receives, datagram by datagram.
 *
 * On Linux the bound socket goes to `udp_poll.ts`. What it cannot do later is set here: UDP_GRO (udp(7)), by which the
 * kernel joins datagrams on receipt, and large buffers.
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
} from "./libc_linux.ts";
import { HEADER_BYTES, MAX_SEND_BYTES, SOCKET_BUFFER_BYTES } from "./limits.ts";
import { pieceSize, writeDatagrams } from "./protocol.ts";
import { isIP } from "node:net";
import { AF_INET, AF_INET6 } from "./sockaddr_linux.ts";
import { PollDatagramSocket } from "./udp_poll.ts";
import { type DatagramSocket, PENDING_ERRORS, type ReceiveDatagrams, type SendResult } from "./udp.ts";

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
  readonly #sendBuffer = new Uint8Array(MAX_SEND_BYTES);

  constructor(socket: BunSocket, handlers: Handlers) {
    this.#socket = socket;
    this.#handlers = handlers;
    this.port = socket.port;
    // on macOS the numbers differ, and too large a buffer is refused instead of cut: its defaults stay
    if (process.platform === "linux") prepareLinux(socket.fd);
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
    parity: Uint8Array | null,
    pieces: number,
    { host, port }: HostPort,
  ): SendResult {
    const end = writeDatagrams(this.#sendBuffer, header, body, tag, parity, pieces);
    const datagramBytes = HEADER_BYTES + pieceSize(body.length + (tag?.length ?? 0), pieces);
    for (let at = 0; at < end; at += datagramBytes) {
      const datagram = this.#sendBuffer.subarray(at, Math.min(end, at + datagramBytes));
      const sent = this.send(datagram, host, port);
      // the pieces before this one are out: sending all again would be worse than losing the rest of the record
      if (sent !== "sent") return at === 0 ? sent : "failed";
    }
    return "sent";
  }

  /** The kernel fragments whatever is sent here: this socket sets no DF bit. */
  sendFragments(...record: Parameters<DatagramSocket["sendRecord"]>): SendResult {
    return this.sendRecord(...record);
  }

  /** Sends one datagram; once more after an error that is not about it. */
  send(datagram: Uint8Array, host: string, port: number): SendResult {
    for (let tries = 0; ; tries++) {
      try {
        return this.#socket.send(datagram, port, host) ? "sent" : "full";
      } catch (error) {
        this.#handlers.lastError = messageOf(error);
        if (tries > 0 || !PENDING_ERRORS.has(errorCode(error))) return "failed";
      }
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
}

/** What an older kernel refuses is done without. */
function prepareLinux(fd: number): void {
  const option = new Int32Array(1);
  const set = (level: number, name: number, value: number): boolean => {
    option[0] = value;
    return libc.setsockopt(fd, level, name, ptr(option), 4) === 0;
  };
  set(SOL_UDP, UDP_GRO, 1);
  for (const [forced, ordinary] of [
    [SO_RCVBUFFORCE, SO_RCVBUF],
    [SO_SNDBUFFORCE, SO_SNDBUF],
  ] as const)
    if (!set(SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)) set(SOL_SOCKET, ordinary, SOCKET_BUFFER_BYTES);
}
