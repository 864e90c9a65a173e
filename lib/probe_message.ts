/**
 * The path probe and its acknowledgement: does a datagram of this size arrive?
 *
 * Plaintext of a record of type 4, big-endian:
 * ```
 *  0      1          2                4         8
 * | kind | reserved | datagram bytes | number  | zeros, as many as the size wants (kind 1 only)
 * |  u8  |   0      |      u16       |  u32    |
 * ```
 * Kind 1, probe: one datagram (one piece) of exactly `datagram bytes` UDP payload. Kind 2, acknowledgement: 8 bytes that
 * repeat size and number of the probe that arrived. So it is small: a path that is narrow one way still acknowledges.
 */

import { readUint16, readUint32, writeUint16, writeUint32 } from "./bytes.ts";
import { RECORD_OVERHEAD_BYTES } from "./limits.ts";

const PROBE_HEADER_BYTES = 8;
/** Smallest UDP payload that a probe can have. */
export const MIN_PROBE_BYTES = RECORD_OVERHEAD_BYTES + PROBE_HEADER_BYTES;

const KINDS = ["probe", "ack"] as const;

/** A probe, or the acknowledgement of one. */
export interface ProbeMessage {
  readonly kind: "probe" | "ack";
  /** The number that the prober gave it, modulo 2^32. */
  readonly number: number;
  /** UDP payload of the probe's datagram. */
  readonly datagramBytes: number;
}

/**
 * Encodes a message.
 *
 * @param message of a probe, `datagramBytes` is at least {@link MIN_PROBE_BYTES}
 * @returns the plaintext; that of a probe makes a datagram of `datagramBytes` when it is sealed in one piece
 */
export function encodeProbe(message: ProbeMessage): Uint8Array<ArrayBuffer> {
  const isProbe = message.kind === "probe";
  const bytes = new Uint8Array(isProbe ? message.datagramBytes - RECORD_OVERHEAD_BYTES : PROBE_HEADER_BYTES);
  bytes[0] = KINDS.indexOf(message.kind) + 1;
  writeUint16(bytes, 2, message.datagramBytes);
  writeUint32(bytes, 4, message.number);
  return bytes;
}

/**
 * @returns the message, or null when `bytes` is none: too short, unknown kind, reserved byte set, or a length that
 *   belies its `datagram bytes`; the padding is not looked at
 */
export function decodeProbe(bytes: Uint8Array): ProbeMessage | null {
  if (bytes.length < PROBE_HEADER_BYTES || bytes[1] !== 0) return null;
  const kind = KINDS[bytes[0]! - 1];
  if (kind === undefined) return null;
  const datagramBytes = readUint16(bytes, 2);
  if (kind === "ack" && (bytes.length !== PROBE_HEADER_BYTES || datagramBytes < MIN_PROBE_BYTES)) return null;
  if (kind === "probe" && bytes.length !== datagramBytes - RECORD_OVERHEAD_BYTES) return null;
  return { kind, number: readUint32(bytes, 4), datagramBytes };
}
