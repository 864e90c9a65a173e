/** When a receiver reports loss. */

import { describe, expect, test } from "bun:test";
import { LossReports } from "../../lib/loss_report.ts";

/** Reports of a session that opens `perStep` records every 10 ms, for so long; `lost` tells what is missing by then. */
function reportTimes(milliseconds: number, perStep: number, lost: (nowMs: number) => number): number[] {
  const reports = new LossReports();
  const times: number[] = [];
  for (let nowMs = 0; nowMs < milliseconds; nowMs += 10) {
    for (let i = 0; i < perStep; i++) reports.dataOpened();
    if (!reports.due(lost(nowMs), nowMs)) continue;
    times.push(nowMs);
    reports.sent(lost(nowMs), nowMs);
  }
  return times;
}

describe("LossReports", () => {
  test("loss is reported at once, and again every 100 ms while there is new loss", () => {
    expect(reportTimes(1000, 1, (nowMs) => (nowMs < 500 ? 0 : nowMs))).toEqual([70, 500, 600, 700, 800, 900]);
  });

  test("loss that does not grow is reported once", () => {
    expect(reportTimes(900, 1, (nowMs) => (nowMs < 300 ? 0 : 5)).filter((at) => at < 800)).toEqual([70, 300]);
  });

  test("loss that was healed is reported too", () => {
    const reports = new LossReports();
    reports.sent(5, 0);
    reports.dataOpened();
    expect(reports.due(5, 200)).toBe(false);
    expect(reports.due(4, 200)).toBe(true);
  });

  test("many records without loss are reported every 100 ms, a few every 500 ms, fewer never", () => {
    expect(reportTimes(1000, 20, () => 0).length).toBe(10);
    expect(reportTimes(5000, 1, () => 0).length).toBe(10);
    const reports = new LossReports();
    for (let i = 0; i < 7; i++) reports.dataOpened();
    expect(reports.due(0, 1e6)).toBe(false);
  });

  test("never more often than every 100 ms", () => {
    const times = reportTimes(10_000, 1000, (nowMs) => nowMs);
    for (const [i, at] of times.entries()) if (i > 0) expect(at - times[i - 1]!).toBeGreaterThanOrEqual(100);
  });

  test("an idle session sends none, whatever is missing: two ends do not answer each other's reports", () => {
    const reports = new LossReports();
    for (let nowMs = 0; nowMs < 100_000; nowMs += 1000) expect(reports.due(nowMs, nowMs)).toBe(false);
  });

  test("a keep-alive that was sent anyway is a report", () => {
    const reports = new LossReports();
    reports.dataOpened();
    expect(reports.due(1, 1000)).toBe(true);
    reports.sent(1, 1000);
    expect(reports.due(1, 2000)).toBe(false);
  });
});
