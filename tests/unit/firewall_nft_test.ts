import { describe, expect, test } from "bun:test";
import type { RunCommand } from "../../lib/command.ts";
import { PrivilegeError, SystemError } from "../../lib/errors.ts";
import { droppingChains, natScript, natTableName, planNat } from "../../lib/firewall_nft.ts";
import { memoryLog } from "../support/memory_log.ts";

describe("natTableName", () => {
  test("a plain interface name is the table's name", () => {
    expect(natTableName("omail0")).toBe("omail_omail0");
  });

  test("names that look alike afterwards still differ", () => {
    const names = [natTableName("a.b"), natTableName("a-b"), natTableName("a_b")];
    expect(new Set(names).size).toBe(3);
    for (const name of names) expect(name).toMatch(/^[a-z0-9_]+$/);
  });
});

test("natScript: replaces the table, masquerades what leaves the tunnel, clamps both ways", () => {
  const script = natScript("omail0");
  expect(script).toStartWith("table inet omail_omail0\ndelete table inet omail_omail0\n");
  expect(script).toContain('iifname "omail0" oifname != "omail0" masquerade');
  expect(script.match(/maxseg size set rt mtu/g)).toHaveLength(2);
});

test("droppingChains: finds base chains on forward with policy drop, nothing else", () => {
  const chain = { family: "ip", table: "filter", name: "FORWARD", hook: "forward", policy: "drop" };
  const json = JSON.stringify({
    nftables: [
      { metainfo: { version: "1.0.6" } },
      { chain },
      { chain: { ...chain, name: "INPUT", hook: "input" } },
      { chain: { ...chain, table: "other", policy: "accept" } },
      { chain: { family: "ip", table: "filter", name: "DOCKER" } },
    ],
  });
  expect(droppingChains(json, "forward")).toEqual([{ family: "ip", table: "filter", name: "FORWARD" }]);
});

function failing(stderr: string): RunCommand {
  return async () => ({ status: 1, stdout: "", stderr });
}

describe("planNat", () => {
  test("journals its table by name", () => {
    const { log } = memoryLog();
    expect(planNat("omail0", failing(""), log).undo).toEqual([{ kind: "nft-table", table: "omail_omail0" }]);
  });

  test("says what to install when the kernel has no nftables", async () => {
    const { log } = memoryLog();
    const change = planNat("omail0", failing("Error: Could not process rule: Operation not supported"), log);
    await expect(change.apply()).rejects.toThrow(/linux-image-amd64 nftables/);
    await expect(change.apply()).rejects.toBeInstanceOf(SystemError);
  });

  test("says that root is needed", async () => {
    const { log } = memoryLog();
    const change = planNat("omail0", failing("Operation not permitted (you must be root)"), log);
    await expect(change.apply()).rejects.toBeInstanceOf(PrivilegeError);
  });
});
