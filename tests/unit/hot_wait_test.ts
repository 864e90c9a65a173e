/** Waiting hot: only for a lone small record, and never for long. */

import { expect, spyOn, test } from "bun:test";
import { HotWait } from "../../lib/hot_wait.ts";

/** Turns of the event loop that the wait asked for until it gave up. */
async function turnsOf(use: (wait: HotWait) => void): Promise<number> {
  const immediate = spyOn(globalThis, "setImmediate");
  try {
    const wait = new HotWait();
    use(wait);
    await Bun.sleep(5);
    return immediate.mock.calls.length;
  } finally {
    immediate.mockRestore();
  }
}

test("HotWait: a lone small record keeps the loop turning, but not after its time", async () => {
  const turns = await turnsOf((wait) => wait.started(100));
  expect(turns).toBeGreaterThan(1);
  expect(turns).toBeLessThan(5_000);
});

test("HotWait: stops when the record is back", async () => {
  const turns = await turnsOf((wait) => {
    wait.started(100);
    wait.finished();
  });
  expect(turns).toBe(1);
});

test("HotWait: leaves large records and crowds alone", async () => {
  expect(await turnsOf((wait) => wait.started(60_000))).toBe(0);
  const crowd = await turnsOf((wait) => {
    wait.started(60_000);
    wait.started(100);
  });
  expect(crowd).toBe(0);
});
