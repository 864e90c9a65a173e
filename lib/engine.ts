/**
 * What seals and opens records: one interface, behind it Web Crypto (`engine_web.ts`) or node:crypto (`engine_sync.ts`).
 *
 * An engine may finish a job before the call returns or later, and later jobs may finish first; whoever owns the jobs
 * keeps their order. It has taken what it needs of `bytes` when the call returns, so the caller may overwrite them.
 */

import type { KeyObject } from "node:crypto";
import type { EngineName } from "./data_plane_message.ts";
import { HEADER_BYTES, NONCE_BYTES, NONCE_SALT_BYTES } from "./limits.ts";

/** A data key in the form its engine wants. */
export type RecordKey = CryptoKey | KeyObject;

/** One record to seal or open. AES-256-GCM, nonce = salt | record counter, associated data = the 16-byte header. */
export interface RecordJob {
  readonly key: RecordKey;
  /** 4 bytes. */
  readonly salt: Uint8Array;
  /** Sealing: the plaintext and its tag's room. Opening: null until it is open. */
  body: Uint8Array<ArrayBuffer> | null;
  /** The tag, when the engine gives it apart from the ciphertext (16 bytes). */
  tag: Uint8Array | null;
  failed: boolean;
  /** Called once when `body` (and `tag`), or `failed`, is there. */
  settled(): void;
}

/** Seals and opens records. */
export interface Engine {
  readonly name: EngineName;
  /** Jobs that are with the engine: not zero only where it works on other threads. */
  readonly inFlight: number;
  /** Registers who is told when a job that was in flight has settled. */
  onProgress(told: () => void): void;
  /** Turns a derived key into this engine's form. */
  prepareKey(key: CryptoKey): RecordKey;
  /**
   * Seals `plaintext` under the header at `header[0..16)`.
   *
   * Sets `job.body` to the ciphertext, with the tag behind it unless `job.tag` is set.
   */
  seal(job: RecordJob, header: Uint8Array, plaintext: Uint8Array<ArrayBuffer>): void;
  /**
   * Opens the sealed record `sealed[from..to)`, tag included, under the header at `header[offset..offset+16)`.
   *
   * Sets `job.body` to the plaintext, or `job.failed` when the tag is wrong.
   */
  open(
    job: RecordJob,
    header: Uint8Array<ArrayBuffer>,
    offset: number,
    sealed: Uint8Array<ArrayBuffer>,
    from: number,
    to: number,
  ): void;
}

/** Offset of the record counter in the header. */
const COUNTER_OFFSET = 8;

/** Writes the nonce of the record whose header is at `offset` (the construction of RFC 5288, section 3). */
export function writeNonce(nonce: Uint8Array, salt: Uint8Array, bytes: Uint8Array, offset: number): void {
  for (let i = 0; i < NONCE_SALT_BYTES; i++) nonce[i] = salt[i]!;
  for (let i = COUNTER_OFFSET; i < HEADER_BYTES; i++)
    nonce[i - COUNTER_OFFSET + NONCE_SALT_BYTES] = bytes[offset + i]!;
}

/** An empty nonce. */
export function newNonce(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(NONCE_BYTES);
}
