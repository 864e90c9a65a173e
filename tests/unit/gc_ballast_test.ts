/** The collector counts the ballast, the machine does not. */

import { heapStats } from "bun:jsc";
import { expect, test } from "bun:test";
import { GC_BALLAST_BYTES, takeGcBallast } from "../../lib/gc_ballast.ts";

test("it counts as alive, once, after a collection too, and takes no memory", () => {
  Bun.gc(true);
  const before = { counted: heapStats().extraMemorySize, resident: process.memoryUsage.rss() };
  for (let i = 0; i < 4; i++) expect(takeGcBallast()).toBe(GC_BALLAST_BYTES);
  Bun.gc(true);
  const counted = heapStats().extraMemorySize - before.counted;
  expect(counted).toBeGreaterThanOrEqual(GC_BALLAST_BYTES * 0.9);
  expect(counted).toBeLessThan(GC_BALLAST_BYTES * 2);
  expect(process.memoryUsage.rss() - before.resident).toBeLessThan(GC_BALLAST_BYTES / 2);
});
