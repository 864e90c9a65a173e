/**
 * The gate: types, format, lint, import order, unit tests, build, end-to-end tests, in this order.
 *
 * Ends with a summary whose last line is `N passed, N failed`: tests, and each other step that failed.
 */

import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { countTests, runShown } from "./test_run.ts";

const ROOT = join(import.meta.dir, "..");

/** One step: a command and whether it runs tests. */
interface Step {
  readonly name: string;
  readonly command: readonly string[];
  readonly tests: boolean;
  /** Why it cannot run here; null when it can. */
  readonly obstacle?: () => string | null;
}

interface Outcome {
  readonly passed: number;
  readonly failed: number;
  readonly note: string;
}

const bun = process.execPath;

/**
 * End-to-end tests wait more than they work, and each file has network namespaces of its own: two files at a time took
 * 590 s instead of 939. Not more: some tests flood a server, and their neighbours share its processors.
 */
const END_TO_END_AT_ONCE = Math.min(2, availableParallelism());

const STEPS: readonly Step[] = [
  { name: "types", command: [bun, "check", "--no-script"], tests: false },
  { name: "format", command: [bun, "fmt", "--no-script", "--check", "."], tests: false },
  { name: "lint", command: [bun, "x", "oxlint", "--deny-warnings"], tests: false },
  { name: "import order", command: [bun, "scripts/check_imports.ts"], tests: false },
  { name: "unit tests", command: [bun, "test", "tests/unit"], tests: true },
  { name: "build", command: [bun, "scripts/build.ts"], tests: false },
  {
    name: "end-to-end tests",
    command: [bun, "test", `--parallel=${END_TO_END_AT_ONCE}`, "tests/e2e"],
    tests: true,
    obstacle: endToEndObstacle,
  },
];

/** End-to-end tests make network namespaces and TUN devices. */
function endToEndObstacle(): string | null {
  if (process.getuid?.() !== 0) return "needs root";
  if (!existsSync("/dev/net/tun")) return "needs /dev/net/tun";
  return null;
}

async function perform(step: Step): Promise<Outcome> {
  const obstacle = step.obstacle?.() ?? null;
  if (obstacle !== null) return { passed: 0, failed: 1, note: `not run: ${obstacle}` };
  const started = performance.now();
  const { exitCode, output } = await runShown(step.command, ROOT);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const counted = step.tests ? countTests(output) : { passed: 0, failed: 0 };
  // A step that fails without a failed test (it did not even start) is one failure itself.
  const failed = exitCode === 0 ? counted.failed : Math.max(1, counted.failed);
  const tests = step.tests ? `${counted.passed} passed, ${failed} failed, ` : "";
  return { passed: counted.passed, failed, note: `${tests}${seconds} s` };
}

const outcomes: [Step, Outcome][] = [];
for (const step of STEPS) {
  console.log(`\n== ${step.name}: ${step.command.slice(1).join(" ")}`);
  outcomes.push([step, await perform(step)]);
}
console.log("\n== summary");
const width = Math.max(...STEPS.map(({ name }) => name.length));
for (const [{ name }, { failed, note }] of outcomes) {
  console.log(`${failed === 0 ? "ok    " : "FAILED"}  ${name.padEnd(width)}  ${note}`);
}
const total = outcomes.reduce(
  (sum, [, { passed, failed }]) => ({ passed: sum.passed + passed, failed: sum.failed + failed }),
  { passed: 0, failed: 0 },
);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed === 0 ? 0 : 1;
