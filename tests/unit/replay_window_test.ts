/** The replay window against a set of all numbers ever marked. */

import { describe, expect, test } from "bun:test";
import { REPLAY_WINDOW_RECORDS } from "../../lib/limits.ts";
import { ReplayWindow } from "../../lib/replay_window.ts";
import { randomSource } from "../support/property.ts";

const WINDOW = REPLAY_WINDOW_RECORDS;

/** The obvious implementation: remembers everything. */
class Oracle {
  readonly seen = new Set<number>();
  highest = -1;

  accepts(sequence: number): boolean {
    return sequence > this.highest - WINDOW && !this.seen.has(sequence);
  }

  mark(sequence: number): boolean {
    if (!this.accepts(sequence)) return false;
    this.seen.add(sequence);
    this.highest = Math.max(this.highest, sequence);
    return true;
  }
}

/** Walks from `start`: mostly near the newest number, at times back to the edge, at times a jump ahead. */
function walk(start: number, steps: number, seed: number): void {
  const random = randomSource(seed);
  const window = new ReplayWindow();
  const oracle = new Oracle();
  let newest = start;
  for (let step = 0; step < steps; step++) {
    const kind = random(100);
    let sequence = newest + random(40) - 30;
    if (kind < 10) sequence = newest - random(2 * WINDOW);
    else if (kind < 20) sequence = newest - WINDOW + random(5) - 2;
    else if (kind < 24) sequence = newest + random(3 * WINDOW);
    if (sequence < 0 || sequence >= 2 ** 40) continue;
    const expected = oracle.accepts(sequence);
    if (window.accepts(sequence) !== expected) throw new Error(`accepts(${sequence}) is not ${expected}`);
    if (random(4) === 0) continue;
    if (window.mark(sequence) !== oracle.mark(sequence))
      throw new Error(`mark(${sequence}) is not ${expected}`);
    newest = Math.max(newest, sequence);
  }
  expect(window.marked).toBe(oracle.seen.size);
  expect(window.next).toBe(oracle.highest + 1);
}

describe("ReplayWindow", () => {
  test.each([0, 1, 31, 32, 8191, 8192, 16_383, 16_384, 2 ** 31 - 100, 2 ** 32 - 5000, 2 ** 40 - 60_000])(
    "agrees with a set on a random walk from %i",
    (start) => {
      for (let seed = 1; seed <= 4; seed++) walk(start, 3000, seed);
    },
  );

  test("a fresh window takes any first number once", () => {
    for (const first of [0, 1, WINDOW - 1, WINDOW, 2 ** 32, 2 ** 40 - 1]) {
      const window = new ReplayWindow();
      expect(window.mark(first)).toBe(true);
      expect(window.mark(first)).toBe(false);
      expect(window.accepts(first)).toBe(false);
    }
  });

  test("the edge: the last 8,192 numbers count, the one before them does not", () => {
    for (const newest of [WINDOW, 3 * WINDOW + 17, 2 ** 32 + 31, 2 ** 40 - 1]) {
      const window = new ReplayWindow();
      window.mark(newest);
      expect(window.accepts(newest - WINDOW + 1)).toBe(true);
      expect(window.accepts(newest - WINDOW)).toBe(false);
      expect(window.mark(newest - WINDOW + 1)).toBe(true);
      expect(window.mark(newest - WINDOW + 1)).toBe(false);
    }
  });

  test("a jump forgets no number that is still inside, and invents none", () => {
    for (const jump of [
      1,
      31,
      32,
      33,
      WINDOW - 1,
      WINDOW,
      WINDOW + 1,
      2 * WINDOW - 32,
      2 * WINDOW,
      5 * WINDOW,
    ]) {
      const window = new ReplayWindow();
      const oracle = new Oracle();
      const numbers = Array.from({ length: 200 }, (_, i) => 1000 + i * 3);
      for (const number of [...numbers, 1000 + 199 * 3 + jump]) {
        window.mark(number);
        oracle.mark(number);
      }
      for (let i = 0; i < oracle.highest + 10; i++) {
        if (window.accepts(i) !== oracle.accepts(i)) throw new Error(`after a jump of ${jump}: ${i}`);
      }
    }
  });

  test("looking changes nothing: a forged number cannot shut out a genuine one", () => {
    const window = new ReplayWindow();
    window.mark(5);
    for (const forged of [6, 2 ** 39, 4]) window.accepts(forged);
    expect([window.next, window.marked]).toEqual([6, 1]);
    expect(window.mark(4) && window.mark(6)).toBe(true);
  });

  test("counts what was marked and what must have been sent", () => {
    const window = new ReplayWindow();
    for (const sequence of [0, 1, 1, 9, 3]) window.mark(sequence);
    expect([window.marked, window.next]).toEqual([4, 10]);
  });
});

/**
 * Edges of the window, step by step on one window: the kind of table that WireGuard's implementations are tested with.
 * A number is taken when it is among the newest 8,192 and was not taken before.
 */
describe("the edges of the window, as a table", () => {
  const LIMIT = WINDOW;
  const FAR = LIMIT * 4;
  const LAST = 2 ** 40 - 1;
  const STEPS: readonly (readonly [sequence: number, taken: boolean, why: string])[] = [
    [0, true, "the first number"],
    [0, false, "the first number again"],
    [1, true, "the next"],
    [9, true, "a gap"],
    [8, true, "late, inside the gap"],
    [7, true, "later still"],
    [7, false, "a replay from inside the gap"],
    [LIMIT, true, "a jump by nearly the whole window"],
    [LIMIT - 1, true, "the one before the newest"],
    [LIMIT - 1, false, "the same again"],
    [LIMIT - 2, true, "the one before that"],
    [0, false, "just behind the window"],
    [1, false, "the window's last number, which was taken"],
    [2, true, "the last but one, which was not"],
    [2, false, "the same again"],
    [LIMIT + 16, true, "half a word further"],
    [3, false, "it fell behind by that"],
    [16, false, "the number just behind"],
    [17, true, "the window's last number"],
    [LIMIT + 16, false, "the newest again"],
    [FAR, true, "a jump over everything"],
    [FAR - (LIMIT - 1), true, "the window's last number after the jump"],
    [FAR - LIMIT, false, "just behind it"],
    [FAR - (LIMIT + 1), false, "one more behind"],
    [FAR - (LIMIT - 2), true, "the last but one"],
    [FAR + 1, true, "one step: the window's last number falls out"],
    [FAR - (LIMIT - 1), false, "it did"],
    [FAR - (LIMIT - 2), false, "the new last one was taken"],
    [10, false, "long gone"],
    [LAST, true, "the last number that there is"],
    [LAST, false, "again"],
    [LAST - 1, true, "the one before"],
    [LAST - (LIMIT - 1), true, "the window's last number at the very end"],
    [LAST - LIMIT, false, "just behind it"],
    [0, false, "the beginning"],
  ];

  test("each step", () => {
    const window = new ReplayWindow();
    for (const [sequence, taken, why] of STEPS) {
      expect({ sequence, why, taken: window.accepts(sequence) }).toEqual({ sequence, why, taken });
      expect({ sequence, why, taken: window.mark(sequence) }).toEqual({ sequence, why, taken });
    }
  });

  /** Marks all numbers from `from` to `to`, upwards or downwards: each must be new. */
  function fill(window: ReplayWindow, from: number, to: number): void {
    const step = from <= to ? 1 : -1;
    for (let sequence = from; sequence !== to + step; sequence += step) {
      if (!window.mark(sequence)) throw new Error(`${sequence} was not taken`);
    }
  }

  test.each([
    [
      "upwards from 1: 0 is still inside",
      1,
      LIMIT - 1,
      [
        [0, true],
        [0, false],
      ],
    ],
    [
      "upwards from 2: 1 is the last one inside, 0 is out",
      2,
      LIMIT,
      [
        [1, true],
        [0, false],
      ],
    ],
    ["downwards to 1 from the limit: 0 is out", LIMIT, 1, [[0, false]]],
    ["downwards to 1, one less: 0 is inside", LIMIT - 1, 1, [[0, true]]],
    [
      "downwards, then one step up: 0 falls out",
      LIMIT - 1,
      1,
      [
        [LIMIT, true],
        [0, false],
      ],
    ],
    [
      "downwards with 0, then one step up",
      LIMIT - 1,
      0,
      [
        [LIMIT, true],
        [0, false],
        [1, false],
      ],
    ],
  ] as const)("a full window filled %s", (_name, from, to, after) => {
    const window = new ReplayWindow();
    fill(window, from, to);
    for (const [sequence, taken] of after) {
      expect({ sequence, taken: window.mark(sequence) }).toEqual({ sequence, taken });
    }
  });
});
