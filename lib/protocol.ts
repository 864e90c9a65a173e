/**
 * The datagram header: record type, piece, length, session ID and record counter, to and from bytes.
 *
 * ```
 *  0      1       2        4            8        10       11                    16
 * | type | piece | length | session ID | epoch  | pieces | sequence (40 bits)  | piece of the sealed record ...
 * ```
 * All numbers are big-endian. The first 8 bytes are the original header (type, reserved, length, session ID); its
 * reserved byte is the index of the piece. `length` is that of the whole sealed record, tag included. The last 8 bytes
 * are the record counter, unique under one key: epoch, number of pieces, sequence number.
 *
 * A record of n pieces is cut evenly: every piece has ceil(length / n) bytes, the last one the rest. So one header tells
 * the size of its datagram, and a buffer in which the kernel joined many datagrams (UDP_GRO) can be walked, whatever
 * datagram size the sender uses at that moment.
 *
 * On a path that loses datagrams parities may go ahead of piece 0 (`parity.ts`), one for each group of pieces: the index of
 * that of group g of k is 128 + 8 * (k - 1) + g, its length that of every piece but the last.
 *
 * The functions work on offsets and return numbers: nothing is allocated per datagram.
 */

import { readUint16, readUint32, writeUint16, writeUint32 } from "./bytes.ts";
import { HEADER_BYTES, MAX_PIECES, MAX_RECORD_BYTES, MIN_PIECE_BYTES, TAG_BYTES } from "./limits.ts";

/** What the plaintext of a record holds. */
export const RecordType = {
  /** IP packets back to back, every checksum complete. */
  data: 1,
  /** One keep-alive message, see `keepalive.ts`. */
  keepalive: 2,
  /** IP packets back to back, each behind its virtio-net header, see `vnet_header.ts`. */
  offload: 3,
  /** A path probe or its acknowledgement, see `probe_message.ts`. */
  probe: 4,
} as const;
export type RecordType = (typeof RecordType)[keyof typeof RecordType];

const SEQUENCE_LOW = 2 ** 32;

/** Writes the header of piece 0 at `offset`; the other pieces' headers differ in {@link writePiece} only. */
export function writeHeader(
  bytes: Uint8Array,
  offset: number,
  type: RecordType,
  length: number,
  sessionId: number,
  epoch: number,
  pieces: number,
  sequence: number,
): void {
  bytes[offset] = type;
  bytes[offset + 1] = 0;
  writeUint16(bytes, offset + 2, length);
  writeUint32(bytes, offset + 4, sessionId);
  writeUint16(bytes, offset + 8, epoch);
  bytes[offset + 10] = pieces;
  bytes[offset + 11] = sequence / SEQUENCE_LOW;
  writeUint32(bytes, offset + 12, sequence);
}

/** Whether `bytes` is one whole record: the header of its piece 0 and all sealed bytes, as it travels in a stream. */
export function isWholeRecord(bytes: Uint8Array): boolean {
  if (datagramSize(bytes, 0, bytes.length) === 0) return false;
  return readPiece(bytes, 0) === 0 && bytes.length === HEADER_BYTES + readLength(bytes, 0);
}

/** Sets the index of the piece in a header. */
export function writePiece(bytes: Uint8Array, offset: number, piece: number): void {
  bytes[offset + 1] = piece;
}

export function readType(bytes: Uint8Array, offset: number): number {
  return bytes[offset]!;
}

export function readPiece(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 1]!;
}

/** Groups that the pieces of a record may be divided into, each with its parity. */
export const MAX_PARITY_GROUPS = 8;
const PARITY = 128;

/** The index of the parity of one group. */
export function parityPiece(groups: number, group: number): number {
  return PARITY + MAX_PARITY_GROUPS * (groups - 1) + group;
}

/** Number of groups that the parity at `offset` is one of, or 0 when it is no parity but a piece. */
export function readParityGroups(bytes: Uint8Array, offset: number): number {
  const piece = readPiece(bytes, offset);
  return piece < PARITY ? 0 : ((piece - PARITY) >>> 3) + 1;
}

/** The group of the parity at `offset`. */
export function readParityGroup(bytes: Uint8Array, offset: number): number {
  return readPiece(bytes, offset) & (MAX_PARITY_GROUPS - 1);
}

/** Length of the whole sealed record in bytes. */
export function readLength(bytes: Uint8Array, offset: number): number {
  return readUint16(bytes, offset + 2);
}

export function readSessionId(bytes: Uint8Array, offset: number): number {
  return readUint32(bytes, offset + 4);
}

export function readEpoch(bytes: Uint8Array, offset: number): number {
  return readUint16(bytes, offset + 8);
}

/** Number of pieces that the record was cut into. */
export function readPieces(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 10]!;
}

export function readSequence(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 11]! * SEQUENCE_LOW + readUint32(bytes, offset + 12);
}

/** Bytes of every piece but the last when `length` bytes are cut into `pieces`. */
export function pieceSize(length: number, pieces: number): number {
  return Math.ceil(length / pieces);
}

/** Pieces needed so that no datagram is longer than `maxDatagramBytes`. */
export function piecesFor(length: number, maxDatagramBytes: number): number {
  return Math.ceil(length / (maxDatagramBytes - HEADER_BYTES));
}

/**
 * Writes the datagrams of a sealed record back to back: the parity if there is one, and each piece, behind their headers.
 *
 * @param header of piece 0
 * @param body ciphertext, with the tag behind it unless `tag` is given
 * @param parity of every group, one behind the other, each as long as piece 0
 * @returns bytes written
 */
export function writeDatagrams(
  out: Uint8Array,
  header: Uint8Array,
  body: Uint8Array,
  tag: Uint8Array | null,
  parity: Uint8Array | null,
  pieces: number,
): number {
  const length = body.length + (tag?.length ?? 0);
  const piece = pieceSize(length, pieces);
  let at = 0;
  const groups = parity === null ? 0 : parity.length / piece;
  for (let group = 0; group < groups; group++) {
    at = writePieceHeader(out, at, header, parityPiece(groups, group));
    out.set(parity!.subarray(group * piece, (group + 1) * piece), at);
    at += piece;
  }
  for (let i = 0; i < pieces; i++) {
    at = writePieceHeader(out, at, header, i);
    const from = i * piece;
    const to = Math.min(from + piece, length);
    const inBody = Math.min(to, body.length);
    if (from < inBody) out.set(body.subarray(from, inBody), at);
    for (let j = Math.max(from, body.length); j < to; j++) out[at + j - from] = tag![j - body.length]!;
    at += to - from;
  }
  return at;
}

/** @returns the place behind the header */
function writePieceHeader(out: Uint8Array, at: number, header: Uint8Array, piece: number): number {
  for (let j = 0; j < HEADER_BYTES; j++) out[at + j] = header[j]!;
  writePiece(out, at, piece);
  return at + HEADER_BYTES;
}

/**
 * Checks the header at `offset` of a received buffer that ends at `end`.
 *
 * @returns the size of the datagram, header included, or 0 when the header is malformed or the buffer too short
 */
export function datagramSize(bytes: Uint8Array, offset: number, end: number): number {
  if (end - offset <= HEADER_BYTES || !isHeader(bytes, offset)) return 0;
  const length = readLength(bytes, offset);
  const pieces = readPieces(bytes, offset);
  const size = pieceSize(length, pieces);
  const payload = readPiece(bytes, offset) === pieces - 1 ? length - size * (pieces - 1) : size;
  return offset + HEADER_BYTES + payload <= end ? HEADER_BYTES + payload : 0;
}

/** Whether the 16 bytes at `offset` are a header that a sender may write. */
export function isHeader(bytes: Uint8Array, offset: number): boolean {
  const type = readType(bytes, offset);
  if (type < RecordType.data || type > RecordType.probe) return false;
  const length = readLength(bytes, offset);
  if (length <= TAG_BYTES || length > MAX_RECORD_BYTES) return false;
  const pieces = readPieces(bytes, offset);
  if (pieces === 0 || pieces > MAX_PIECES || !isPiece(bytes, offset, pieces)) return false;
  return pieces === 1 || pieceSize(length, pieces) >= MIN_PIECE_BYTES;
}

/** Whether a record of `pieces` may have the piece or parity of the header at `offset`. */
function isPiece(bytes: Uint8Array, offset: number, pieces: number): boolean {
  const groups = readParityGroups(bytes, offset);
  if (groups === 0) return readPiece(bytes, offset) < pieces;
  return (
    pieces > 1 && groups <= pieces && groups <= MAX_PARITY_GROUPS && readParityGroup(bytes, offset) < groups
  );
}
