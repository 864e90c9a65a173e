/**
 * The keep-alive message: proof of life, a time stamp to measure the round trip, and what was received.
 *
 * Plaintext of a record of type 2, big-endian, 40 bytes:
 * ```
 *  0       4         8        12           16               24                32         40
 * | flags | sent at | echo  | echo delay | records seen    | records sent by | restored  |
 * |       |  (us)   | (us)  |   (us)     | (authenticated) | peer (expected) | (of seen) |
 * ```
 * The last three tell the peer what was lost; a side that receives sends them more often than it must (`loss_report.ts`), and
 * the other side sizes its records by them (`record_limit.ts`).
 *
 * `echo` is the `sent at` of the newest keep-alive that the sender got from us, `echo delay` how long ago it came; so the
 * round trip is now - echo - echo delay on our own clock, whatever the idle time between. Times wrap after 71 minutes.
 */

import { readUint32, writeUint32 } from "./bytes.ts";

export const KEEPALIVE_BYTES = 40;
/** Flag: please answer at once. */
export const KEEPALIVE_REPLY = 1;
/** Flag: `echo` and `echo delay` are valid. */
export const KEEPALIVE_ECHO = 2;
/** Flag: since the last keep-alive the sender of this one dropped datagrams or records because it could not keep up. */
export const KEEPALIVE_OVERLOADED = 4;
/**
 * Flag: this message only asks whether the path that it came by works, or answers such a question. It is answered by that
 * path and does not make the receiver send there.
 */
export const KEEPALIVE_PROBE = 8;
/** Flag: the network of the sender of this message has changed; what its peer knows of the path to it is void. */
export const KEEPALIVE_NEW_PATH = 16;
const KNOWN_FLAGS =
  KEEPALIVE_REPLY | KEEPALIVE_ECHO | KEEPALIVE_OVERLOADED | KEEPALIVE_PROBE | KEEPALIVE_NEW_PATH;

/** One keep-alive message; times in microseconds modulo 2^32. */
export interface Keepalive {
  readonly replyWanted: boolean;
  readonly sentAtUs: number;
  /** Null before the first keep-alive from the peer. */
  readonly echo: { readonly sentAtUs: number; readonly delayUs: number } | null;
  /** Records of this session that the sender of this message opened since it began. */
  readonly recordsSeen: number;
  /** Records that the other side must have sent by the sequence numbers seen. */
  readonly recordsExpected: number;
  /** Of the records seen, those of which a datagram was lost and restored. */
  readonly recordsRestored: number;
  /** What was lost lately says nothing of the path: the sender of this message was too slow. Absent means no. */
  readonly overloaded?: boolean;
  /** Asks for, or answers with, a proof of the path that it comes by, and nothing else. Absent means no. */
  readonly probe?: boolean;
  /** The network of the sender of this message has changed: search for the path MTU to it anew. Absent means no. */
  readonly newPath?: boolean;
}

/** @returns the 40 bytes of the message */
export function encodeKeepalive(message: Keepalive): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(KEEPALIVE_BYTES);
  const flags =
    (message.replyWanted ? KEEPALIVE_REPLY : 0) |
    (message.echo === null ? 0 : KEEPALIVE_ECHO) |
    (message.overloaded === true ? KEEPALIVE_OVERLOADED : 0) |
    (message.probe === true ? KEEPALIVE_PROBE : 0) |
    (message.newPath === true ? KEEPALIVE_NEW_PATH : 0);
  writeUint32(bytes, 0, flags);
  writeUint32(bytes, 4, message.sentAtUs);
  writeUint32(bytes, 8, message.echo?.sentAtUs ?? 0);
  writeUint32(bytes, 12, message.echo?.delayUs ?? 0);
  writeUint64(bytes, 16, message.recordsSeen);
  writeUint64(bytes, 24, message.recordsExpected);
  writeUint64(bytes, 32, message.recordsRestored);
  return bytes;
}

/** @returns the message, or null when `bytes` is none (wrong length, unknown flag, impossible counts) */
export function decodeKeepalive(bytes: Uint8Array): Keepalive | null {
  if (bytes.length !== KEEPALIVE_BYTES) return null;
  const flags = readUint32(bytes, 0);
  if ((flags & ~KNOWN_FLAGS) !== 0) return null;
  const recordsSeen = readUint64(bytes, 16);
  const recordsExpected = readUint64(bytes, 24);
  const recordsRestored = readUint64(bytes, 32);
  if (
    recordsRestored > recordsSeen ||
    recordsSeen > recordsExpected ||
    recordsExpected > Number.MAX_SAFE_INTEGER
  )
    return null;
  const echoed = (flags & KEEPALIVE_ECHO) !== 0;
  return {
    replyWanted: (flags & KEEPALIVE_REPLY) !== 0,
    sentAtUs: readUint32(bytes, 4),
    echo: echoed ? { sentAtUs: readUint32(bytes, 8), delayUs: readUint32(bytes, 12) } : null,
    recordsSeen,
    recordsExpected,
    recordsRestored,
    overloaded: (flags & KEEPALIVE_OVERLOADED) !== 0,
    probe: (flags & KEEPALIVE_PROBE) !== 0,
    newPath: (flags & KEEPALIVE_NEW_PATH) !== 0,
  };
}

function writeUint64(bytes: Uint8Array, offset: number, value: number): void {
  writeUint32(bytes, offset, Math.floor(value / 2 ** 32));
  writeUint32(bytes, offset + 4, value);
}

function readUint64(bytes: Uint8Array, offset: number): number {
  return readUint32(bytes, offset) * 2 ** 32 + readUint32(bytes, offset + 4);
}
