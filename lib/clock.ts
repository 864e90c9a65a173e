/** Time as a value that is handed in, so that state machines can be tested without waiting. */

/** Gives the present time in two ways. */
export interface Clock {
  /** Milliseconds of a clock that never goes back; for intervals and time-outs. */
  monotonicMs(): number;
  /** Milliseconds since the Unix epoch; for what people and files see. */
  wallMs(): number;
}

/** The machine's clocks. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
};
