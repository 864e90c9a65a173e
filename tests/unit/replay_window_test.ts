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
