/**
 * The parity of a record: further pieces, each the exclusive or of a group of pieces, from which a receiver restores lost ones.
 *
 * The simplest erasure code there is (RFC 5109 protects RTP so). With k groups, group g has the pieces g, g + k, g + 2k and
 * so on; each group may lose one. Neighbours are in different groups, because datagrams are lost in runs. Parity protects
 * against loss only; what was restored is believed as little as what arrived: the record's tag is checked after it. A short
 * last piece counts as filled up with zeros.
 */

import { pieceSize } from "./protocol.ts";

/**
 * Writes the parities of a sealed record to the beginning of `out`, one behind the other.
 *
 * @param body ciphertext, with the tag behind it unless `tag` is given
 * @returns bytes written: for each group as many as every piece but the last has
 */
export function writeParity(
  out: Uint8Array,
  body: Uint8Array,
  tag: Uint8Array | null,
  pieces: number,
  groups: number,
): number {
  const size = pieceSize(body.length + (tag?.length ?? 0), pieces);
  out.fill(0, 0, groups * size);
  const view = viewOf(out);
  const source = viewOf(body);
  for (let group = 0; group < groups; group++)
    fold(view, group * size, size, source, group * size, groups * size, body.length);
  if (tag === null) return groups * size;
  for (let i = 0; i < tag.length; i++) {
    const at = body.length + i;
    const group = Math.floor(at / size) % groups;
    out[group * size + (at % size)]! ^= tag[i]!;
  }
  return groups * size;
}

/**
 * Restores piece `missing` of the sealed record `bytes[start..start+length)` in its place.
 *
 * @param parity of its group; used up
 */
export function restorePiece(
  bytes: Uint8Array,
  start: number,
  length: number,
  pieces: number,
  groups: number,
  missing: number,
  parity: Uint8Array,
): void {
  const size = pieceSize(length, pieces);
  const step = groups * size;
  const at = missing * size;
  const out = viewOf(parity);
  const source = viewOf(bytes);
  fold(out, 0, size, source, start + (missing % groups) * size, step, start + at);
  fold(out, 0, size, source, start + at + step, step, start + length);
  bytes.set(parity.subarray(0, Math.min(size, length - at)), start + at);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * Adds, without carry, the pieces of `pieceBytes` that begin at `first`, `first + step` and so on before `end` in `source` to
 * those at `outAt` in `out`.
 *
 * Four pieces a round: a quarter of the stores. A DataView, because pieces begin at any address; it reads four bytes as
 * fast as an Int32Array, but only at a place that the compiler knows for an integer (measured: thirty times slower).
 */
function fold(
  out: DataView,
  outAt: number,
  pieceBytes: number,
  source: DataView,
  first: number,
  step: number,
  end: number,
): void {
  const size = pieceBytes | 0;
  const to = outAt | 0;
  const stride = step | 0;
  const words = size & ~3;
  let at = first | 0;
  for (; at + 3 * stride + size <= end; at += 4 * stride) {
    for (let k = 0; k < words; k += 4) {
      const a = source.getInt32(at + k, true) ^ source.getInt32(at + stride + k, true);
      const b = source.getInt32(at + 2 * stride + k, true) ^ source.getInt32(at + 3 * stride + k, true);
      out.setInt32(to + k, out.getInt32(to + k, true) ^ a ^ b, true);
    }
    for (let k = words; k < size; k++) {
      for (let piece = 0; piece < 4; piece++) foldByte(out, to + k, source, at + piece * stride + k);
    }
  }
  for (; at < end; at += stride) foldOne(out, to, source, at, Math.min(size, end - at) | 0);
}

function foldOne(out: DataView, to: number, source: DataView, at: number, bytes: number): void {
  const words = bytes & ~3;
  for (let k = 0; k < words; k += 4)
    out.setInt32(to + k, out.getInt32(to + k, true) ^ source.getInt32(at + k, true), true);
  for (let k = words; k < bytes; k++) foldByte(out, to + k, source, at + k);
}

function foldByte(out: DataView, to: number, source: DataView, at: number): void {
  out.setUint8(to, out.getUint8(to) ^ source.getUint8(at));
}
