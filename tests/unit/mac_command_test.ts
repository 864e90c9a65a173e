import { describe, expect, test } from "bun:test";
import type { RunCommand } from "../../lib/command.ts";
import { dnsCommandsMacos } from "../../lib/dns_macos.ts";
import {
  dnsGuardCommandsMacos,
  isKillSwitchCommand,
  killSwitchCommandsMacos,
  natCommandsMacos,
} from "../../lib/firewall_pf.ts";
import { NOTHING_STANDS } from "../../lib/host_change.ts";
import { planMacos, undoMacos } from "../../lib/host_macos.ts";
import type { ClientPlan } from "../../lib/host_plan.ts";
import { macChange } from "../../lib/mac_command.ts";
import { planRoutes } from "../../lib/route_plan.ts";
import { routeCommandsMacos } from "../../lib/routing_macos.ts";
import { memoryLog } from "../support/memory_log.ts";

const SERVER = {
  role: "server",
  tun: "utun7",
  mtuBytes: 1420,
  addresses: ["10.8.0.1/24", "fd00::1/64"],
  gsoMaxBytes: null,
  nat: true,
} as const;

const CLIENT: ClientPlan = {
  ...SERVER,
  role: "client",
  fullTunnel: true,
  routes: [],
  excludes: ["192.168.7.0/24"],
  allowLan: false,
  endpoints: [{ address: "198.51.100.1", port: 1 }],
  dns: ["10.8.0.1"],
  searchDomains: [],
  guardDns: true,
};

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
  const [command] = dnsCommandsMacos("utun7", ["10.8.0.1", "10.8.0.9"], [], true);
  expect(command?.input).toBe(
    'd.init\nd.add ServerAddresses * 10.8.0.1 10.8.0.9\nd.add SupplementalMatchDomains * ""\n' +
      "set State:/Network/Service/omail-utun7/DNS\nquit\n",
  );
  expect(command?.undo).toEqual({
    argv: ["scutil"],
    input: "remove State:/Network/Service/omail-utun7/DNS\nquit\n",
  });
  expect(dnsCommandsMacos("utun7", [], ["corp.example"], true)).toEqual([]);
});

test("dnsCommandsMacos: a split tunnel is asked for its domains, a full one for all names", () => {
  const script = (fullTunnel: boolean) =>
    dnsCommandsMacos("utun7", ["10.8.0.1"], ["a.example"], fullTunnel)[0]?.input;
  expect(script(false)).toContain(
    "d.add SearchDomains * a.example\nd.add SupplementalMatchDomains * a.example\n",
  );
  expect(script(true)).toContain('d.add SearchDomains * a.example\nd.add SupplementalMatchDomains * ""\n');
});

describe("pf", () => {
  const plan = { tun: "utun7", excludes: ["192.168.7.0/24"], allowLan: true, guardDns: true };

  test("a kill switch passes its exceptions in order and blocks the rest", () => {
    const endpoints = [{ address: "198.51.100.1", port: 51820 }];
    const [load] = killSwitchCommandsMacos(plan, [...endpoints, ...endpoints]);
    expect(load?.argv.join(" ")).toBe("pfctl -q -a com.apple/omail_kill_utun7 -f -");
    expect(load?.input?.split("\n")).toEqual([
      "pass out quick on lo0 all",
      "pass out quick on utun7 all",
      "pass out quick proto { tcp udp } to 198.51.100.1 port 51820",
      "pass out quick inet proto udp from any port 68 to any port 67",
      "pass out quick inet6 proto udp from any port 546 to { ff02::1:2 fe80::/10 } port 547",
      "pass out quick inet6 proto icmp6 icmp6-type { routersol neighbrsol neighbradv }",
      "pass out quick to 192.168.7.0/24",
      "block return out quick proto { tcp udp } to any port { 53 853 }",
      expect.stringMatching(/^pass out quick to \{ 10\.0\.0\.0\/8 .* fe80::\/10 ff02::\/16 \}$/),
      "block return out quick all",
      "",
    ]);
    expect(load?.undo?.argv.join(" ")).toBe("pfctl -q -a com.apple/omail_kill_utun7 -F all");
    expect(isKillSwitchCommand(load?.undo?.argv ?? [])).toBeTrue();
  });

  test("without --allow-lan and with --no-dns there is no word of either", () => {
    const [load] = killSwitchCommandsMacos({ ...plan, allowLan: false, guardDns: false }, []);
    expect(load?.input).not.toContain("10.0.0.0/8");
    expect(load?.input).not.toContain("53");
  });

  test("the DNS guard of a full tunnel is no kill switch, and a split tunnel has none", () => {
    const [load] = dnsGuardCommandsMacos(CLIENT);
    expect(load?.input).toEndWith("block return out quick proto { tcp udp } to any port { 53 853 }\n");
    expect(isKillSwitchCommand(load?.undo?.argv ?? [])).toBeFalse();
    expect(dnsGuardCommandsMacos({ ...CLIENT, fullTunnel: false })).toEqual([]);
  });
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

test("macChange: from one gateway to another the old routes go first, and what both have stays", async () => {
  const { calls, run, log } = recorder();
  const before = macChange("routing", macRoutes("192.0.2.1"), "warn", run, log);
  const after = macChange("routing", macRoutes("192.0.2.254"), "warn", run, log, before.undo);
  expect(after.key).not.toBe(before.key);
  await after.apply();
  expect(calls).toEqual([
    "route -q -n delete -inet 192.168.7.0/24 -gateway 192.0.2.1",
    "route -q -n delete -inet 198.51.100.1/32 -gateway 192.0.2.1",
    "route -q -n add -inet 198.51.100.1/32 -gateway 192.0.2.254",
    "route -q -n add -inet 192.168.7.0/24 -gateway 192.0.2.254",
  ]);
});

function macRoutes(gateway: string) {
  return routeCommandsMacos(CLIENT, planRoutes(CLIENT), { 4: gateway, 6: null });
}

describe("planMacos", () => {
  test("a server asks for the way out and the present forwarding, then changes", async () => {
    const { calls, run, log } = recorder({
      "route -n get -inet default": "  gateway: 192.0.2.1\n  interface: en5\n",
    });
    const changes = await planMacos(SERVER, NOTHING_STANDS, run, log);
    expect(changes.map(({ name }) => name)).toEqual(["link", "NAT"]);
    expect(calls).toHaveLength(3);
  });

  test("a client gets link, routing and DNS; a missing gateway leaves out the routes by it", async () => {
    const { run, log } = recorder();
    const changes = await planMacos(CLIENT, NOTHING_STANDS, run, log);
    expect(changes.map(({ name, undo }) => [name, undo.length])).toEqual([
      ["link", 0],
      ["routing", 4],
      ["DNS", 1],
      ["DNS guard", 1],
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
