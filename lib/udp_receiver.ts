/**
 * Receives datagrams on Linux: one call for what the kernel joined (UDP_GRO), or one call for many where it joins nothing.
 *
 * Joined, a record is one message of recvmsg(2), whose places `udp_scatter.ts` has. After a while of lone datagrams they are
 * received by recvmmsg(2) (`udp_batch.ts`), until something joined comes. Structures: struct msghdr and iovec of the 64-bit
 * Linux ABI.
 */

import { errno, errnoName, type Pointer, ptr } from "./libc.ts";
import { EAGAIN, recvmmsg, recvmsg } from "./libc_linux.ts";
import { HEADER_BYTES } from "./limits.ts";
import { SOCKADDR_IN6_BYTES } from "./sockaddr_linux.ts";
import { PENDING_ERRORS, type ReceiveDatagrams, type ReceiveRecord } from "./udp.ts";
import { DatagramBatch } from "./udp_batch.ts";
import { UdpPeers } from "./udp_peers.ts";
import { FIRST_PIECE_BYTES, MAX_DATAGRAMS, RECEIVE_BYTES, ScatterLayout } from "./udp_scatter.ts";

/** Receives of one datagram each after which the kernel joins none, or has none to join. */
const LONE_RECEIVES = 64;

const IOVEC_BYTES = 16;
/** A header and a piece in turn, and room for the rest. */
const MAX_IOVECS = 2 * MAX_DATAGRAMS + 1;

// Places in the arena that holds all structures; 8-byte aligned.
const MSGHDR = 0;
const NAME = 64;
const IOVECS = 96;
const ARENA_BYTES = IOVECS + MAX_IOVECS * IOVEC_BYTES;

// Places in struct msghdr.
const NAME_LENGTH = MSGHDR + 8;
const IOVEC_POINTER = MSGHDR + 16;
const IOVEC_COUNT = MSGHDR + 24;

const TWO_32 = 2 ** 32;

/** Receives on one descriptor. */
export class DatagramReceiver {
  /** Takes datagrams. */
  datagrams: ReceiveDatagrams | null = null;
  /** Takes records that came whole. */
  record: ReceiveRecord | null = null;
  /** The last {@link receive} is known to have emptied the socket: it had room for more than there was. */
  isDrained = false;
  lastError: string | null = null;
  readonly #fd: number;
  readonly #arena = new Uint8Array(ARENA_BYTES);
  readonly #words = new Uint32Array(this.#arena.buffer);
  readonly #address: number = ptr(this.#arena);
  readonly #layout = new ScatterLayout();
  readonly #headersAddress: number = ptr(this.#layout.headers);
  readonly #piecesAddress: number = ptr(this.#layout.pieces);
  readonly #peers = new UdpPeers();
  /** Made when it is first wanted: it takes some memory. */
  #batch: DatagramBatch | null = null;
  #loneReceives = 0;
  /** Largest piece that came in a datagram by itself. */
  #largestPieceBytes = FIRST_PIECE_BYTES;

  constructor(fd: number) {
    this.#fd = fd;
    this.#setPointer(MSGHDR, this.#address + NAME);
    this.#setPointer(IOVEC_POINTER, this.#address + IOVECS);
    this.#words[IOVEC_COUNT / 4] = MAX_IOVECS;
    this.#layOut();
  }

  /**
   * Hands what one call gives to whoever takes it.
   *
   * @returns bytes received, about; 0 when nothing waits
   */
  receive(): number {
    return this.#loneReceives >= LONE_RECEIVES ? this.#receiveMany() : this.#receiveOne();
  }

  #receiveOne(): number {
    this.isDrained = false;
    this.#words[NAME_LENGTH / 4] = SOCKADDR_IN6_BYTES;
    const length = recvmsg(this.#fd, this.#address as Pointer, 0);
    if (length < 0) return this.#failed("recvmsg");
    const from = this.#peers.named(this.#arena, NAME, this.#words[NAME_LENGTH / 4]!);
    const layout = this.#layout;
    const first = layout.recordAt(length);
    if (first >= 0) {
      const { headers, pieces, pieceBytes } = layout;
      this.record?.(headers, first * HEADER_BYTES, pieces, first * pieceBytes, from);
    } else if (layout.join(length)) {
      if (layout.adapt(length)) this.#layOut();
      this.record?.(layout.linear, 0, layout.linear, HEADER_BYTES, from);
    } else {
      layout.linearize(length);
      if (layout.adapt(length)) this.#layOut();
      this.datagrams?.(layout.linear, length, from);
    }
    this.#countLone(length - HEADER_BYTES);
    return length;
  }

  #countLone(bytes: number): void {
    if (bytes > this.#layout.pieceBytes) this.#loneReceives = 0;
    else {
      this.#loneReceives++;
      this.#largestPieceBytes = Math.max(this.#largestPieceBytes, bytes);
    }
  }

  #receiveMany(): number {
    if (this.#batch === null || this.#batch.pieceBytes < this.#largestPieceBytes)
      this.#batch = new DatagramBatch(this.#largestPieceBytes, this.#peers);
    const batch = this.#batch;
    const count = recvmmsg(this.#fd, batch.address, batch.messages, 0, null);
    if (count < 0) return this.#failed("recvmmsg");
    this.isDrained = count < batch.messages;
    const longest = batch.take(count, this.datagrams, this.record);
    // joined after all, or larger than what came before
    if (longest > HEADER_BYTES + batch.pieceBytes) this.#loneReceives = 0;
    return count * longest;
  }

  /** Writes the iovecs of the next receives. */
  #layOut(): void {
    const { pieceBytes, pieces } = this.#layout;
    for (let i = 0; i < MAX_DATAGRAMS; i++) {
      this.#setIovec(2 * i, this.#headersAddress + i * HEADER_BYTES, HEADER_BYTES);
      this.#setIovec(2 * i + 1, this.#piecesAddress + i * pieceBytes, pieceBytes);
    }
    const at = MAX_DATAGRAMS * pieceBytes;
    const rest = Math.max(0, Math.min(RECEIVE_BYTES, pieces.length - at));
    this.#setIovec(2 * MAX_DATAGRAMS, this.#piecesAddress + at, rest);
  }

  /** @returns 0, or 1 when another call may give more */
  #failed(call: string): number {
    const code = errno();
    if (code === EAGAIN) return 0;
    const name = errnoName(code);
    this.lastError = `${call}: ${name}`;
    return PENDING_ERRORS.has(name) || name === "EINTR" ? 1 : 0;
  }

  #setIovec(index: number, address: number, length: number): void {
    const at = IOVECS + index * IOVEC_BYTES;
    this.#setPointer(at, address);
    this.#words[(at + 8) / 4] = length;
  }

  #setPointer(at: number, address: number): void {
    this.#words[at / 4] = address;
    this.#words[at / 4 + 1] = address / TWO_32;
  }
}
