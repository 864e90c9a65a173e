/**
 * Keeps the event loop turning while a lone small record is with the crypto threads.
 *
 * Web Crypto answers from another thread. An event loop that sleeps meanwhile must be woken by the kernel, which costs
 * more than the sealing itself: four such waits are a fifth of a ping's round trip. A loop that keeps turning sees the
 * answer at once. Under load there is always something else to do, so only a record that is alone is waited for, and for
 * a bounded time.
 */

/** Longest wait: sealing a small record takes 20 to 50 us, more on a busy machine. */
const MAX_WAIT_MS = 0.2;
/** Records up to one ordinary packet; the others are waited for by sleeping. */
const SMALL_RECORD_BYTES = 2_048;

/** One per data plane; both directions report to it. */
export class HotWait {
  #inFlight = 0;
  #turning = false;
  #untilMs = 0;

  /** A record of `bytes` went to the crypto threads. */
  started(bytes: number): void {
    if (++this.#inFlight > 1 || bytes > SMALL_RECORD_BYTES || this.#turning) return;
    this.#turning = true;
    this.#untilMs = performance.now() + MAX_WAIT_MS;
    setImmediate(this.#turn);
  }

  /** A record came back. */
  finished(): void {
    this.#inFlight--;
  }

  readonly #turn = (): void => {
    if (this.#inFlight === 1 && performance.now() < this.#untilMs) setImmediate(this.#turn);
    else this.#turning = false;
  };
}
