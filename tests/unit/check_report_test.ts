import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  CHECK_LEVELS,
  exitStatusOf,
  finding,
  formatReport,
  makeReport,
  notMeasured,
} from "../../lib/check_report.ts";

const RTT = finding("RTT", "ok", "1.2 ms", "", 1.23456);
const MTU = finding("path MTU", "warning", "1400 bytes", "start with --mtu 1340", 1400);

test("formatReport: aligned rows, advice below its row, a count", () => {
  const report = makeReport([
    RTT,
    MTU,
    notMeasured("UDP", "start the client"),
    finding("TCP", "failure", "no"),
  ]);
  expect(formatReport(report)).toBe(
    [
      "ok    RTT       1.2 ms",
      "WARN  path MTU  1400 bytes",
      "                # start with --mtu 1340",
      "?     UDP       not measured",
      "                # start the client",
      "FAIL  TCP       no",
      "",
      "4 checks: 1 ok, 1 not measured, 1 doubtful, 1 failed",
      "",
    ].join("\n"),
  );
});

test("finding: the value is rounded, and left out where there is none", () => {
  expect(RTT.value).toBe(1.235);
  expect(Object.keys(notMeasured("UDP", "start the client"))).toEqual(["name", "level", "figure", "advice"]);
});

test("makeReport: the level is the worst, the exit status 1 for a failure only", () => {
  expect(makeReport([])).toEqual({ level: "ok", findings: [] });
  fc.assert(
    fc.property(fc.array(fc.constantFrom(...CHECK_LEVELS)), (levels) => {
      const report = makeReport(levels.map((level) => finding("x", level, "y")));
      for (const level of levels) {
        expect(CHECK_LEVELS.indexOf(report.level)).toBeGreaterThanOrEqual(CHECK_LEVELS.indexOf(level));
      }
      expect(exitStatusOf(report)).toBe(levels.includes("failure") ? 1 : 0);
    }),
  );
});
