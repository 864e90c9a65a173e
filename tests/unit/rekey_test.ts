import { expect, test } from "bun:test";
import { MAX_EPOCH } from "../../lib/limits.ts";
import { Rekey, REKEY_ANSWER_MS } from "../../lib/rekey.ts";

test("Rekey is due after its interval, counted from the last answer", () => {
  const rekey = new Rekey(1_000, 0, 100);
  expect(rekey.dueAt()).toBe(1_100);
  expect(rekey.begin(1_100)).toBe(1);
  expect(rekey.dueAt()).toBeNull();
  expect(rekey.finish(1, 1_150)).toBe(true);
  expect(rekey.dueAt()).toBe(2_150);
});

test("request() makes it due at once, but not more often than every 50 ms", () => {
  const rekey = new Rekey(1_000, 0, 0);
  rekey.request();
  rekey.request();
  expect(rekey.dueAt()).toBe(50);
  rekey.begin(50);
  rekey.request();
  expect(rekey.dueAt()).toBeNull();
  rekey.finish(1, 60);
  expect(rekey.dueAt()).toBe(110);
});

test("finish() takes the answer to the exchange in flight, once", () => {
  const rekey = new Rekey(1_000, 7, 0);
  expect(rekey.finish(7, 0)).toBe(false);
  rekey.begin(0);
  expect(rekey.finish(9, 0)).toBe(false);
  expect(rekey.finish(8, 0)).toBe(true);
  expect(rekey.finish(8, 0)).toBe(false);
});

test("isStuck() holds when an answer is overdue", () => {
  const rekey = new Rekey(1_000, 0, 0);
  expect(rekey.isStuck(1e9)).toBe(false);
  rekey.begin(5);
  expect(rekey.isStuck(5 + REKEY_ANSWER_MS)).toBe(false);
  expect(rekey.isStuck(6 + REKEY_ANSWER_MS)).toBe(true);
});

test("isExhausted holds at the last epoch: numbers never wrap", () => {
  const rekey = new Rekey(1_000, MAX_EPOCH - 1, 0);
  expect(rekey.isExhausted).toBe(false);
  expect(rekey.begin(0)).toBe(MAX_EPOCH);
  expect(rekey.isExhausted).toBe(true);
});
