import { expect, test } from "bun:test";
import { WAKE_LOOK_MS, WakeWatch } from "../../lib/wake_watch.ts";

/** Looks once more after the clocks went on by these milliseconds. */
function after(monotonicMs: number, wallMs: number): number | null {
  return new WakeWatch(1_000, 1_700_000_000_000).look(1_000 + monotonicMs, 1_700_000_000_000 + wallMs);
}

test("WakeWatch sees nothing in the usual pace, nor on a busy machine", () => {
  expect(after(WAKE_LOOK_MS, WAKE_LOOK_MS)).toBeNull();
  expect(after(1_500, 1_500)).toBeNull();
});

test("WakeWatch sees a suspended machine by the wall clock alone", () => {
  expect(after(WAKE_LOOK_MS, 3_600_000)).toBe(3_600_000 - WAKE_LOOK_MS);
});

test("WakeWatch sees a frozen process by either clock", () => {
  expect(after(10_000, 10_000)).toBe(10_000 - WAKE_LOOK_MS);
});

test("WakeWatch takes no wall clock that was set back for a sleep", () => {
  expect(after(WAKE_LOOK_MS, -3_600_000)).toBeNull();
});

test("WakeWatch sees each sleep once", () => {
  const watch = new WakeWatch(0, 0);
  expect(watch.look(250, 60_000)).not.toBeNull();
  expect(watch.look(500, 60_250)).toBeNull();
});
