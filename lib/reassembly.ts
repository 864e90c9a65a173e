/**
 * Puts the pieces of a session's records together, within bounds that hostile pieces cannot exceed.
 *
 * At most {@link REASSEMBLY_RECORDS} incomplete records and {@link REASSEMBLY_BYTES} of them are kept; the oldest makes
 * room. What stays incomplete for {@link REASSEMBLY_TIMEOUT_MS} is dropped. Pieces are not authenticated one by one: the
 * tag of the whole record is checked after the last one, so the caller lets in only pieces from addresses it trusts.
 */

import { HEADER_BYTES, REASSEMBLY_BYTES, REASSEMBLY_RECORDS, REASSEMBLY_TIMEOUT_MS } from "./limits.ts";
import {
  pieceSize,
  readEpoch,
  readLength,
  readPiece,
  readPieces,
  readSequence,
  readType,
  writePiece,
} from "./protocol.ts";

interface Partial {
  readonly type: number;
  readonly length: number;
  readonly pieces: number;
  readonly startedAtMs: number;
  /** Header of piece 0 and the sealed record behind it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bit n of word n/32: piece n is here. */
  readonly have: Int32Array;
  missing: number;
}

/** The incomplete records of one session. */
export class Reassembly {
  /** In order of arrival, keyed by epoch and sequence. */
  readonly #partials = new Map<number, Partial>();
  #bytes = 0;
  /** Incomplete records given up to make room, since the last {@link takeOverflowed}. */
  #overflowed = 0;

  /** Incomplete records now held. */
  get records(): number {
    return this.#partials.size;
  }

  /** Bytes now held. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * Adds the piece whose checked datagram is `bytes[offset..offset+size)`.
   *
   * @returns header and sealed record when this piece completed it, else null
   */
  add(bytes: Uint8Array, offset: number, size: number, nowMs: number): Uint8Array<ArrayBuffer> | null {
    const key = keyOf(bytes, offset);
    const partial = this.#partials.get(key) ?? this.#begin(key, bytes, offset, nowMs);
    if (!fits(partial, bytes, offset)) return null;
    const piece = readPiece(bytes, offset);
    const bit = 1 << (piece & 31);
    if ((partial.have[piece >>> 5]! & bit) !== 0) return null;
    partial.have[piece >>> 5]! |= bit;
    partial.missing--;
    const at = HEADER_BYTES + piece * pieceSize(partial.length, partial.pieces);
    partial.bytes.set(bytes.subarray(offset + HEADER_BYTES, offset + size), at);
    if (partial.missing > 0) return null;
    this.#forget(key, partial);
    return partial.bytes;
  }

  /** Drops what is older than the time-out. @returns how many records were given up */
  expire(nowMs: number): number {
    let expired = 0;
    for (const [key, partial] of this.#partials) {
      if (nowMs - partial.startedAtMs < REASSEMBLY_TIMEOUT_MS) break;
      this.#forget(key, partial);
      expired++;
    }
    return expired;
  }

  /** How many incomplete records made room for newer ones since the last call. */
  takeOverflowed(): number {
    const overflowed = this.#overflowed;
    this.#overflowed = 0;
    return overflowed;
  }

  #begin(key: number, bytes: Uint8Array, offset: number, nowMs: number): Partial {
    const length = readLength(bytes, offset);
    const pieces = readPieces(bytes, offset);
    const whole = new Uint8Array(HEADER_BYTES + length);
    whole.set(bytes.subarray(offset, offset + HEADER_BYTES));
    writePiece(whole, 0, 0);
    const partial: Partial = {
      type: readType(bytes, offset),
      length,
      pieces,
      startedAtMs: nowMs,
      bytes: whole,
      have: new Int32Array(2),
      missing: pieces,
    };
    this.#bytes += whole.length;
    this.#partials.set(key, partial);
    for (const [oldest, given] of this.#partials) {
      if (this.#partials.size <= REASSEMBLY_RECORDS && this.#bytes <= REASSEMBLY_BYTES) break;
      this.#forget(oldest, given);
      this.#overflowed++;
    }
    return partial;
  }

  #forget(key: number, partial: Partial): void {
    this.#partials.delete(key);
    this.#bytes -= partial.bytes.length;
  }
}

/** Epoch and sequence in one number: 16 bits above 40 would not be exact, and only the low 12 bits tell live epochs apart. */
function keyOf(bytes: Uint8Array, offset: number): number {
  return (readEpoch(bytes, offset) & 0xfff) * 2 ** 40 + readSequence(bytes, offset);
}

/** Pieces of one record agree in everything but their index. */
function fits(partial: Partial, bytes: Uint8Array, offset: number): boolean {
  return (
    partial.type === readType(bytes, offset) &&
    partial.length === readLength(bytes, offset) &&
    partial.pieces === readPieces(bytes, offset)
  );
}
