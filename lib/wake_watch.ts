/**
 * Notices that the machine slept, or the process was frozen, by the clocks.
 *
 * Pure: it is shown both clocks several times a second. In a suspended Linux machine CLOCK_MONOTONIC stands still and the
 * wall clock goes on (clock_gettime(2)), in a frozen process (SIGSTOP, a paused virtual machine) both go on. Setting the
 * wall clock forward by hand looks like a sleep: what follows is harmless, everything is only asked whether it is there.
 */

/** How often to look, in milliseconds. */
export const WAKE_LOOK_MS = 250;
/** A gap that a busy machine does not make. */
const SLEPT_MS = 2_000;

/** The last look at the clocks. */
export class WakeWatch {
  #monotonicMs: number;
  #wallMs: number;

  constructor(monotonicMs: number, wallMs: number) {
    this.#monotonicMs = monotonicMs;
    this.#wallMs = wallMs;
  }

  /** @returns how long nothing ran, in milliseconds; null when it was no sleep */
  look(monotonicMs: number, wallMs: number): number | null {
    const goneMs = Math.max(monotonicMs - this.#monotonicMs, wallMs - this.#wallMs) - WAKE_LOOK_MS;
    this.#monotonicMs = monotonicMs;
    this.#wallMs = wallMs;
    return goneMs >= SLEPT_MS ? goneMs : null;
  }
}
