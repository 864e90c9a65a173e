/**
 * Path MTU discovery over simulated paths: a hole of 1,300 bytes opens in one direction of a busy path. How soon is it
 * found, and what does the search end at? OMAIL_SHOW=1 prints the figures, OMAIL_RUNS=10 takes ten times the paths.
 */

import { expect, test } from "bun:test";
import { type Direction, PathSimulator } from "../support/path_simulator.ts";

const MAX = 1452;
/** UDP payload that fits an IPv4 packet of 1,300 bytes. */
const HOLE = 1272;
const RUNS = 40 * Number(process.env["OMAIL_RUNS"] ?? 1);

const always =
  <Value>(value: Value) =>
  () =>
    value;

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
}

/** Times in milliseconds over many seeds: to the full size at the start, from the hole to its discovery, to the end. */
function measure(lossPercent: number, delayMs: number, hints: boolean) {
  const first: number[] = [];
  const found: number[] = [];
  const settled: number[] = [];
  const ends: number[] = [];
  let otherEnd = 0;
  for (let seed = 1; seed <= RUNS; seed++) {
    const holeMs = 5_000 + ((seed * 37) % 1_000);
    const path = (mtuBytes: Direction["mtuBytes"]): Direction => ({
      mtuBytes,
      loss: always(lossPercent / 100),
      delayMs,
    });
    const narrowing = path((nowMs) => (nowMs < holeMs ? MAX : HOLE));
    const simulator = new PathSimulator([narrowing, path(always(MAX))], MAX, seed, hints);
    const [end, other] = simulator.ends;
    first.push(simulator.runUntil(holeMs - 1, () => end.maxDatagramBytes === MAX) ?? Infinity);
    simulator.runUntil(holeMs - 1);
    const isFound = () => simulator.nowMs >= holeMs && end.maxDatagramBytes <= HOLE;
    found.push((simulator.runUntil(holeMs + 20_000, isFound) ?? Infinity) - holeMs);
    const isSettled = () => end.state === "complete" && end.maxDatagramBytes > HOLE - 8;
    settled.push((simulator.runUntil(holeMs + 30_000, isSettled) ?? Infinity) - holeMs);
    ends.push(end.maxDatagramBytes);
    if (other.maxDatagramBytes === MAX) otherEnd++;
  }
  if (process.env["OMAIL_SHOW"] !== undefined) {
    const at = (values: number[]) => [0.5, 0.9, 0.99, 1].map((share) => quantile(values, share)).join(" / ");
    console.log(
      `RTT ${2 * delayMs} ms, loss ${lossPercent} % each way, hints ${hints}: p50 / p90 / p99 / max of ${RUNS}`,
      `full size ${at(first)}; found ${at(found)}; settled ${at(settled)} ms; other way full ${otherEnd}`,
    );
  }
  return { first, found, settled, ends, otherEnd };
}

const cases = [10, 100, 300].flatMap((rttMs) => [0, 1, 5, 10, 20].map((loss) => [rttMs, loss] as const));

test.each(cases)("RTT %i ms, loss %i in 100: a hole in one direction is found within 3 s", (rttMs, loss) => {
  const { first, found, settled, ends, otherEnd } = measure(loss, rttMs / 2, false);
  expect(quantile(first, 0.5)).toBeLessThanOrEqual(rttMs + 1);
  expect(Math.max(...found)).toBeLessThan(3_000);
  expect(quantile(settled, 0.9)).toBeLessThan(10_000);
  expect(quantile(ends, 0.1)).toBeWithin(HOLE - 8, HOLE + 1);
  // the other direction is as wide as ever; at 20 % loss luck may have it search at this moment
  expect(otherEnd).toBeGreaterThanOrEqual(RUNS * (loss < 20 ? 0.97 : 0.9));
});

test.each(cases)("RTT %i ms, loss %i in 100: with a hint at once, mostly within 1.2 s", (rttMs, loss) => {
  const { found } = measure(loss, rttMs / 2, true);
  expect(quantile(found, 0.9)).toBeLessThan(1_200);
  expect(Math.max(...found)).toBeLessThan(3_000);
});

test.each([0, 1, 5, 10, 20])(
  "loss of %i in 100 alone does not make records smaller for long",
  (lossPercent) => {
    let fullMs = 0;
    let totalMs = 0;
    let probeBytes = 0;
    for (let seed = 1; seed <= 4; seed++) {
      const path: Direction = { mtuBytes: always(MAX), loss: always(lossPercent / 100), delayMs: 20 };
      const simulator = new PathSimulator([path, path], MAX, seed);
      simulator.runUntil(1_000);
      simulator.runUntil(61_000, () => {
        totalMs += 2;
        for (const end of simulator.ends) if (end.maxDatagramBytes === MAX) fullMs++;
        return false;
      });
      probeBytes += simulator.probeBytes;
    }
    if (process.env["OMAIL_SHOW"] !== undefined) {
      console.log(
        `loss ${lossPercent} %: full size ${((100 * fullMs) / totalMs).toFixed(2)} % of the time;`,
        `probes of one end ${Math.round(probeBytes / 8 / 61)} bytes a second`,
      );
    }
    expect(fullMs / totalMs).toBeGreaterThan(lossPercent < 10 ? 0.999 : 0.95);
    expect(probeBytes / 8 / 61).toBeLessThan(10_000);
  },
);

test("both directions narrow, to different sizes, at the same time", () => {
  const path = (hole: number): Direction => ({
    mtuBytes: (nowMs) => (nowMs < 5_000 ? MAX : hole),
    loss: always(0.02),
    delayMs: 20,
  });
  const simulator = new PathSimulator([path(1400), path(1000)], MAX, 7);
  const found = simulator.runUntil(
    30_000,
    () =>
      simulator.nowMs > 5_000 &&
      simulator.ends[0].maxDatagramBytes <= 1400 &&
      simulator.ends[1].maxDatagramBytes <= 1000,
  );
  expect(found).not.toBeNull();
  expect(found! - 5_000).toBeLessThan(3_000);
  simulator.runUntil(30_000);
  expect(simulator.ends[0].maxDatagramBytes).toBeWithin(1392, 1401);
  expect(simulator.ends[1].maxDatagramBytes).toBeWithin(992, 1001);
});

test("the hole closes while it is searched, and opens again", () => {
  const isHole = (nowMs: number) => nowMs >= 5_000 && (nowMs < 6_500 || nowMs >= 20_000);
  const path: Direction = {
    mtuBytes: (nowMs) => (isHole(nowMs) ? HOLE : MAX),
    loss: always(0.05),
    delayMs: 10,
  };
  const simulator = new PathSimulator([path, path], MAX, 3);
  simulator.runUntil(19_999);
  for (const end of simulator.ends) expect(end.maxDatagramBytes).toBe(MAX);
  simulator.runUntil(23_000);
  for (const end of simulator.ends) expect(end.maxDatagramBytes).toBeLessThanOrEqual(HOLE);
});

test("an outage of ten seconds in both directions leaves the size as it is", () => {
  const outage = (nowMs: number) => (nowMs >= 5_000 && nowMs < 15_000 ? 1 : 0.01);
  const path: Direction = { mtuBytes: always(MAX), loss: outage, delayMs: 10 };
  const simulator = new PathSimulator([path, path], MAX, 5);
  simulator.runUntil(5_000);
  const shrunk = simulator.runUntil(20_000, () => simulator.ends.some((end) => end.maxDatagramBytes < MAX));
  expect(shrunk).toBeNull();
});
