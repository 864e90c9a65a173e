/** When a client tries again after a lost or failed connection: growing waits with jitter, for ever. */

import {
  RECONNECT_FACTOR,
  RECONNECT_FIRST_MS,
  RECONNECT_MAX_MS,
  RECONNECT_QUICK_MAX_MS,
  RECONNECT_QUICK_MS,
} from "./limits.ts";

/** Part of a wait that is left to chance, so that the clients of a restarted server do not come all at once. */
const JITTER = 0.2;

/** The waits of one outage. */
export class Backoff {
  #nextMs = RECONNECT_FIRST_MS;
  #sinceMs: number | null = null;

  /**
   * Gives the wait before the next try. A young outage is probably a restart of the server: waits stay under
   * {@link RECONNECT_QUICK_MAX_MS}; later ones grow to {@link RECONNECT_MAX_MS}.
   *
   * @param nowMs monotonic milliseconds
   * @param random from 0 (included) to 1 (not included)
   * @returns milliseconds
   */
  next(nowMs: number, random: number): number {
    this.#sinceMs ??= nowMs;
    const ceilingMs = nowMs - this.#sinceMs < RECONNECT_QUICK_MS ? RECONNECT_QUICK_MAX_MS : RECONNECT_MAX_MS;
    const waitMs = Math.min(this.#nextMs, ceilingMs);
    this.#nextMs = Math.min(waitMs * RECONNECT_FACTOR, RECONNECT_MAX_MS);
    return waitMs * (1 - JITTER * random);
  }

  /** Call when a connection stands: the next outage starts with short waits. */
  reset(): void {
    this.#nextMs = RECONNECT_FIRST_MS;
    this.#sinceMs = null;
  }
}
