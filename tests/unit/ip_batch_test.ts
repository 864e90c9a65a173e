import { describe, expect, test } from "bun:test";
import type { RunCommand } from "../../lib/command.ts";
import { SystemError } from "../../lib/errors.ts";
import { parseIpFailures, runIpBatch } from "../../lib/ip_batch.ts";

function recorder(status: number, stderr: string) {
  const calls: { argv: readonly string[]; input: string | undefined }[] = [];
  const run: RunCommand = async (argv, input) => {
    calls.push({ argv, input });
    return { status, stdout: "", stderr };
  };
  return { calls, run };
}

describe("runIpBatch", () => {
  test("hands all lines to one process", async () => {
    const { calls, run } = recorder(0, "");
    expect(await runIpBatch(run, 6, ["rule add pref 1", "rule add pref 2"], { stopAtFirst: false })).toEqual(
      [],
    );
    expect(calls).toEqual([
      { argv: ["ip", "-6", "-force", "-batch", "-"], input: "rule add pref 1\nrule add pref 2\n" },
    ]);
  });

  test("starts no process for no lines", async () => {
    const { calls, run } = recorder(0, "");
    await runIpBatch(run, 4, [], { stopAtFirst: false });
    expect(calls).toEqual([]);
  });

  test("a failure without a line is an error", async () => {
    const { run } = recorder(255, "Cannot open netlink socket: Out of memory\n");
    await expect(runIpBatch(run, null, ["link show"], { stopAtFirst: true })).rejects.toThrow(SystemError);
  });
});

test("parseIpFailures: each complaint belongs to the line named after it", () => {
  const stderr = [
    "RTNETLINK answers: File exists",
    "Command failed -:2",
    'Object "bogus" is unknown, try "ip help".',
    "Command failed -:3",
    "",
  ].join("\n");
  expect(parseIpFailures(stderr, ["a", "b", "c"])).toEqual([
    { line: "b", message: "RTNETLINK answers: File exists" },
    { line: "c", message: 'Object "bogus" is unknown, try "ip help".' },
  ]);
});
