/** Runs fast-check properties with a fixed seed, so that a failure on one machine is a failure on all. */

import fc from "fast-check";

/** Set OMAIL_SEED to try other random values; fast-check prints the seed of a failure. */
const SEED = Number(process.env["OMAIL_SEED"] ?? 20_261_123);
/** Set OMAIL_RUNS to multiply the number of tries, for a long run. */
const RUNS_FACTOR = Number(process.env["OMAIL_RUNS"] ?? 1);

/** Asserts a property over `runs` random values. */
export function check<Values>(property: fc.IProperty<Values>, runs = 200): void {
  fc.assert(property, { seed: SEED, numRuns: runs * RUNS_FACTOR });
}

/** Asserts an asynchronous property over `runs` random values. */
export function checkAsync<Values>(property: fc.IAsyncProperty<Values>, runs = 50): Promise<void> {
  return fc.assert(property, { seed: SEED, numRuns: runs * RUNS_FACTOR });
}

/** Random bytes of a length in `[min, max]`. */
export function bytes(min: number, max: number): fc.Arbitrary<Uint8Array<ArrayBuffer>> {
  return fc.uint8Array({ minLength: min, maxLength: max }).map((array) => Uint8Array.from(array));
}

/** A small deterministic generator (mulberry32) for long random walks, where shrinking is of no use. */
export function randomSource(seed = SEED): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
