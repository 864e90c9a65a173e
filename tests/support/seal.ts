/** Records sealed and opened by an engine, as promises. */

import type { Engine, RecordJob } from "../../lib/engine.ts";
import { SyncEngine } from "../../lib/engine_sync.ts";
import { WebEngine } from "../../lib/engine_web.ts";
import { yieldProcessor } from "../../lib/libc.ts";
import { concatBytes } from "../../lib/bytes.ts";
import { HEADER_BYTES } from "../../lib/limits.ts";

/** Both engines, for `test.each`. */
export const ENGINES: readonly (readonly [string, () => Engine])[] = [
  ["web", () => new WebEngine(yieldProcessor)],
  ["sync", () => new SyncEngine()],
];

/** A job, and its result as a promise; rejects when it failed. */
function jobOf(engine: Engine, key: CryptoKey, salt: Uint8Array) {
  const { promise, resolve, reject } = Promise.withResolvers<ArrayBuffer>();
  const job: RecordJob = {
    key: engine.prepareKey(key),
    salt,
    body: null,
    tag: null,
    failed: false,
    settled() {
      if (this.failed || this.body === null) reject(new Error("not authentic"));
      else resolve(concatBytes(this.body, this.tag ?? new Uint8Array(0)).buffer);
    },
  };
  return { job, promise };
}

/** Seals `plaintext` under the header at `header[offset..offset+16)`. @returns ciphertext and tag */
export function sealRecord(
  key: CryptoKey,
  salt: Uint8Array,
  header: Uint8Array<ArrayBuffer>,
  offset: number,
  plaintext: Uint8Array<ArrayBuffer>,
  engine: Engine = new WebEngine(yieldProcessor),
): Promise<ArrayBuffer> {
  const { job, promise } = jobOf(engine, key, salt);
  engine.seal(job, header.subarray(offset, offset + HEADER_BYTES), plaintext);
  return promise;
}

/** Opens `sealed` under the header at `bytes[offset..offset+16)`. @returns the plaintext */
export function openRecord(
  key: CryptoKey,
  salt: Uint8Array,
  bytes: Uint8Array<ArrayBuffer>,
  offset: number,
  sealed: Uint8Array<ArrayBuffer>,
  engine: Engine = new WebEngine(yieldProcessor),
): Promise<ArrayBuffer> {
  const { job, promise } = jobOf(engine, key, salt);
  engine.open(job, bytes, offset, sealed, 0, sealed.length);
  return promise;
}
