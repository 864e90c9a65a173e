/**
 * Keeps the event loop turning while a lone small record is with the crypto threads.
 *
 * Web Crypto answers from another thread. An event loop that sleeps meanwhile must be woken by the kernel, which costs
 * more than the sealing itself: four such waits are a fifth of a ping's round trip. A loop that keeps turning sees the
 * answer at once. It gives its processor away between two turns: the thread it waits for may have been put on the same one
 * (in a virtual machine a sleeping processor counts as taken, so the kernel does that even where another one is idle),
 * and would otherwise wait for the end of our wait. Under load the processor has better things to do: so only a record
 * that is alone is waited for, not while bulk traffic flows (its acknowledgements are small records, too), and for a
 * bounded time. Waits that end without a result are given up.
 */

import { BusyWait } from "./busy_wait.ts";

/** Records up to one ordinary packet; the others are waited for by sleeping. */
const SMALL_RECORD_BYTES = 2_048;

/**
 * Larger records of more than so many bytes within so long are bulk, and so is what follows for as long again: some 420
 * Mbit/s. Slower flows, as behind a bottleneck, leave the processor time to wait, and a ping between their bursts feels it.
 */
const BULK_BYTES = 262_144;
const BULK_MS = 5;

/** What a wait needs of the machine. */
export interface Surroundings {
  nowMs(): number;
  /** Calls `turn` in the next turn of the event loop. */
  nextTurn(turn: () => void): void;
  /** Lets others use this processor. */
  yieldProcessor(): void;
}

/** One per data plane; both directions report to it. */
export class HotWait {
  #inFlight = 0;
  #turning = false;
  readonly #wait = new BusyWait();
  readonly #machine: Surroundings;
  #bulkUntilMs = 0;
  #windowUntilMs = 0;
  #windowBytes = 0;

  constructor(machine: Surroundings) {
    this.#machine = machine;
  }

  /** A record of `bytes` went to the crypto threads. */
  started(bytes: number): void {
    const alone = ++this.#inFlight === 1;
    const nowMs = this.#machine.nowMs();
    if (bytes > SMALL_RECORD_BYTES) {
      this.#countBulk(bytes, nowMs);
      return;
    }
    if (!alone || this.#turning || nowMs < this.#bulkUntilMs) return;
    this.#wait.begin(nowMs);
    if (!this.#wait.goesOn(nowMs)) return;
    this.#turning = true;
    this.#machine.nextTurn(this.#turn);
  }

  /** A record came back. */
  finished(): void {
    this.#inFlight--;
    this.#wait.end();
  }

  #countBulk(bytes: number, nowMs: number): void {
    if (nowMs >= this.#windowUntilMs) {
      this.#windowUntilMs = nowMs + BULK_MS;
      this.#windowBytes = 0;
    }
    this.#windowBytes += bytes;
    if (this.#windowBytes > BULK_BYTES) this.#bulkUntilMs = nowMs + BULK_MS;
  }

  readonly #turn = (): void => {
    if (this.#inFlight !== 1 || !this.#wait.goesOn(this.#machine.nowMs())) {
      this.#turning = false;
      return;
    }
    this.#machine.yieldProcessor();
    this.#machine.nextTurn(this.#turn);
  };
}
