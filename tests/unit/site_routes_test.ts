import { describe, expect, test } from "bun:test";
import type { CommandResult } from "../../lib/command.ts";
import { routeDifference, siteRouteChange } from "../../lib/site_routes.ts";
import { memoryLog } from "../support/memory_log.ts";

/** A machine that answers every command alike and remembers it. */
function machineOf(answer: CommandResult) {
  const commands: { argv: readonly string[]; input: string | undefined }[] = [];
  const run = (argv: readonly string[], input?: string): Promise<CommandResult> => {
    commands.push({ argv, input });
    return Promise.resolve(answer);
  };
  return { commands, run };
}

const FINE: CommandResult = { status: 0, stdout: "", stderr: "" };
const BEFORE = ["192.168.51.0/24", "192.168.52.0/24"];
const AFTER = ["192.168.50.0/24", "192.168.52.0/24", "fd50::/64"];

test("routeDifference() names what is new and what is gone", () => {
  expect(routeDifference(["a", "b"], ["b", "c"])).toEqual({ added: ["c"], removed: ["a"] });
  expect(routeDifference(["a"], ["a"])).toEqual({ added: [], removed: [] });
});

describe("siteRouteChange() on Linux", () => {
  test("removes, then adds, in one process, and knows the way back of all that is there then", async () => {
    const { commands, run } = machineOf(FINE);
    const change = siteRouteChange("omail0", BEFORE, AFTER, run, memoryLog().log, "linux");
    expect(change.undo).toEqual([
      { kind: "route", family: 4, route: ["192.168.50.0/24", "dev", "omail0"] },
      { kind: "route", family: 4, route: ["192.168.52.0/24", "dev", "omail0"] },
      { kind: "route", family: 6, route: ["fd50::/64", "dev", "omail0"] },
    ]);
    await change.apply();
    expect(commands.map(({ input }) => input)).toEqual([
      "route del 192.168.51.0/24 dev omail0\nroute add 192.168.50.0/24 dev omail0\nroute add fd50::/64 dev omail0\n",
    ]);
  });

  test("warns of a route that somebody else has, and goes on", async () => {
    const { log, lines } = memoryLog();
    const stderr = "RTNETLINK answers: File exists\nCommand failed -:2\n";
    const { run } = machineOf({ status: 1, stdout: "", stderr });
    await siteRouteChange("omail0", BEFORE, AFTER, run, log, "linux").apply();
    expect(lines).toEqual([
      { level: "warn", message: expect.stringContaining("ip route add 192.168.50.0/24 dev omail0") },
    ]);
  });
});

test("siteRouteChange() on macOS is route(8), with its way back", async () => {
  const { commands, run } = machineOf(FINE);
  const change = siteRouteChange("utun5", BEFORE, AFTER, run, memoryLog().log, "darwin");
  expect(change.undo[0]).toEqual({
    kind: "command",
    argv: ["route", "-q", "-n", "delete", "-inet", "192.168.50.0/24", "-interface", "utun5"],
  });
  await change.apply();
  expect(commands.map(({ argv }) => argv.slice(3, 6).join(" "))).toEqual([
    "delete -inet 192.168.51.0/24",
    "add -inet 192.168.50.0/24",
    "add -inet6 fd50::/64",
  ]);
});
