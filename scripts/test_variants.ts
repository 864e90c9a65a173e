/**
 * Runs end-to-end tests in every variant of the machine and shows a table: `bun run test:variants [VARIANT...] [FILE...]`.
 *
 * Without a VARIANT it is all of them, without a FILE the tests of the tunnel itself. `tests/e2e/harness/variant.ts` says
 * what the variants are.
 */

import { join } from "node:path";
import { VARIANTS } from "../tests/e2e/harness/variant.ts";
import { countTests, runShown } from "./test_run.ts";

const ROOT = join(import.meta.dir, "..");

/** What a tunnel must do, whatever the machine. */
const TUNNEL_TESTS =
  "bad_input cleanup full_tunnel hostile_udp instances ping rekey restart routing_loop silence spoof throughput two_clients wire"
    .split(" ")
    .map((name) => `tests/e2e/${name}_test.ts`);

const words = process.argv.slice(2);
const variants = VARIANTS.filter((name) => words.includes(name));
const named = words.filter((word) => !VARIANTS.some((name) => name === word));
const wrong = named.find((word) => !word.endsWith("_test.ts"));
if (wrong !== undefined)
  throw new Error(`Cannot use "${wrong}": expected one of ${VARIANTS.join(", ")}, or a file *_test.ts`);

const rows: string[] = [];
let failures = 0;
for (const variant of variants.length === 0 ? VARIANTS : variants) {
  for (const file of named.length === 0 ? TUNNEL_TESTS : named) {
    const { exitCode, output } = await runShown([process.execPath, "test", file], ROOT, {
      OMAIL_TEST_VARIANT: variant,
    });
    const { passed, failed } = countTests(output);
    if (exitCode !== 0) failures++;
    const verdict = exitCode === 0 ? "ok    " : "FAILED";
    rows.push(`${verdict}  ${variant.padEnd(10)}  ${file}  ${passed} passed, ${failed} failed`);
  }
}
console.log(`\n${rows.join("\n")}`);
process.exitCode = failures === 0 ? 0 : 1;
