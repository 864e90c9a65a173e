/** Many `ip` commands in one process, with each failure told apart (ip(8), options -batch and -force). */

import type { Family } from "./address.ts";
import { commandError, type RunCommand } from "./command.ts";

/** A line that failed, and the kernel's or the command's words. */
export interface IpFailure {
  readonly line: string;
  readonly message: string;
}

/**
 * Runs `ip` lines in order.
 *
 * @param family for lines that do not name an address, such as `rule add`; null lets each line's address decide
 * @param options `stopAtFirst`: lines after a failure are not run
 * @returns the lines that failed; empty when all went well
 * @throws {SystemError} when `ip` is missing or fails without naming a line
 */
export async function runIpBatch(
  run: RunCommand,
  family: Family | null,
  lines: readonly string[],
  options: { readonly stopAtFirst: boolean },
): Promise<readonly IpFailure[]> {
  if (lines.length === 0) return [];
  const force = options.stopAtFirst ? [] : ["-force"];
  const option = family === null ? [] : [`-${family}`];
  const result = await run(["ip", ...option, ...force, "-batch", "-"], `${lines.join("\n")}\n`);
  const failures = parseIpFailures(result.stderr, lines);
  if (result.status !== 0 && failures.length === 0) {
    throw commandError("Cannot change routing", "ip", result.status, result.stderr);
  }
  return failures;
}

/** Reads `ip -batch`'s complaints: the words, then `Command failed -:LINE`. */
export function parseIpFailures(stderr: string, lines: readonly string[]): IpFailure[] {
  const failures: IpFailure[] = [];
  let words: string[] = [];
  for (const text of stderr.split("\n")) {
    const failed = /^Command failed -:(\d+)/.exec(text);
    if (failed === null) {
      if (text.trim() !== "") words.push(text.trim());
      continue;
    }
    failures.push({ line: lines[Number(failed[1]) - 1] ?? text, message: words.join("; ") });
    words = [];
  }
  return failures;
}
