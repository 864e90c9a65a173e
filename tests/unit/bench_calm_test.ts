import { describe, expect, test } from "bun:test";
import { OmailError } from "../../lib/errors.ts";
import { type FoundRound, foundTable } from "../../scripts/bench/calm.ts";
import { calmUsage, isWanted, readCalmOptions } from "../../scripts/bench/calm_options.ts";
import { parseStageTimes, stageTable } from "../../scripts/bench/stage_table.ts";
import { type Stage, timeStage } from "../../scripts/bench/stopwatch.ts";

const KNOWN = ["voice", "memory"];

describe("readCalmOptions()", () => {
  const read = (...args: string[]) => readCalmOptions(args, KNOWN, "usage");

  test("measures everything without words, and in the known order with them", () => {
    expect(read()).toMatchObject({ scenarios: KNOWN, engine: "both", seconds: 10, write: false });
    expect(read("memory", "voice", "--engine", "sync")).toMatchObject({ scenarios: KNOWN, engine: "sync" });
    expect(read("memory")?.scenarios).toEqual(["memory"]);
  });

  test.each([
    [["speech"], 'Cannot measure "speech": expected some of voice, memory'],
    [["--engine", "fast"], 'Cannot use --engine "fast": expected one of web, sync, both'],
    [["--clients", "1000"], 'Cannot use --clients "1000": expected a whole number from 1 to 200'],
  ])("refuses %p", (args, message) => {
    expect(() => read(...args)).toThrow(message);
  });

  test("names every scenario in its help", () => {
    const usage = calmUsage([{ name: "voice", title: "delay of voice" }]);
    expect(usage).toContain("  voice  delay of voice");
  });
});

test.each([
  ["omail", "web", true, true],
  ["omail", "sync", true, false],
  ["omail-sync", "both", true, true],
  ["omail-sync", "web", true, false],
  ["omail-tcp", "web", true, true],
  ["omail-sync-tcp", "web", true, false],
  ["wireguard-go", "both", true, true],
  ["wireguard-go", "web", false, false],
] as const)("isWanted() of %s with engine %s and others %p is %p", (peer, engine, others, wanted) => {
  const options = readCalmOptions([], KNOWN, "")!;
  expect(isWanted(peer, { ...options, engine, others })).toBe(wanted);
});

describe("foundTable()", () => {
  const columns = {
    delay: "delay (µs)",
    count: "count",
  };
  const rounds: readonly FoundRound[] = [
    { base: { figures: { delay: 10.5, count: 4 } }, omail: { figures: { delay: 21, count: null } } },
    { base: { figures: { delay: 20, count: 4 } } },
    { base: { figures: { delay: 30.5, count: 4 } }, omail: { figures: { delay: 30.5 } } },
  ];

  test("has medians, and ratios taken within the rounds that have both", () => {
    const rows = foundTable(columns, ["base", "omail"], rounds, "base").split("\n").slice(2);
    const cells = rows.map((row) =>
      row
        .split("|")
        .map((cell) => cell.trim())
        .slice(1, -1),
    );
    expect(cells).toEqual([
      ["base", "20", "4"],
      ["omail", "25.8", "-"],
      ["omail / base", "1.50", "-"],
    ]);
  });

  test("has no ratios without the base", () => {
    expect(foundTable(columns, ["omail"], rounds, "base")).not.toContain("/");
  });
});

describe("stageTable()", () => {
  const time = { name: "seal", input: "64 bytes", bytes: 64, wallNs: 640, cpuNs: 700 };

  test("has the price of a byte, where bytes matter", () => {
    const table = stageTable([time, { ...time, name: "route", bytes: 0 }], null);
    expect(table).toMatch(/seal .*64 bytes .* 640 .* 700 .* 10\.0 \|$/m);
    expect(table).toMatch(/route .*\| +- \|$/m);
  });

  test("stands beside an earlier run; a stage that it lacks has no ratio", () => {
    const table = stageTable([time, { ...time, input: "1 byte" }], [{ ...time, wallNs: 320 }]);
    expect(table).toMatch(/64 bytes .*\| +2\.00 \|$/m);
    expect(table).toMatch(/1 byte .*\| +- \|$/m);
  });

  test("reads what it wrote, and refuses other files", () => {
    expect(parseStageTimes(JSON.stringify([time]), "f")).toEqual([time]);
    for (const text of ["", "{}", '[{"name": "x"}]']) {
      expect(() => parseStageTimes(text, "f")).toThrow(
        new OmailError('Cannot read "f": expected what --json of bench:stages wrote'),
      );
    }
  });
});

describe("timeStage()", () => {
  const stage = (run: Stage["run"], prepare = () => undefined as void): Stage => {
    return { name: "a", input: "b", bytes: 0, batch: 4, prepare, run };
  };

  test("prepares each batch, and counts the calls in it", async () => {
    const calls: number[] = [];
    let prepared = 0;
    const time = await timeStage(
      stage(
        (i) => calls.push(i),
        () => void prepared++,
      ),
      1,
    );
    expect(calls).toHaveLength(prepared * 4);
    expect(calls.slice(0, 4)).toEqual([0, 1, 2, 3]);
    expect(time.wallNs).toBeGreaterThan(0);
  });

  test("waits for the promises of a batch", async () => {
    const time = await timeStage(
      stage(() => Bun.sleep(2)),
      1,
    );
    // four of them wait together
    expect(time.wallNs).toBeGreaterThan(400_000);
  });
});
