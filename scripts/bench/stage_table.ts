/** The table of the stages, also beside an earlier one. Pure. */

import * as v from "valibot";
import { OmailError } from "../../lib/errors.ts";
import type { StageTime } from "./stopwatch.ts";
import { markdownTable, numberText, ratioText } from "./table.ts";

const StageTimes = v.array(
  v.object({
    name: v.string(),
    input: v.string(),
    bytes: v.number(),
    wallNs: v.number(),
    cpuNs: v.number(),
  }),
);

/** Reads what an earlier run wrote. @throws {OmailError} when it is no such file */
export function parseStageTimes(json: string, file: string): readonly StageTime[] {
  try {
    return v.parse(StageTimes, JSON.parse(json));
  } catch {
    throw new OmailError(`Cannot read "${file}": expected what --json of bench:stages wrote`);
  }
}

/** Wall-clock time of a stage against an earlier run; null when that did not have it. */
function growth(time: StageTime, before: readonly StageTime[]): number | null {
  const old = before.find(({ name, input }) => name === time.name && input === time.input);
  return old === undefined || old.wallNs === 0 ? null : time.wallNs / old.wallNs;
}

/** @param before an earlier run; null for none */
export function stageTable(times: readonly StageTime[], before: readonly StageTime[] | null): string {
  const head = ["stage", "input", "ns a call", "CPU ns a call", "ns a byte"];
  const rows = times.map((time) => [
    time.name,
    time.input,
    numberText(time.wallNs),
    numberText(time.cpuNs),
    time.bytes === 0 ? "-" : perByteText(time.wallNs / time.bytes),
    ...(before === null ? [] : [ratioText(growth(time, before))]),
  ]);
  return markdownTable(before === null ? head : [...head, "now / before"], rows);
}

/** A quarter of a nanosecond a byte is 32 Gbit/s: three decimals count. */
function perByteText(ns: number): string {
  return ns < 10 ? ns.toFixed(3) : numberText(ns);
}
