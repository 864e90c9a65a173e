/**
 * Many datagrams by one call where the kernel does not join them: the places of recvmmsg(2), and the records found there.
 *
 * Without UDP_GRO each datagram is a message of its own. The messages of one call get places that follow each other,
 * headers apart from pieces, as in `udp_scatter.ts`: so the pieces of a record that came whole and in order stand together, or
 * are moved together if they are shorter than their places. What is not whole is handed on datagram by datagram.
 *
 * Structures: struct mmsghdr, msghdr and iovec of the 64-bit Linux ABI.
 */

import type { HostPort } from "./address.ts";
import { type Pointer, ptr } from "./libc.ts";
import { HEADER_BYTES } from "./limits.ts";
import {
  isHeader,
  parityPiece,
  pieceSize,
  readLength,
  readParityGroups,
  readPiece,
  readPieces,
} from "./protocol.ts";
import type { ReceiveDatagrams, ReceiveRecord } from "./udp.ts";
import type { UdpPeers } from "./udp_peers.ts";
import { RECEIVE_BYTES } from "./udp_scatter.ts";

/** Messages of one call: about three large records, so that few of them are divided between two calls. */
const BATCH_MESSAGES = 128;
const MMSGHDR_BYTES = 64;
/** Places in a struct mmsghdr. */
const NAME_LENGTH = 8;
const IOVECS = 16;
const IOVEC_COUNT = 24;
const MESSAGE_LENGTH = 56;
/** Header, piece, and the rest of a message that the kernel joined after all. */
const IOVECS_PER_MESSAGE = 3;
const IOVEC_BYTES = 16;
const NAME_BYTES = 28;
const NAME_STRIDE = 32;
const TWO_32 = 2 ** 32;

// Places in the arena; 8-byte aligned.
const FIRST_IOVEC = BATCH_MESSAGES * MMSGHDR_BYTES;
const FIRST_NAME = FIRST_IOVEC + BATCH_MESSAGES * IOVECS_PER_MESSAGE * IOVEC_BYTES;
const ARENA_BYTES = FIRST_NAME + BATCH_MESSAGES * NAME_STRIDE;

/** See the top of the file. */
export class DatagramBatch {
  readonly messages = BATCH_MESSAGES;
  readonly pieceBytes: number;
  /** Header i is at i * HEADER_BYTES. */
  readonly headers = new Uint8Array(BATCH_MESSAGES * HEADER_BYTES);
  /** Piece i is at i * pieceBytes. */
  readonly pieces: Uint8Array<ArrayBuffer>;
  readonly #rests = new Uint8Array(BATCH_MESSAGES * RECEIVE_BYTES);
  readonly #linear = new Uint8Array(HEADER_BYTES + RECEIVE_BYTES);
  readonly #arena = new Uint8Array(ARENA_BYTES);
  readonly #words = new Uint32Array(this.#arena.buffer);
  readonly #peers: UdpPeers;

  /** @param pieceBytes room for the piece of each datagram */
  constructor(pieceBytes: number, peers: UdpPeers) {
    this.pieceBytes = pieceBytes;
    this.pieces = new Uint8Array(BATCH_MESSAGES * pieceBytes);
    this.#peers = peers;
    const arena: number = ptr(this.#arena);
    const headers: number = ptr(this.headers);
    const pieces: number = ptr(this.pieces);
    const rests: number = ptr(this.#rests);
    for (let i = 0; i < BATCH_MESSAGES; i++) {
      const message = i * MMSGHDR_BYTES;
      const iovec = FIRST_IOVEC + i * IOVECS_PER_MESSAGE * IOVEC_BYTES;
      this.#setPointer(message, arena + FIRST_NAME + i * NAME_STRIDE);
      this.#words[(message + NAME_LENGTH) / 4] = NAME_BYTES;
      this.#setPointer(message + IOVECS, arena + iovec);
      this.#words[(message + IOVEC_COUNT) / 4] = IOVECS_PER_MESSAGE;
      this.#setIovec(iovec, headers + i * HEADER_BYTES, HEADER_BYTES);
      this.#setIovec(iovec + IOVEC_BYTES, pieces + i * pieceBytes, pieceBytes);
      this.#setIovec(iovec + 2 * IOVEC_BYTES, rests + i * RECEIVE_BYTES, RECEIVE_BYTES);
    }
  }

  /** Where the array of struct mmsghdr begins. */
  get address(): Pointer {
    return ptr(this.#arena);
  }

  /**
   * Hands on the first `count` messages, which were received, and makes their places ready for the next call.
   *
   * @returns bytes of the longest message
   */
  take(count: number, receive: ReceiveDatagrams | null, receiveRecord: ReceiveRecord | null): number {
    let longest = 0;
    for (let i = 0; i < count;) {
      longest = Math.max(longest, this.#length(i));
      const datagrams = this.#recordFrom(i, count);
      if (datagrams === 0) {
        receive?.(this.#linear, this.#linearize(i), this.#sender(i));
        i++;
      } else {
        const first = i + readParityGroups(this.headers, i * HEADER_BYTES);
        receiveRecord?.(
          this.headers,
          first * HEADER_BYTES,
          this.pieces,
          first * this.pieceBytes,
          this.#sender(i),
        );
        i += datagrams;
      }
    }
    for (let i = 0; i < count; i++) this.#words[(i * MMSGHDR_BYTES + NAME_LENGTH) / 4] = NAME_BYTES;
    return longest;
  }

  #length(message: number): number {
    return this.#words[(message * MMSGHDR_BYTES + MESSAGE_LENGTH) / 4]!;
  }

  #sender(message: number): HostPort {
    const bytes = this.#words[(message * MMSGHDR_BYTES + NAME_LENGTH) / 4]!;
    return this.#peers.named(this.#arena, FIRST_NAME + message * NAME_STRIDE, bytes);
  }

  /** How many messages from `first` on are one record, whole, whose pieces are then together; 0 for none. */
  #recordFrom(first: number, end: number): number {
    const { headers } = this;
    const at = first * HEADER_BYTES;
    const length = this.#length(first);
    if (length <= HEADER_BYTES || !isHeader(headers, at)) return 0;
    const count = readPieces(headers, at);
    const sealed = readLength(headers, at);
    if (count === 1)
      return readPiece(headers, at) === 0 && sealed <= this.pieceBytes && length === HEADER_BYTES + sealed
        ? 1
        : 0;
    const groups = readParityGroups(headers, at);
    const size = pieceSize(sealed, count);
    if (size > this.pieceBytes || first + groups + count > end) return 0;
    for (let group = 0; group < groups; group++)
      if (!this.#continues(first, first + group, parityPiece(groups, group), size)) return 0;
    for (let i = 0; i < count; i++) {
      const bytes = i < count - 1 ? size : sealed - size * (count - 1);
      if (!this.#continues(first, first + groups + i, i, bytes)) return 0;
    }
    this.#moveTogether(first + groups, count, size);
    return groups + count;
  }

  /** Whether a message is the piece of the record of message `first`, and from where that came. */
  #continues(first: number, message: number, piece: number, bytes: number): boolean {
    if (this.#length(message) !== HEADER_BYTES + bytes) return false;
    const { headers } = this;
    const a = first * HEADER_BYTES;
    const b = message * HEADER_BYTES;
    if (readPiece(headers, b) !== piece || headers[b] !== headers[a]) return false;
    for (let j = 2; j < HEADER_BYTES; j++) if (headers[b + j] !== headers[a + j]) return false;
    const from = (FIRST_NAME + first * NAME_STRIDE) / 4;
    const to = (FIRST_NAME + message * NAME_STRIDE) / 4;
    for (let j = 0; j < NAME_BYTES / 4; j++) if (this.#words[from + j] !== this.#words[to + j]) return false;
    return true;
  }

  #moveTogether(first: number, count: number, size: number): void {
    const { pieceBytes, pieces } = this;
    if (size === pieceBytes) return;
    const start = first * pieceBytes;
    for (let i = 1; i < count; i++)
      pieces.copyWithin(start + i * size, start + i * pieceBytes, start + i * pieceBytes + size);
  }

  /** Puts one message into wire order, in #linear. @returns its length */
  #linearize(message: number): number {
    const length = Math.min(this.#length(message), this.#linear.length);
    const out = this.#linear;
    const { pieceBytes } = this;
    out.set(this.headers.subarray(message * HEADER_BYTES, (message + 1) * HEADER_BYTES));
    const inPlace = Math.min(pieceBytes, Math.max(0, length - HEADER_BYTES));
    out.set(this.pieces.subarray(message * pieceBytes, message * pieceBytes + inPlace), HEADER_BYTES);
    const rest = length - HEADER_BYTES - inPlace;
    if (rest <= 0) return length;
    const from = message * RECEIVE_BYTES;
    out.set(this.#rests.subarray(from, from + rest), HEADER_BYTES + inPlace);
    return length;
  }

  #setIovec(at: number, address: number, length: number): void {
    this.#setPointer(at, address);
    this.#words[(at + 8) / 4] = length;
  }

  #setPointer(at: number, address: number): void {
    this.#words[at / 4] = address;
    this.#words[at / 4 + 1] = address / TWO_32;
  }
}
