/** An in-memory twin of UDP: sockets on one simulated network, with an observer that sees, drops or changes datagrams. */

import type { HostPort } from "./address.ts";
import { HEADER_BYTES, MAX_SEND_BYTES } from "./limits.ts";
import { pieceSize, writeDatagrams } from "./protocol.ts";
import type { DatagramSocket, ReceiveDatagrams, SendResult } from "./udp.ts";

/** What an observer decides about one datagram: pass it on (perhaps changed) or, with null, drop it. */
export type Observe = (
  datagram: Uint8Array<ArrayBuffer>,
  from: MemoryDatagramSocket,
) => Uint8Array<ArrayBuffer> | null;

/** A network of sockets known by `host:port`. Datagrams arrive in a later microtask, in order. */
export class MemoryNetwork {
  observe: Observe = (datagram) => datagram;
  readonly #sockets = new Map<string, MemoryDatagramSocket>();

  /** Binds a socket; an address has one socket at a time. */
  open(host: string, port: number): MemoryDatagramSocket {
    const socket = new MemoryDatagramSocket(this, host, port);
    this.#sockets.set(`${host} ${port}`, socket);
    return socket;
  }

  /** Carries one datagram from `from` to whoever is at `host` and `port`; to nobody if none is. */
  carry(datagram: Uint8Array<ArrayBuffer>, from: MemoryDatagramSocket, host: string, port: number): void {
    const passed = this.observe(datagram, from);
    if (passed === null) return;
    queueMicrotask(() => this.#sockets.get(`${host} ${port}`)?.deliver(passed, from.host, from.port));
  }

  close(socket: MemoryDatagramSocket): void {
    this.#sockets.delete(`${socket.host} ${socket.port}`);
  }
}

/** One socket of a {@link MemoryNetwork}. */
export class MemoryDatagramSocket implements DatagramSocket {
  readonly host: string;
  readonly port: number;
  readonly lastError = null;
  /** While true, {@link send} answers "full"; setting it back and calling {@link drain} goes on. */
  full = false;
  /** Longer datagrams are "too-large", as on an interface with a small MTU; {@link sendFragments} sends them. */
  maxBytes = Infinity;
  readonly #network: MemoryNetwork;
  #receive: ReceiveDatagrams | null = null;
  #drained: (() => void) | null = null;

  constructor(network: MemoryNetwork, host: string, port: number) {
    this.#network = network;
    this.host = host;
    this.port = port;
  }

  sendRecord(
    header: Uint8Array,
    body: Uint8Array<ArrayBuffer>,
    tag: Uint8Array | null,
    parity: Uint8Array | null,
    pieces: number,
    to: HostPort,
  ): SendResult {
    const datagramBytes = HEADER_BYTES + pieceSize(body.length + (tag?.length ?? 0), pieces);
    if (datagramBytes > this.maxBytes) return "too-large";
    return this.sendFragments(header, body, tag, parity, pieces, to);
  }

  sendFragments(
    ...[header, body, tag, parity, pieces, to]: Parameters<DatagramSocket["sendRecord"]>
  ): SendResult {
    const out = new Uint8Array(MAX_SEND_BYTES);
    const end = writeDatagrams(out, header, body, tag, parity, pieces);
    const datagramBytes = HEADER_BYTES + pieceSize(body.length + (tag?.length ?? 0), pieces);
    return this.send(out.subarray(0, end), datagramBytes, to.host, to.port);
  }

  /** Sends raw bytes as datagrams of `segmentBytes` each, the last one possibly shorter. */
  send(bytes: Uint8Array, segmentBytes: number, host: string, port: number): SendResult {
    if (this.full) return "full";
    for (let at = 0; at < bytes.length; at += segmentBytes) {
      this.#network.carry(bytes.slice(at, at + segmentBytes), this, host, port);
    }
    return "sent";
  }

  onReceive(receive: ReceiveDatagrams): void {
    this.#receive = receive;
  }

  onDrain(drained: () => void): void {
    this.#drained = drained;
  }

  /** Tells the sender that there is room again. */
  drain(): void {
    this.full = false;
    this.#drained?.();
  }

  takeOverflowed(): number {
    return 0;
  }

  deliver(datagram: Uint8Array<ArrayBuffer>, host: string, port: number): void {
    this.#receive?.(datagram, datagram.length, { host, port });
  }

  close(): void {
    this.#network.close(this);
  }
}
