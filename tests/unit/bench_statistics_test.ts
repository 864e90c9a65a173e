import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { driftPercent, jainIndex, median, percentile, reactionTime } from "../../scripts/bench/statistics.ts";

describe("median()", () => {
  test.each([
    [[], null],
    [[7], 7],
    [[10, 9, 1], 9],
    [[4, 1, 3, 2], 2.5],
  ])("of %p is %p", (values, middle) => {
    expect(median(values)).toBe(middle);
  });

  test("leaves its argument in its order", () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe("percentile()", () => {
  test.each([
    [[], 99, null],
    [[5], 1, 5],
    [[4, 3, 2, 1], 50, 2],
    [[4, 3, 2, 1], 51, 3],
    [Array.from({ length: 200 }, (_, i) => i + 1), 99, 198],
    [[1, 2], 100, 2],
  ])("of %p at %p is %p", (values, percent, expected) => {
    expect(percentile(values, percent)).toBe(expected);
  });
});

describe("jainIndex()", () => {
  test.each([
    [[], null],
    [[0, 0], null],
    [[3, 3, 3], 1],
    [[1, 0, 0, 0], 0.25],
  ])("of %p is %p", (shares, index) => {
    expect(jainIndex(shares)).toBe(index);
  });

  test("lies between 1/n and 1", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 1e6 }), { minLength: 1, maxLength: 20 }), (shares) => {
        const index = jainIndex(shares)!;
        expect(index).toBeLessThanOrEqual(1 + 1e-9);
        expect(index).toBeGreaterThanOrEqual(1 / shares.length - 1e-9);
      }),
    );
  });
});

describe("driftPercent()", () => {
  test("compares the ends behind the warm-up", () => {
    const series = [1, 1, ...Array.from({ length: 9 }, () => 100), 110];
    expect(driftPercent(series, 0.2)).toBeCloseTo(10);
  });

  test("is null of too little", () => {
    expect(driftPercent([5], 0)).toBeNull();
    expect(driftPercent([0, 0, 0], 0)).toBeNull();
  });
});

describe("reactionTime()", () => {
  const samples = [1, 2, 3, 4, 5].map((seconds) => ({ seconds, value: seconds * 10 }));

  test("is the time to the first sample that holds", () => {
    expect(reactionTime(samples, 1.5, 9, (value) => value >= 40)).toBe(2.5);
  });

  test("is null when none does in time", () => {
    expect(reactionTime(samples, 1, 4, (value) => value >= 40)).toBeNull();
  });
});
