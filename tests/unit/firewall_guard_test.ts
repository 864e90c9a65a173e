import { describe, expect, test } from "bun:test";
import { parsePrefix } from "../../lib/address.ts";
import type { RunCommand } from "../../lib/command.ts";
import { SystemError } from "../../lib/errors.ts";
import {
  dnsGuardScript,
  killSwitchScript,
  killSwitchTableName,
  planDnsGuard,
  planKillSwitch,
} from "../../lib/firewall_guard.ts";
import type { ClientPlan, KillSwitchPlan } from "../../lib/host_plan.ts";
import { NO_LOCAL_NETWORKS } from "../../lib/local_networks.ts";

const KILL: KillSwitchPlan = { tun: "omail0", excludes: [], allowLan: false, guardDns: true };
const ENDPOINTS = [
  { address: "198.51.100.1", port: 51820 },
  { address: "2001:db8::1", port: 443 },
];
const LOCAL = {
  inside: [parsePrefix("172.17.0.0/16")],
  insideDevices: ["docker0", "wg0"],
  tunnels: ["wg0"],
  lan: [parsePrefix("192.168.1.0/24"), parsePrefix("192.168.1.0/25")],
};
const CLIENT: ClientPlan = {
  role: "client",
  tun: "omail0",
  mtuBytes: 1420,
  addresses: ["10.8.0.2/24"],
  gsoMaxBytes: null,
  fullTunnel: true,
  routes: [],
  excludes: ["192.0.2.0/24"],
  allowLan: false,
  endpoints: ENDPOINTS,
  dns: [],
  searchDomains: [],
  guardDns: true,
};

describe("killSwitchScript", () => {
  test("replaces itself in one transaction, and drops by default, forwarded packets too", () => {
    const script = killSwitchScript(KILL, ENDPOINTS, NO_LOCAL_NETWORKS);
    const table = "inet omail_kill_omail0";
    expect(script).toStartWith(`table ${table}\ndelete table ${table}\ntable ${table} {\n`);
    expect(script.match(/hook (output|forward) priority filter; policy drop;/g)).toHaveLength(2);
  });

  test("lets the servers' endpoints out by address, protocol and port, each once", () => {
    const script = killSwitchScript(KILL, [...ENDPOINTS, ...ENDPOINTS], NO_LOCAL_NETWORKS);
    expect(script).toContain("elements = { 198.51.100.1 . tcp . 51820, 198.51.100.1 . udp . 51820 }");
    expect(script).toContain("elements = { 2001:db8::1 . tcp . 443, 2001:db8::1 . udp . 443 }");
  });

  test("without servers its sets are empty, not malformed", () => {
    expect(killSwitchScript(KILL, [], NO_LOCAL_NETWORKS)).not.toContain("elements");
  });

  test("the local network only if allowed, behind the refusal of DNS, nested networks once", () => {
    expect(killSwitchScript(KILL, [], LOCAL)).not.toContain("192.168.1.0");
    const script = killSwitchScript({ ...KILL, allowLan: true }, [], LOCAL);
    expect(script).toContain("elements = { 192.168.1.0/24, 172.17.0.0/16, 255.255.255.255/32 }");
    expect(script.indexOf("dport { 53, 853 } reject")).toBeLessThan(script.indexOf("@lan4 accept"));
    expect(killSwitchScript({ ...KILL, allowLan: true, guardDns: false }, [], LOCAL)).not.toContain("853");
  });

  test("answers from the tunnel reach containers", () => {
    expect(killSwitchScript(KILL, [], LOCAL)).toContain(
      'iifname "omail0" oifname { "docker0", "wg0" } accept',
    );
  });
});

test("killSwitchTableName: is found without a journal", () => {
  expect(killSwitchTableName("omail0")).toBe("omail_kill_omail0");
});

test("planKillSwitch: a kernel that refuses it ends the start", async () => {
  const run: RunCommand = async () => ({ status: 1, stdout: "", stderr: "Operation not supported" });
  const change = planKillSwitch(KILL, ENDPOINTS, NO_LOCAL_NETWORKS, run);
  expect(change).toMatchObject({
    onFailure: "throw",
    undo: [{ kind: "kill-switch", table: "omail_kill_omail0" }],
  });
  await expect(change.apply()).rejects.toBeInstanceOf(SystemError);
});

describe("DNS guard", () => {
  test("refuses queries outside, except to excluded networks and into the machine", () => {
    const script = dnsGuardScript(CLIENT, LOCAL);
    expect(script).toContain("elements = { 192.0.2.0/24, 172.17.0.0/16 }");
    expect(script).toContain('oifname { "lo", "omail0", "wg0" } accept');
    expect(script).toContain("th dport { 53, 853 } reject with icmpx admin-prohibited");
    expect(script).not.toContain("policy drop");
  });

  test("is for full tunnels, and not with --no-dns", () => {
    const run: RunCommand = () => Promise.reject(new Error("not run"));
    expect(planDnsGuard({ ...CLIENT, fullTunnel: false }, LOCAL, run)).toBeNull();
    expect(planDnsGuard({ ...CLIENT, guardDns: false }, LOCAL, run)).toBeNull();
    expect(planDnsGuard(CLIENT, LOCAL, run)?.onFailure).toBe("warn");
  });
});
