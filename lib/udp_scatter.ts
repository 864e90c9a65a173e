/**
 * Where one received buffer goes: each datagram's header apart, its piece of the record behind the piece before it.
 *
 * The kernel joins the datagrams of a record (UDP_GRO), header and piece in turn. A receiver that gives the kernel places
 * for headers and pieces in the same turn finds the sealed record in one piece and need not move it together. The places
 * must be laid out before the bytes come: so the piece size of an earlier record is taken for the next one's. A program's
 * writes make a few large records and a small one in turn, mostly; the size that holds for most of the bytes is kept, and
 * the others' pieces are moved together ({@link ScatterLayout.join}). What is no whole record is put back into wire order
 * ({@link ScatterLayout.linearize}).
 */

import { copyBytes } from "./bytes.ts";
import { HEADER_BYTES, MAX_PIECES } from "./limits.ts";
import {
  isHeader,
  MAX_PARITY_GROUPS,
  parityPiece,
  pieceSize,
  readLength,
  readParityGroups,
  readPiece,
  readPieces,
} from "./protocol.ts";

/** The pieces of a record and its parities. */
export const MAX_DATAGRAMS = MAX_PIECES + MAX_PARITY_GROUPS;
/** Bytes that one receive may give: UDP_GRO joins up to this. */
export const RECEIVE_BYTES = 65_536;
/** Piece size before the first large record: a full datagram of the default MTU. */
export const FIRST_PIECE_BYTES = 1_436;

/** A header is so many 32-bit words; the index of the piece is in the first of them. */
const HEADER_WORDS = HEADER_BYTES / 4;

/** The places, and what is in them after a receive. */
export class ScatterLayout {
  /** Header i is at i * HEADER_BYTES. */
  readonly headers = new Uint8Array(MAX_DATAGRAMS * HEADER_BYTES);
  readonly #words = new Uint32Array(this.headers.buffer);
  /** Piece i is at i * pieceBytes; room for what comes behind the last header, too. */
  readonly pieces = new Uint8Array(2 * RECEIVE_BYTES);
  readonly #linear = new Uint8Array(RECEIVE_BYTES);
  readonly #header = new Uint8Array(HEADER_BYTES);
  readonly #headerWords = new Uint32Array(this.#header.buffer);
  #pieceBytes = FIRST_PIECE_BYTES;
  /** Bytes of the record whose piece size the places have. */
  #laidOutBytes = 0;
  /** Bytes that came in another shape since the last record that fitted. */
  #misfitBytes = 0;

  /** Bytes between two headers, as the places are laid out. */
  get pieceBytes(): number {
    return this.#pieceBytes;
  }

  /** The bytes of the last {@link linearize} or {@link join}. */
  get linear(): Uint8Array<ArrayBuffer> {
    return this.#linear;
  }

  /**
   * Whether the `length` received bytes are exactly one record, whole, with or without its parity, in its places.
   *
   * @returns how manieth header is that of its piece 0, whose sealed bytes begin at as manieth place; -1 when they are not
   */
  recordAt(length: number): number {
    const groups = this.#parityGroups(length);
    if (groups < 0) return -1;
    const count = readPieces(this.headers, 0);
    const sealed = readLength(this.headers, 0);
    if (count === 1) return sealed <= this.#pieceBytes ? 0 : -1;
    if (pieceSize(sealed, count) !== this.#pieceBytes) return -1;
    for (let i = 0; i < groups + count; i++) {
      const piece = i < groups ? parityPiece(groups, i) : i - groups;
      if (!this.#isOfRecord(this.headers, this.#words, i, piece)) return -1;
    }
    this.#misfitBytes = 0;
    return groups;
  }

  /**
   * The same for a record that is not in its places: moves its pieces together, in {@link linear}, behind the header of
   * piece 0.
   */
  join(length: number): boolean {
    const groups = this.#parityGroups(length);
    if (groups < 0) return false;
    const count = readPieces(this.headers, 0);
    const sealed = readLength(this.headers, 0);
    const size = pieceSize(sealed, count);
    let to = HEADER_BYTES;
    for (let i = 0; i < groups + count; i++) {
      const from = i * (HEADER_BYTES + size);
      this.#copy(from, this.#header, 0, HEADER_BYTES);
      const piece = i < groups ? parityPiece(groups, i) : i - groups;
      if (!this.#isOfRecord(this.#header, this.#headerWords, 0, piece)) return false;
      if (i < groups) continue;
      if (i === groups) copyBytes(this.#header, 0, this.#linear, 0, HEADER_BYTES);
      const bytes = Math.min(size, HEADER_BYTES + sealed - to);
      this.#copy(from + HEADER_BYTES, this.#linear, to, bytes);
      to += bytes;
    }
    return true;
  }

  /**
   * Parities ahead of the record whose first header is here, if the `length` received bytes are what it would have with all
   * its pieces; -1 if they are not.
   */
  #parityGroups(length: number): number {
    const { headers } = this;
    if (length <= HEADER_BYTES || !isHeader(headers, 0)) return -1;
    const count = readPieces(headers, 0);
    const sealed = readLength(headers, 0);
    const groups = readParityGroups(headers, 0);
    const parityBytes = groups * (HEADER_BYTES + pieceSize(sealed, count));
    return length === sealed + count * HEADER_BYTES + parityBytes ? groups : -1;
  }

  /** Whether header `i` of `headers`, which are also `words`, is that of piece `piece` of the record of the first header. */
  #isOfRecord(headers: Uint8Array, words: Uint32Array, i: number, piece: number): boolean {
    const first = this.#words;
    const at = i * HEADER_WORDS;
    if (readPiece(headers, i * HEADER_BYTES) !== piece || headers[i * HEADER_BYTES] !== this.headers[0])
      return false;
    // the length, behind type and piece
    if (headers[i * HEADER_BYTES + 2] !== this.headers[2]) return false;
    if (headers[i * HEADER_BYTES + 3] !== this.headers[3]) return false;
    return words[at + 1] === first[1] && words[at + 2] === first[2] && words[at + 3] === first[3];
  }

  /** Puts `length` received bytes into wire order, in {@link linear}. */
  linearize(length: number): void {
    this.#copy(0, this.#linear, 0, length);
  }

  /** Copies `length` bytes that are received bytes `from` and following in wire order. */
  #copy(from: number, out: Uint8Array, to: number, length: number): void {
    const size = this.#pieceBytes;
    let i = Math.min(MAX_DATAGRAMS, Math.floor(from / (HEADER_BYTES + size)));
    // place in datagram i
    let at = from - i * (HEADER_BYTES + size);
    for (let done = 0; done < length; i++, at = 0) {
      // behind the last header all is one piece
      if (i === MAX_DATAGRAMS) {
        copyBytes(this.pieces, i * size + at, out, to + done, length - done);
        return;
      }
      for (; at < HEADER_BYTES && done < length; at++, done++)
        out[to + done] = this.headers[i * HEADER_BYTES + at]!;
      const inPiece = at - HEADER_BYTES;
      const bytes = Math.min(size - inPiece, length - done);
      copyBytes(this.pieces, i * size + inPiece, out, to + done, bytes);
      done += bytes;
    }
  }

  /**
   * Looks at received bytes that were no record in its places for a better piece size.
   *
   * @returns whether the places must be laid out anew
   */
  adapt(length: number): boolean {
    if (length <= HEADER_BYTES || !isHeader(this.headers, 0)) return false;
    const count = readPieces(this.headers, 0);
    const size = pieceSize(readLength(this.headers, 0), count);
    // a lone large datagram only needs room; a record of many pieces needs its own size
    if (count === 1 ? size <= this.#pieceBytes : size === this.#pieceBytes) return false;
    this.#misfitBytes += length;
    if (this.#misfitBytes < this.#laidOutBytes) return false;
    this.#misfitBytes = 0;
    this.#laidOutBytes = length;
    this.#pieceBytes = size;
    return true;
  }
}
