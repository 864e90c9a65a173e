/**
 * Puts the pieces of a session's records together, within bounds that hostile pieces cannot exceed.
 *
 * Of a record with parity one piece of each group may be missing. They are restored as soon as it can be told that they
 * will not come: after the last piece, when a later record begins, or when nothing more waits to be received. Not earlier,
 * because that costs as much as copying the record, and not later, because the packets of later records would overtake.
 *
 * At most {@link REASSEMBLY_RECORDS} incomplete records and {@link REASSEMBLY_BYTES} of them are kept; the oldest makes
 * room; parity comes on top, as much again at most. What stays incomplete for {@link REASSEMBLY_TIMEOUT_MS} is dropped.
 * Pieces are not authenticated one by one: the tag of the whole record is checked after the last one, so the caller lets in
 * only pieces from addresses it trusts.
 */

import type { HostPort } from "./address.ts";
import { HEADER_BYTES, REASSEMBLY_BYTES, REASSEMBLY_RECORDS, REASSEMBLY_TIMEOUT_MS } from "./limits.ts";
import { restorePiece } from "./parity.ts";
import {
  pieceSize,
  readEpoch,
  readLength,
  readParityGroup,
  readParityGroups,
  readPiece,
  readPieces,
  readSequence,
  readType,
  writePiece,
} from "./protocol.ts";

/** Restored records whose late pieces are known for what they are. */
const REMEMBERED_RESTORED = 16;

interface Partial {
  readonly key: number;
  readonly type: number;
  readonly length: number;
  readonly pieces: number;
  readonly startedAtMs: number;
  /** Where the first piece came from. */
  readonly from: HostPort;
  /** Header of piece 0 and the sealed record behind it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bit n of word n/32: piece n is here. */
  readonly have: Int32Array;
  missing: number;
  /** By group; empty before the first parity, which tells the number of groups. */
  parities: (Uint8Array | null)[];
}

/** A record that became whole. */
export interface WholeRecord {
  /** Header of piece 0 and the sealed record behind it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly from: HostPort;
  /** A piece was lost and restored. */
  readonly restored: boolean;
}

/** The incomplete records of one session. */
export class Reassembly {
  /** In order of arrival, keyed by epoch and sequence. */
  readonly #partials = new Map<number, Partial>();
  #bytes = 0;
  /** Incomplete records given up to make room, since the last {@link takeOverflowed}. */
  #overflowed = 0;
  /** Records of which nothing is missing that parity cannot restore: there is none, or one, or few. */
  readonly #restorable: Partial[] = [];
  readonly #restoredKeys = new Float64Array(REMEMBERED_RESTORED).fill(-1);
  #restored = 0;

  /** Incomplete records now held. */
  get records(): number {
    return this.#partials.size;
  }

  /** Bytes now held, parity apart. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Whether a record can be restored. */
  get isRestorable(): boolean {
    return this.#restorable.length > 0;
  }

  /**
   * Adds the piece whose checked datagram is `bytes[offset..offset+size)`.
   *
   * @returns the record when this piece completed it, else null
   */
  add(bytes: Uint8Array, offset: number, size: number, from: HostPort, nowMs: number): WholeRecord | null {
    const key = keyOf(bytes, offset);
    let partial = this.#partials.get(key);
    if (partial === undefined) {
      if (this.#restoredKeys.includes(key)) return null;
      partial = this.#begin(key, bytes, offset, from, nowMs);
    }
    if (!fits(partial, bytes, offset)) return null;
    if (!takePiece(partial, bytes, offset, size)) return null;
    if (partial.missing === 0) {
      this.#forget(partial);
      return { bytes: partial.bytes, from: partial.from, restored: false };
    }
    if (!canRestore(partial)) return null;
    // pieces come in order, mostly: what is missing after the last one is lost
    if (readPiece(bytes, offset) === partial.pieces - 1) return this.#restore(partial);
    if (!this.#restorable.includes(partial)) this.#restorable.push(partial);
    return null;
  }

  /**
   * Restores the oldest record that can be, but for the one that the datagram at `bytes[offset]` is of.
   *
   * @param bytes null when nothing more waits to be received
   */
  restore(bytes: Uint8Array | null, offset: number): WholeRecord | null {
    const except = bytes === null ? -1 : keyOf(bytes, offset);
    for (const partial of this.#restorable) {
      if (partial.key !== except) return this.#restore(partial);
    }
    return null;
  }

  /**
   * Forgets the pieces of an authentic record that came whole by another way: its parity may have been in an earlier buffer.
   * Not before its tag was checked, or anybody could take the pieces of a record away by a forged whole one.
   */
  discard(epoch: number, sequence: number): void {
    const partial = this.#partials.get(keyFor(epoch, sequence));
    if (partial !== undefined) this.#forget(partial);
  }

  /** Drops what is older than the time-out. @returns how many records were given up */
  expire(nowMs: number): number {
    let expired = 0;
    for (const partial of this.#partials.values()) {
      if (nowMs - partial.startedAtMs < REASSEMBLY_TIMEOUT_MS) break;
      this.#forget(partial);
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

  #begin(key: number, bytes: Uint8Array, offset: number, from: HostPort, nowMs: number): Partial {
    const length = readLength(bytes, offset);
    const pieces = readPieces(bytes, offset);
    const whole = new Uint8Array(HEADER_BYTES + length);
    whole.set(bytes.subarray(offset, offset + HEADER_BYTES));
    writePiece(whole, 0, 0);
    const partial: Partial = {
      key,
      type: readType(bytes, offset),
      length,
      pieces,
      startedAtMs: nowMs,
      from,
      bytes: whole,
      have: new Int32Array(2),
      missing: pieces,
      parities: [],
    };
    this.#bytes += whole.length;
    this.#partials.set(key, partial);
    for (const oldest of this.#partials.values()) {
      if (this.#partials.size <= REASSEMBLY_RECORDS && this.#bytes <= REASSEMBLY_BYTES) break;
      this.#forget(oldest);
      this.#overflowed++;
    }
    return partial;
  }

  #restore(partial: Partial): WholeRecord {
    this.#forget(partial);
    const { bytes, length, pieces, parities } = partial;
    for (let piece = 0; piece < pieces; piece++) {
      const parity = parities[piece % parities.length] ?? null;
      if (parity === null || hasPiece(partial, piece)) continue;
      restorePiece(bytes, HEADER_BYTES, length, pieces, parities.length, piece, parity);
    }
    this.#restoredKeys[this.#restored++ % REMEMBERED_RESTORED] = partial.key;
    return { bytes, from: partial.from, restored: true };
  }

  #forget(partial: Partial): void {
    this.#partials.delete(partial.key);
    this.#bytes -= partial.bytes.length;
    const restorable = this.#restorable.indexOf(partial);
    if (restorable >= 0) this.#restorable.splice(restorable, 1);
  }
}

/** Puts a piece into its place, or a parity to its like. @returns whether it is new */
function takePiece(partial: Partial, bytes: Uint8Array, offset: number, size: number): boolean {
  const groups = readParityGroups(bytes, offset);
  if (groups > 0) return takeParity(partial, bytes, offset, size, groups);
  const piece = readPiece(bytes, offset);
  if (hasPiece(partial, piece)) return false;
  partial.have[piece >>> 5]! |= 1 << (piece & 31);
  partial.missing--;
  const at = HEADER_BYTES + piece * pieceSize(partial.length, partial.pieces);
  partial.bytes.set(bytes.subarray(offset + HEADER_BYTES, offset + size), at);
  return true;
}

function takeParity(
  partial: Partial,
  bytes: Uint8Array,
  offset: number,
  size: number,
  groups: number,
): boolean {
  if (partial.parities.length === 0) partial.parities = Array.from({ length: groups }, () => null);
  const { parities } = partial;
  const group = readParityGroup(bytes, offset);
  if (parities.length !== groups || parities[group] !== null) return false;
  parities[group] = bytes.slice(offset + HEADER_BYTES, offset + size);
  return true;
}

function hasPiece({ have }: Partial, piece: number): boolean {
  return (have[piece >>> 5]! & (1 << (piece & 31))) !== 0;
}

/** Whether each group misses one piece at most, and has its parity where it does. */
function canRestore(partial: Partial): boolean {
  const { parities, pieces, missing } = partial;
  if (missing > parities.length) return false;
  for (let group = 0; group < parities.length; group++) {
    let here = parities[group] === null ? 0 : 1;
    for (let piece = group; piece < pieces; piece += parities.length) if (!hasPiece(partial, piece)) here--;
    if (here < 0) return false;
  }
  return true;
}

function keyOf(bytes: Uint8Array, offset: number): number {
  return keyFor(readEpoch(bytes, offset), readSequence(bytes, offset));
}

/** Epoch and sequence in one number: 16 bits above 40 would not be exact, and only the low 12 bits tell live epochs apart. */
function keyFor(epoch: number, sequence: number): number {
  return (epoch & 0xfff) * 2 ** 40 + sequence;
}

/** Pieces of one record agree in everything but their index. */
function fits(partial: Partial, bytes: Uint8Array, offset: number): boolean {
  return (
    partial.type === readType(bytes, offset) &&
    partial.length === readLength(bytes, offset) &&
    partial.pieces === readPieces(bytes, offset)
  );
}
