/** How far a measurement is, and how long the rest will take if it goes on like this. Pure. */

/** Counts steps of about the same length. */
export class Progress {
  readonly #steps: number;
  readonly #startedMs: number;
  #done = 0;

  constructor(steps: number, nowMs: number) {
    this.#steps = steps;
    this.#startedMs = nowMs;
  }

  /** One step is over. */
  advance(): void {
    this.#done++;
  }

  /** Such as `3/12, about 4 min left`. */
  text(nowMs: number): string {
    const place = `${this.#done + 1}/${this.#steps}`;
    if (this.#done === 0) return place;
    const leftMs = ((nowMs - this.#startedMs) / this.#done) * (this.#steps - this.#done);
    return `${place}, about ${durationText(leftMs)} left`;
  }
}

/** Seconds up to two minutes, then minutes. */
export function durationText(ms: number): string {
  const seconds = Math.round(ms / 1000);
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}
