import { expect, test } from "bun:test";
import { checkRouteLeak } from "../../lib/check_leak.ts";
import type { RunCommand } from "../../lib/command.ts";

const SERVER = { host: "203.0.113.2", port: 51820 };

/** A kernel whose answer to `ip route get` is told by the destination; none is unreachable. */
function kernel(wayTo: (address: string) => string | null): RunCommand {
  return async (argv) => {
    const dev = wayTo(argv[4] ?? "");
    return {
      status: dev === null ? 2 : 0,
      stdout: dev === null ? "" : JSON.stringify([{ dev }]),
      stderr: "",
    };
  };
}

test("checkRouteLeak: everything in, the server outside", async () => {
  const run = kernel((address) => (address === SERVER.host ? "wan" : "omail0"));
  const found = await checkRouteLeak("omail0", SERVER, run);
  expect(found.map(({ name, level }) => [name, level])).toEqual([
    ["route leak", "ok"],
    ["route to server", "ok"],
  ]);
});

test("checkRouteLeak: a half of the addresses by another interface is a leak", async () => {
  const run = kernel((address) => (address === "9.9.9.9" ? "tap0" : "omail0"));
  const [leak] = await checkRouteLeak("omail0", null, run);
  expect(leak).toMatchObject({ level: "failure", value: 1, figure: "outside the tunnel: 9.9.9.9 by tap0" });
});

test("checkRouteLeak: a family that is out of reach leaks nothing", async () => {
  const run = kernel((address) => (address.includes(":") ? null : "omail0"));
  const [leak] = await checkRouteLeak("omail0", null, run);
  expect(leak).toMatchObject({ level: "ok", value: 0 });
  expect(leak?.figure).toContain("IPv6 is out of reach");
});

test("checkRouteLeak: the tunnel's own packets in the tunnel are a loop", async () => {
  const found = await checkRouteLeak(
    "omail0",
    SERVER,
    kernel(() => "omail0"),
  );
  expect(found[1]).toMatchObject({ name: "route to server", level: "failure" });
});
