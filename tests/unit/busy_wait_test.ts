import { expect, test } from "bun:test";
import { BUSY_WAIT_MS, BusyWait } from "../../lib/busy_wait.ts";

/** One record sent, and an answer after `answerMs`. @returns how long the loop stayed awake */
function exchange(wait: BusyWait, answerMs: number): number {
  wait.begin(100);
  for (let ms = 0; ; ms += 0.01) {
    if (!wait.goesOn(100 + ms)) return ms;
    if (ms >= answerMs) {
      wait.end();
      return ms;
    }
  }
}

test("BusyWait: waits awake for an answer, and no longer than its time", () => {
  const wait = new BusyWait();
  expect(exchange(wait, 0.05)).toBeCloseTo(0.05);
  expect(exchange(wait, 5)).toBeCloseTo(BUSY_WAIT_MS);
});

test("BusyWait: gives up where answers take longer, tries now and then, and comes back when they are quick", () => {
  const wait = new BusyWait();
  for (let i = 0; i < 20; i++) exchange(wait, 5);
  const awake = Array.from({ length: 640 }, () => exchange(wait, 5)).filter((ms) => ms > 0).length;
  expect(awake).toBe(10);
  for (let i = 0; i < 640; i++) exchange(wait, 0.05);
  expect(exchange(wait, 0.05)).toBeCloseTo(0.05);
});

test("BusyWait: does not wait when nothing was sent", () => {
  expect(new BusyWait().goesOn(1)).toBe(false);
});
