/** The collector counts the ballast, the machine does not. */

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { GC_BALLAST_BYTES, takeGcBallast } from "../../lib/gc_ballast.ts";

test("it counts as alive, once, after a collection too, and takes no memory", () => {
  Bun.gc(true);
  const countedBefore = heapStats().extraMemorySize;
  const residentBefore = process.memoryUsage.rss();
  for (let i = 0; i < 4; i++) expect(takeGcBallast()).toBe(GC_BALLAST_BYTES);
  // at once: the collection below is free to take some for itself
  const resident = process.memoryUsage.rss() - residentBefore;
  Bun.gc(true);
  const counted = heapStats().extraMemorySize - countedBefore;
  expect(counted).toBeGreaterThanOrEqual(GC_BALLAST_BYTES * 0.9);
  expect(counted).toBeLessThan(GC_BALLAST_BYTES * 2);
  expect(resident).toBeLessThan(GC_BALLAST_BYTES / 2);
});
