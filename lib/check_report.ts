/** What `check` found, as text for people or as JSON, and the exit status that it stands for. */

import { EXIT } from "./errors.ts";

/**
 * How good or bad one thing is. `unknown`: it was not measured, and the advice says how it can be. From best to worst.
 */
export const CHECK_LEVELS = ["ok", "unknown", "warning", "failure"] as const;
export type CheckLevel = (typeof CHECK_LEVELS)[number];

/** One thing that was looked at. A stable interface for scripts: names stay, fields are added. */
export interface Finding {
  /** What was looked at, for example `path MTU`. */
  readonly name: string;
  readonly level: CheckLevel;
  /** What was found, with its unit and, where it is an estimate, from what it was made. */
  readonly figure: string;
  /** The figure as a number for scripts, in the unit that the figure's text has; left out where it is none. */
  readonly value?: number;
  /** What to do about it; empty when there is nothing to do. */
  readonly advice: string;
}

/** `check --json`. */
export interface CheckReport {
  /** The worst of the findings. */
  readonly level: CheckLevel;
  readonly findings: readonly Finding[];
}

/** Sums findings up. Nothing found is `ok`. */
export function makeReport(findings: readonly Finding[]): CheckReport {
  const worst = Math.max(0, ...findings.map(({ level }) => CHECK_LEVELS.indexOf(level)));
  return { level: CHECK_LEVELS[worst] ?? "ok", findings };
}

/** 1 when something failed; what is only doubtful or was not measured does not count. */
export function exitStatusOf({ level }: CheckReport): number {
  return level === "failure" ? EXIT.failed : EXIT.ok;
}

/** How a level is written in front of its line; all of one width. */
const MARKS: Readonly<Record<CheckLevel, string>> = {
  ok: "ok  ",
  unknown: "?   ",
  warning: "WARN",
  failure: "FAIL",
};

/** Aligned rows, the advice below its row behind `#`, and a last line that counts. */
export function formatReport({ findings }: CheckReport): string {
  const width = Math.max(0, ...findings.map(({ name }) => name.length));
  const indent = " ".repeat(MARKS.ok.length + 2 + width + 2);
  const rows = findings.map(({ name, level, figure, advice }) => {
    const row = `${MARKS[level]}  ${name.padEnd(width)}  ${figure}\n`;
    return advice === "" ? row : `${row}${indent}# ${advice}\n`;
  });
  return `${rows.join("")}\n${summary(findings)}\n`;
}

/** For example `14 checks: 12 ok, 1 not measured, 1 failed`. */
export function summary(findings: readonly Finding[]): string {
  const words: Readonly<Record<CheckLevel, string>> = {
    ok: "ok",
    unknown: "not measured",
    warning: "doubtful",
    failure: "failed",
  };
  const counts = CHECK_LEVELS.flatMap((level) => {
    const count = findings.filter((finding) => finding.level === level).length;
    return count === 0 ? [] : [`${count} ${words[level]}`];
  });
  return `${findings.length} checks: ${counts.join(", ") || "nothing to look at"}`;
}

/** Makes a finding; `value` is rounded to what a figure can show. */
export function finding(
  name: string,
  level: CheckLevel,
  figure: string,
  advice = "",
  value?: number,
): Finding {
  return { name, level, figure, ...(value === undefined ? {} : { value: round(value) }), advice };
}

/** A finding that could not be made, and how it could. */
export function notMeasured(name: string, advice: string, reason = "not measured"): Finding {
  return finding(name, "unknown", reason, advice);
}

function round(value: number): number {
  return Math.round(value * 1000) / 1000;
}
