import { expect, test } from "bun:test";
import { TokenBucket } from "../../lib/token_bucket.ts";

test("TokenBucket lets a burst through, then its rate", () => {
  const bucket = new TokenBucket(10, 3, 0);
  expect([0, 0, 0, 0].map((nowMs) => bucket.take(nowMs))).toEqual([true, true, true, false]);
  expect([50, 100, 150, 200].map((nowMs) => bucket.take(nowMs))).toEqual([false, true, false, true]);
});

test("TokenBucket saves no more than its burst, and nothing when time goes back", () => {
  const bucket = new TokenBucket(10, 2, 0);
  expect([60_000, 60_000, 60_000].map((nowMs) => bucket.take(nowMs))).toEqual([true, true, false]);
  expect(bucket.take(0)).toBe(false);
});
