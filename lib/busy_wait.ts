/**
 * Decides whether the packet path waits for an answer awake instead of asleep, and learns whether that pays.
 *
 * Waking a thread that sleeps in the kernel takes longer than sealing a packet. After a lone record was sent, its answer
 * often comes within a round trip of the near network: so the loop looks for it for a short while before it sleeps. Where
 * answers do not come in that time (a far server, one-way traffic) the waits end, but for a try now and then. Pure.
 */

/** Longest wait: the round trip inside one machine or rack. */
export const BUSY_WAIT_MS = 0.15;
/** Weight of the newest wait in the share of waits that paid. */
const WEIGHT = 1 / 8;
/** Below this share waiting stops. */
const WORTH_IT = 0.25;
/** Without waits, one in so many is tried. */
const TRY_EVERY = 64;

/** One per loop. */
export class BusyWait {
  #share = 1;
  #skipped = 0;
  #untilMs = 0;

  /** A record was sent and nothing else is there to do. */
  begin(nowMs: number): void {
    if (this.#share < WORTH_IT && ++this.#skipped < TRY_EVERY) {
      this.#untilMs = 0;
      return;
    }
    this.#skipped = 0;
    this.#untilMs = nowMs + BUSY_WAIT_MS;
  }

  /** Whether to look once more instead of sleeping. */
  goesOn(nowMs: number): boolean {
    if (this.#untilMs === 0) return false;
    if (nowMs < this.#untilMs) return true;
    this.#untilMs = 0;
    this.#share -= this.#share * WEIGHT;
    return false;
  }

  /** Something came. */
  end(): void {
    if (this.#untilMs === 0) return;
    this.#untilMs = 0;
    this.#share += (1 - this.#share) * WEIGHT;
  }
}
