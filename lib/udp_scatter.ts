/**
 * Where one received buffer goes: each datagram's header apart, its piece of the record behind the piece before it.
 *
 * The kernel joins the datagrams of a record (UDP_GRO), header and piece in turn. A receiver that gives the kernel places
 * for headers and pieces in the same turn finds the sealed record in one piece and need not move it together. The places
 * must be laid out before the bytes come: so the piece size of the last large record is taken for the next one's, which
 * holds for a bulk flow. What came in another shape is put back into wire order ({@link ScatterLayout.linearize}).
 */

import { HEADER_BYTES, MAX_PIECES } from "./limits.ts";
import {
  datagramSize,
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

/** The places, and what is in them after a receive. */
export class ScatterLayout {
  /** Header i is at i * HEADER_BYTES. */
  readonly headers = new Uint8Array(MAX_DATAGRAMS * HEADER_BYTES);
  /** Piece i is at i * pieceBytes; room for what comes behind the last header, too. */
  readonly pieces = new Uint8Array(2 * RECEIVE_BYTES);
  readonly #linear = new Uint8Array(RECEIVE_BYTES);
  #pieceBytes = FIRST_PIECE_BYTES;

  /** Bytes between two headers, as the places are laid out. */
  get pieceBytes(): number {
    return this.#pieceBytes;
  }

  /** The bytes of the last {@link linearize}. */
  get linear(): Uint8Array<ArrayBuffer> {
    return this.#linear;
  }

  /**
   * Whether the `length` received bytes are exactly one record, whole, with or without its parity.
   *
   * @returns how manieth header is that of its piece 0, whose sealed bytes begin at as manieth place; -1 when they are not
   */
  recordAt(length: number): number {
    const headers = this.headers;
    if (length <= HEADER_BYTES) return -1;
    const count = readPieces(headers, 0);
    const sealed = readLength(headers, 0);
    if (count === 0 || count > MAX_PIECES) return -1;
    if (count === 1) return this.#isAlone(length, sealed) ? 0 : -1;
    const size = pieceSize(sealed, count);
    if (size !== this.#pieceBytes) return -1;
    const groups = readParityGroups(headers, 0);
    if (length !== sealed + count * HEADER_BYTES + groups * (HEADER_BYTES + size)) return -1;
    for (let group = 0; group < groups; group++)
      if (!this.#continues(group, parityPiece(groups, group))) return -1;
    for (let i = 0; i < count; i++) if (!this.#continues(groups + i, i)) return -1;
    return groups;
  }

  #isAlone(length: number, sealed: number): boolean {
    return readPiece(this.headers, 0) === 0 && length === sealed + HEADER_BYTES && sealed <= this.#pieceBytes;
  }

  /** Whether header `i` is that of piece `piece` of the record of the first header. */
  #continues(i: number, piece: number): boolean {
    const headers = this.headers;
    const at = i * HEADER_BYTES;
    if (readPiece(headers, at) !== piece || headers[at] !== headers[0]) return false;
    for (let j = 2; j < HEADER_BYTES; j++) if (headers[at + j] !== headers[j]) return false;
    return true;
  }

  /** Puts `length` received bytes into wire order, in {@link linear}. */
  linearize(length: number): void {
    const out = this.#linear;
    const { headers, pieces } = this;
    const size = this.#pieceBytes;
    let at = 0;
    for (let i = 0; at < length; i++) {
      if (i === MAX_DATAGRAMS) {
        out.set(pieces.subarray(i * size, i * size + length - at), at);
        return;
      }
      const header = Math.min(HEADER_BYTES, length - at);
      for (let j = 0; j < header; j++) out[at + j] = headers[i * HEADER_BYTES + j]!;
      at += header;
      const piece = Math.min(size, length - at);
      out.set(pieces.subarray(i * size, i * size + piece), at);
      at += piece;
    }
  }

  /**
   * Looks at what {@link linearize} gave for a better piece size.
   *
   * @returns whether the places must be laid out anew
   */
  adapt(length: number): boolean {
    if (datagramSize(this.#linear, 0, length) === 0) return false;
    const count = readPieces(this.#linear, 0);
    const sealed = readLength(this.#linear, 0);
    const size = pieceSize(sealed, count);
    // a lone large datagram only needs room; a record of many pieces needs its own size
    if (count === 1 ? size <= this.#pieceBytes : size === this.#pieceBytes) return false;
    this.#pieceBytes = size;
    return true;
  }
}
