/**
 * When a client makes a new epoch: after a time, when the data plane's key wears out, or when the server asks.
 *
 * Pure: told what happened and when, it says when the next exchange is due. One exchange at a time; epochs only grow.
 */

import { MAX_EPOCH } from "./limits.ts";

/** Shortest time between two exchanges: bounds what a server's requests can cost. */
const MIN_INTERVAL_MS = 50;
/** A rekey without an answer after this time means a dead connection. */
export const REKEY_ANSWER_MS = 15_000;

/** The epochs of one session. */
export class Rekey {
  readonly #intervalMs: number;
  /** Highest epoch ever proposed, answered or not: a server may have installed it. */
  #epoch: number;
  #lastMs: number;
  #inFlightSinceMs: number | null = null;
  #wanted = false;

  /**
   * @param intervalMs life of an epoch
   * @param epoch the epoch in use
   */
  constructor(intervalMs: number, epoch: number, nowMs: number) {
    this.#intervalMs = Math.max(intervalMs, MIN_INTERVAL_MS);
    this.#epoch = epoch;
    this.#lastMs = nowMs;
  }

  /** Highest epoch proposed so far. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The epoch numbers are used up: only a new log-in helps. */
  get isExhausted(): boolean {
    return this.#epoch >= MAX_EPOCH;
  }

  /** Asks for a new epoch soon; repeated calls change nothing. */
  request(): void {
    this.#wanted = true;
  }

  /** Monotonic milliseconds when {@link begin} should be called; null while an exchange is in flight. */
  dueAt(): number | null {
    if (this.#inFlightSinceMs !== null) return null;
    return this.#lastMs + (this.#wanted ? MIN_INTERVAL_MS : this.#intervalMs);
  }

  /** Starts an exchange; the caller has looked at {@link isExhausted}. @returns the epoch to propose */
  begin(nowMs: number): number {
    this.#inFlightSinceMs = nowMs;
    this.#wanted = false;
    this.#epoch += 1;
    return this.#epoch;
  }

  /** The exchange for `epoch` was answered. @returns false when no such exchange is in flight */
  finish(epoch: number, nowMs: number): boolean {
    if (this.#inFlightSinceMs === null || epoch !== this.#epoch) return false;
    this.#inFlightSinceMs = null;
    this.#lastMs = nowMs;
    return true;
  }

  /** Whether the answer is overdue. */
  isStuck(nowMs: number): boolean {
    return this.#inFlightSinceMs !== null && nowMs - this.#inFlightSinceMs > REKEY_ANSWER_MS;
  }
}
