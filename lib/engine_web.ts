/**
 * The default engine: AES-256-GCM by Web Crypto, on the threads that Bun keeps for it (NIST SP 800-38D, RFC 5116).
 *
 * The price of a Web Crypto call is the call, not its bytes: so what is sealed is a record of many packets, not a packet.
 * Web Crypto copies its input before the call returns.
 */

import { type Engine, newNonce, type RecordJob, type RecordKey, writeNonce } from "./engine.ts";
import { HotWait } from "./hot_wait.ts";
import { HEADER_BYTES, TAG_BYTES } from "./limits.ts";

/** AesGcmParams of Web Crypto, with buffers of our own. */
interface AesGcmParameters {
  readonly name: "AES-GCM";
  readonly iv: Uint8Array<ArrayBuffer>;
  readonly additionalData: Uint8Array<ArrayBuffer>;
  readonly tagLength: number;
}

/** Seals and opens on other threads; `job.settled` is called from a later turn of the event loop. */
export class WebEngine implements Engine {
  readonly name = "web";
  readonly #parameters: AesGcmParameters = {
    name: "AES-GCM",
    iv: newNonce(),
    additionalData: new Uint8Array(HEADER_BYTES),
    tagLength: TAG_BYTES * 8,
  };

  readonly #hotWait: HotWait;
  #told: (() => void) | null = null;
  #inFlight = 0;

  /** @param yieldProcessor lets the crypto threads use this thread's processor: sched_yield(2) */
  constructor(yieldProcessor: () => void) {
    this.#hotWait = new HotWait({
      nowMs: () => performance.now(),
      nextTurn: (turn) => void setImmediate(turn),
      yieldProcessor,
    });
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  onProgress(told: () => void): void {
    this.#told = told;
  }

  prepareKey(key: CryptoKey): RecordKey {
    return key;
  }

  seal(job: RecordJob, header: Uint8Array, plaintext: Uint8Array<ArrayBuffer>): void {
    const parameters = this.#parametersFor(job.salt, header, 0);
    void this.#settle(
      job,
      crypto.subtle.encrypt(parameters, job.key as CryptoKey, plaintext),
      plaintext.length,
    );
  }

  open(
    job: RecordJob,
    header: Uint8Array<ArrayBuffer>,
    offset: number,
    sealed: Uint8Array<ArrayBuffer>,
    from: number,
    to: number,
  ): void {
    const parameters = this.#parametersFor(job.salt, header, offset);
    const decrypted = crypto.subtle.decrypt(parameters, job.key as CryptoKey, sealed.subarray(from, to));
    void this.#settle(job, decrypted, to - from);
  }

  async #settle(job: RecordJob, result: Promise<ArrayBuffer>, bytes: number): Promise<void> {
    this.#inFlight++;
    this.#hotWait.started(bytes);
    try {
      job.body = new Uint8Array(await result);
    } catch {
      // not authentic, when opening
      job.failed = true;
    }
    this.#inFlight--;
    this.#hotWait.finished();
    job.settled();
    this.#told?.();
  }

  #parametersFor(salt: Uint8Array, bytes: Uint8Array, offset: number): AesGcmParameters {
    const parameters = this.#parameters;
    writeNonce(parameters.iv, salt, bytes, offset);
    const data = parameters.additionalData;
    for (let i = 0; i < HEADER_BYTES; i++) data[i] = bytes[offset + i]!;
    return parameters;
  }
}
