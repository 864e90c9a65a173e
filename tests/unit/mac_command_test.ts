import { describe, expect, test } from "bun:test";
import type { RunCommand } from "../../lib/command.ts";
import { dnsCommandsMacos } from "../../lib/dns_macos.ts";
import { natCommandsMacos } from "../../lib/firewall_pf.ts";
import { planMacos, undoMacos } from "../../lib/host_macos.ts";
import type { HostPlan } from "../../lib/host_plan.ts";
import { macChange } from "../../lib/mac_command.ts";
import { memoryLog } from "../support/memory_log.ts";

const SERVER = {
  role: "server",
  tun: "utun7",
  mtuBytes: 1420,
  addresses: ["10.8.0.1/24", "fd00::1/64"],
  gsoMaxBytes: null,
  nat: true,
} as const;

function recorder(outputs: Readonly<Record<string, string>> = {}, failing = "") {
  const calls: string[] = [];
  const run: RunCommand = async (argv) => {
    const call = argv.join(" ");
    calls.push(call);
    return { status: call === failing ? 1 : 0, stdout: outputs[call] ?? "", stderr: "" };
  };
  return { calls, run, ...memoryLog() };
}

describe("macChange", () => {
  const commands = [
    { argv: ["a"], undo: { argv: ["undo-a"], input: "text" } },
    { argv: ["b"] },
    { argv: ["c"] },
  ];

  test("runs in order, and journals the commands that undo", async () => {
    const { calls, run, log } = recorder();
    const change = macChange("x", commands, "throw", run, log);
    expect(change.undo).toEqual([{ kind: "command", argv: ["undo-a"], input: "text" }]);
    await change.apply();
    expect(calls).toEqual(["a", "b", "c"]);
  });

  test("stops at a failure that matters, goes on after one that does not", async () => {
    const strict = recorder({}, "b");
    await expect(macChange("x", commands, "throw", strict.run, strict.log).apply()).rejects.toThrow(
      'Cannot run "b"',
    );
    expect(strict.calls).toEqual(["a", "b"]);
    const lenient = recorder({}, "b");
    await macChange("x", commands, "warn", lenient.run, lenient.log).apply();
    expect(lenient.calls).toEqual(["a", "b", "c"]);
    expect(lenient.lines).toEqual([{ level: "warn", message: 'Cannot run "b": b ended with status 1' }]);
  });
});

test("dnsCommandsMacos: one service key, removed by name", () => {
  const [command] = dnsCommandsMacos("utun7", ["10.8.0.1", "10.8.0.9"]);
  expect(command?.input).toBe(
    'd.init\nd.add ServerAddresses * 10.8.0.1 10.8.0.9\nd.add SupplementalMatchDomains * ""\n' +
      "set State:/Network/Service/omail-utun7/DNS\nquit\n",
  );
  expect(command?.undo).toEqual({
    argv: ["scutil"],
    input: "remove State:/Network/Service/omail-utun7/DNS\nquit\n",
  });
  expect(dnsCommandsMacos("utun7", [])).toEqual([]);
});

test("natCommandsMacos: an anchor per tunnel, forwarding only where it was off", () => {
  const commands = natCommandsMacos(SERVER, "en0", { ipv4: "0", ipv6: "1" });
  expect(commands[0]?.input).toBe(
    "nat on en0 inet from 10.8.0.0/24 to any -> (en0)\nnat on en0 inet6 from fd00::/64 to any -> (en0)\n",
  );
  expect(commands.flatMap(({ undo }) => (undo === undefined ? [] : [undo.argv.join(" ")]))).toEqual([
    "pfctl -q -a com.apple/omail_utun7 -F all",
    "sysctl -w net.inet.ip.forwarding=0",
  ]);
});

describe("planMacos", () => {
  test("a server asks for the way out and the present forwarding, then changes", async () => {
    const { calls, run, log } = recorder({
      "route -n get -inet default": "  gateway: 192.0.2.1\n  interface: en5\n",
    });
    const changes = await planMacos(SERVER, run, log);
    expect(changes.map(({ name }) => name)).toEqual(["link", "NAT"]);
    expect(calls).toHaveLength(3);
  });

  test("a client gets link, routing and DNS; a missing gateway leaves out the routes by it", async () => {
    const { run, log } = recorder();
    const plan: HostPlan = {
      ...SERVER,
      role: "client",
      fullTunnel: true,
      routes: [],
      excludes: [],
      server: { address: "198.51.100.1", port: 1 },
      dns: ["10.8.0.1"],
    };
    const changes = await planMacos(plan, run, log);
    expect(changes.map(({ name, undo }) => [name, undo.length])).toEqual([
      ["link", 0],
      ["routing", 0],
      ["DNS", 1],
    ]);
  });
});

test("undoMacos: runs every command, and goes on after a failure", async () => {
  const { calls, run, log, lines } = recorder({}, "a");
  await undoMacos(
    [
      { kind: "command", argv: ["a"] },
      { kind: "nft-table", table: "t" },
      { kind: "command", argv: ["b"] },
    ],
    run,
    log,
  );
  expect(calls).toEqual(["a", "b"]);
  expect(lines.map(({ level }) => level)).toEqual(["warn", "warn"]);
});
