/**
 * Whether a peer is there, as its authentic records tell: known within two keep-alive intervals.
 *
 * Pure. A peer that was not heard for one interval is asked for an answer several times during the second one, so that
 * a lost datagram is not taken for a lost peer; one that was not heard for two is silent.
 */

/** Asks during the second interval. */
const ASKS = 5;

/** What is known of one peer; times are monotonic milliseconds. */
export class Presence {
  readonly #keepaliveMs: number;
  #heardMs: number;
  #askedMs = -Infinity;
  #alive = true;

  /** A peer is there at first: it has just logged in. */
  constructor(keepaliveMs: number, nowMs: number) {
    this.#keepaliveMs = keepaliveMs;
    this.#heardMs = nowMs;
  }

  /** An authentic record came. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
  }

  /** Whether to send a keep-alive that wants an answer now; the caller then does. */
  takeAsk(nowMs: number): boolean {
    if (nowMs - this.#heardMs < this.#keepaliveMs) return false;
    if (nowMs - this.#askedMs < this.#keepaliveMs / ASKS) return false;
    this.#askedMs = nowMs;
    return true;
  }

  /** What has changed since the last call, if anything. */
  change(nowMs: number): { readonly alive: boolean; readonly silentMs: number } | null {
    const silentMs = nowMs - this.#heardMs;
    const alive = silentMs < 2 * this.#keepaliveMs;
    if (alive === this.#alive) return null;
    this.#alive = alive;
    return { alive, silentMs };
  }
}
