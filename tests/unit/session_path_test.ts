import { expect, test } from "bun:test";
import { PMTU_BASE_BYTES, PROBE_ANSWERS_PER_SECOND } from "../../lib/limits.ts";
import { SessionPath } from "../../lib/session_path.ts";

const FULL = 1452;

/** Runs a path whose far end acknowledges probes of up to `carries` bytes at once. @returns what the log was told */
function run(
  path: SessionPath,
  carries: number,
  fromMs: number,
  untilMs: number,
  sending: boolean,
): string[] {
  const news: string[] = [];
  for (let nowMs = fromMs; nowMs < untilMs; nowMs += 50) {
    if (sending) path.largestSentBytes = path.maxDatagramBytes;
    for (const probe of path.poll(nowMs)) {
      if (probe.datagramBytes <= carries) path.acked(probe.number, nowMs + 5);
    }
    const told = path.takeNews();
    if (told !== null) news.push(told);
  }
  return news;
}

test("a new path begins with the base size, and the log hears nothing of one that carries what is wanted", () => {
  const path = new SessionPath(FULL, 0);
  expect([path.maxDatagramBytes, path.isKnown]).toEqual([PMTU_BASE_BYTES, false]);
  expect(run(path, FULL, 0, 5_000, true)).toEqual([]);
  expect([path.maxDatagramBytes, path.isKnown]).toEqual([FULL, true]);
});

test("a narrow path that is new is told when its size is known", () => {
  const path = new SessionPath(FULL, 0);
  expect(run(path, 1_272, 0, 10_000, true)).toEqual([
    expect.stringMatching(/^datagrams of up to 12[67]\d bytes, 1452 before$/),
  ]);
});

test("a hole, its size and the way back are told once each", () => {
  const path = new SessionPath(FULL, 0);
  run(path, FULL, 0, 2_000, true);
  const [fell, settled, ...more] = run(path, 1_272, 2_000, 10_000, true);
  expect(fell).toBe("datagrams of up to 1200 bytes, 1452 before; searching");
  expect(settled).toMatch(/^datagrams of up to 12[67]\d bytes, 1200 before$/);
  expect(more).toEqual([]);
  path.moved(10_000);
  expect(path.isKnown).toBe(false);
  expect(run(path, FULL, 10_000, 12_000, true)).toEqual([
    expect.stringMatching(/^datagrams of up to 1452 bytes, 12[67]\d before$/),
  ]);
});

test("a hole that is gone: the peer's larger probe has it searched anew, but not at once", () => {
  const path = new SessionPath(FULL, 0);
  run(path, 1_272, 0, 10_000, true);
  path.probed(FULL, 20_000);
  run(path, FULL, 20_000, 21_000, false);
  expect(path.maxDatagramBytes).toBeLessThan(FULL);
  path.probed(1_200, 80_000);
  run(path, FULL, 80_000, 81_000, false);
  expect(path.maxDatagramBytes).toBeLessThan(FULL);
  path.probed(FULL, 90_000);
  run(path, FULL, 90_000, 91_000, false);
  expect(path.maxDatagramBytes).toBe(FULL);
});

test("an idle path sends no probes once it is known", () => {
  const path = new SessionPath(FULL, 0);
  run(path, FULL, 0, 1_000, false);
  let probes = 0;
  for (let nowMs = 1_000; nowMs < 100_000; nowMs += 50) probes += path.poll(nowMs).length;
  expect(probes).toBe(0);
});

test("the kernel's refusal is believed at once", () => {
  const path = new SessionPath(FULL, 0);
  run(path, FULL, 0, 1_000, true);
  path.tooBig(FULL, 1_000);
  expect(path.maxDatagramBytes).toBe(PMTU_BASE_BYTES);
});

test("probes that were too large for the path count as arrived; real losses and nonsense do not", () => {
  const path = new SessionPath(FULL, 0);
  expect(path.reported(90, 100, 0)).toBe(90);
  run(path, 1_272, 0, 5_000, true);
  const oversized = path.reported(100, 200, 5_000) - 100;
  expect(oversized).toBeWithin(4, 60);
  expect(path.reported(200, 200, 5_001)).toBe(200);
  expect(path.reported(300, 200, 5_002)).toBe(300);
});

test.each([
  ["half of the records lost", 50, true],
  ["one in ten lost", 90, false],
  ["none lost", 100, false],
])("%s: is the path asked at once? %p of 100 seen, %p", (_name, seen, asked) => {
  const path = new SessionPath(FULL, 0);
  run(path, FULL, 0, 1_000, false);
  path.reported(100, 100, 1_000);
  path.reported(100 + seen, 200, 1_100);
  expect(path.poll(1_100).length > 0).toBe(asked);
});

test("a flood of probes is answered so many times a second", () => {
  const path = new SessionPath(FULL, 0);
  let answers = 0;
  for (let i = 0; i < 1_000; i++) if (path.probed(FULL, i / 1_000)) answers++;
  expect(answers).toBe(PROBE_ANSWERS_PER_SECOND);
});
