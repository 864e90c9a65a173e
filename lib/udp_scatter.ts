/**
 * Where one received buffer goes: each datagram's header apart, its piece of the record behind the piece before it.
 *
 * The kernel joins the datagrams of a record (UDP_GRO), header and piece in turn. A receiver that gives the kernel places
 * for headers and pieces in the same turn finds the sealed record in one piece and need not move it together. The places
 * must be laid out before the bytes come: so the piece size of the last large record is taken for the next one's, which
 * holds for a bulk flow. What came in another shape is put back into wire order ({@link ScatterLayout.linearize}).
 */

import { HEADER_BYTES, MAX_PIECES } from "./limits.ts";
import { datagramSize, pieceSize, readLength, readPiece, readPieces } from "./protocol.ts";

/** Bytes that one receive may give: UDP_GRO joins up to this. */
export const RECEIVE_BYTES = 65_536;
/** Piece size before the first large record: a full datagram of the default MTU. */
const FIRST_PIECE_BYTES = 1_436;

/** The places, and what is in them after a receive. */
export class ScatterLayout {
  /** Header i is at i * HEADER_BYTES. */
  readonly headers = new Uint8Array(MAX_PIECES * HEADER_BYTES);
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
   * Whether the `length` received bytes are exactly one record, whole; its header is the first of {@link headers} and its
   * sealed bytes begin at {@link pieces}.
   */
  isRecord(length: number): boolean {
    const headers = this.headers;
    if (length <= HEADER_BYTES || readPiece(headers, 0) !== 0) return false;
    const count = readPieces(headers, 0);
    const sealed = readLength(headers, 0);
    if (count === 0 || count > MAX_PIECES || length !== sealed + count * HEADER_BYTES) return false;
    if (count === 1) return sealed <= this.#pieceBytes;
    if (pieceSize(sealed, count) !== this.#pieceBytes) return false;
    for (let i = 1; i < count; i++) if (!this.#continues(i)) return false;
    return true;
  }

  /** Whether header `i` is that of piece `i` of the record whose header is the first. */
  #continues(i: number): boolean {
    const headers = this.headers;
    const at = i * HEADER_BYTES;
    if (readPiece(headers, at) !== i || headers[at] !== headers[0]) return false;
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
      if (i === MAX_PIECES) {
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
