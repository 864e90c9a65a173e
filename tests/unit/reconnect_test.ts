import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  RECONNECT_FIRST_MS,
  RECONNECT_MAX_MS,
  RECONNECT_QUICK_MAX_MS,
  RECONNECT_QUICK_MS,
} from "../../lib/limits.ts";
import { Backoff } from "../../lib/reconnect.ts";
import { check } from "../support/property.ts";

/** Runs an outage of `lengthMs` in which every try fails at once. */
function waitsOf(lengthMs: number, random: number): number[] {
  const backoff = new Backoff();
  const waits: number[] = [];
  for (let nowMs = 0; nowMs < lengthMs; nowMs += waits.at(-1)!) waits.push(backoff.next(nowMs, random));
  return waits;
}

test("Backoff grows from the first wait and stays below 5 s while an outage is young", () => {
  const waits = waitsOf(RECONNECT_QUICK_MS, 0);
  expect(waits[0]).toBe(RECONNECT_FIRST_MS);
  expect(Math.max(...waits)).toBe(RECONNECT_QUICK_MAX_MS);
  expect(RECONNECT_QUICK_MAX_MS).toBeLessThan(5_000);
});

test("Backoff grows to its ceiling in a long outage", () => {
  expect(Math.max(...waitsOf(RECONNECT_QUICK_MS * 3, 0))).toBe(RECONNECT_MAX_MS);
});

test("Backoff is between four fifths and all of the planned wait, whatever the chance", () => {
  check(
    fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (random) => {
      const wait = new Backoff().next(0, random);
      expect(wait).toBeLessThanOrEqual(RECONNECT_FIRST_MS);
      expect(wait).toBeGreaterThan(RECONNECT_FIRST_MS * 0.79);
    }),
  );
});

test("reset() lets the next outage start with a short wait", () => {
  const backoff = new Backoff();
  for (let i = 0; i < 10; i++) backoff.next(i * 1_000_000, 0);
  backoff.reset();
  expect(backoff.next(99_000_000, 0)).toBe(RECONNECT_FIRST_MS);
});
