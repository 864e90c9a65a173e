import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { planForwarding, undoForwarding } from "../../lib/forwarding_linux.ts";
import type { HostChange } from "../../lib/host_change.ts";
import type { Instance } from "../../lib/instance.ts";
import type { Log } from "../../lib/log.ts";
import { memoryLog } from "../support/memory_log.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

const FRESH = {
  "net/ipv4/ip_forward": "0",
  "net/ipv4/conf/all/accept_redirects": "0",
  "net/ipv4/conf/eth0/forwarding": "0",
  "net/ipv6/conf/all/forwarding": "0",
  "net/ipv6/conf/all/accept_ra": "1",
  "net/ipv6/conf/eth0/accept_ra": "1",
  "net/ipv6/conf/eth1/accept_ra": "0",
  "net/ipv6/conf/eth0/forwarding": "1",
  "net/ipv6/conf/omail0/accept_ra": "1",
};

/** A machine of files in place of /proc/sys: it does not have the kernel's side effects, tests make those. */
function machine(values: Readonly<Record<string, string>> = FRESH) {
  const root = scratch();
  const shared = scratch();
  for (const [name, value] of Object.entries(values)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), `${value}\n`);
  }
  const read = () =>
    Object.fromEntries(
      Object.keys(values).map((name) => [name, readFileSync(join(root, name), "utf8").trim()]),
    );
  const plan = (tun: string, log: Log) => planForwarding(instanceOf(tun, root), log, root, shared);
  return { root, shared, read, plan, ...memoryLog() };
}

function instanceOf(tun: string, stateDir: string): Instance {
  return { role: "server", tun, stateDir, journalPath: "", socketPath: "", lockPath: "" };
}

async function undo(change: HostChange, log: Log): Promise<void> {
  for (const step of change.undo) if (step.kind === "forwarding") await undoForwarding(step, log);
}

/** Makes the only claim one of a process that died. */
function killOwner(shared: string, claim: string): void {
  const directory = join(shared, readdirSync(shared)[0] ?? "");
  const path = join(directory, claim);
  writeFileSync(path, readFileSync(path, "utf8").replace(/"startTime":"\d+"/, '"startTime":"1"'));
}

describe("planForwarding", () => {
  test("switches both families on, and keeps router advertisements where they were taken", async () => {
    const { read, plan, log } = machine();
    await (await plan("omail0", log)).apply();
    expect(read()).toMatchObject({
      "net/ipv4/ip_forward": "1",
      "net/ipv6/conf/all/forwarding": "1",
      "net/ipv6/conf/eth0/accept_ra": "2",
      "net/ipv6/conf/eth1/accept_ra": "0",
      "net/ipv6/conf/omail0/accept_ra": "1",
    });
  });

  test("all is as before afterwards, also what the kernel changes along", async () => {
    const { root, shared, read, plan, log } = machine();
    const change = await plan("omail0", log);
    await change.apply();
    // What the kernel does when ip_forward and all.forwarding go back to 0.
    writeFileSync(join(root, "net/ipv4/conf/all/accept_redirects"), "1");
    writeFileSync(join(root, "net/ipv6/conf/eth0/forwarding"), "0");
    await undo(change, log);
    expect(read()).toEqual(FRESH);
    expect(readdirSync(shared)).toEqual([]);
  });

  test("a kernel without IPv6 gets IPv4 only", async () => {
    const { read, plan, log } = machine({ "net/ipv4/ip_forward": "0" });
    await (await plan("omail0", log)).apply();
    expect(read()).toEqual({ "net/ipv4/ip_forward": "1" });
  });

  test("what was on before stays on", async () => {
    const values = { "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1" };
    const { read, plan, log } = machine(values);
    const change = await plan("omail0", log);
    await change.apply();
    await undo(change, log);
    expect(read()).toEqual(values);
  });

  test("a value that somebody else changed meanwhile stays", async () => {
    const { root, read, plan, log } = machine();
    const change = await plan("omail0", log);
    await change.apply();
    writeFileSync(join(root, "net/ipv6/conf/eth0/accept_ra"), "0");
    await undo(change, log);
    expect(read()["net/ipv6/conf/eth0/accept_ra"]).toBe("0");
  });
});

describe("planForwarding: several servers", () => {
  for (const order of [
    [0, 1],
    [1, 0],
  ]) {
    test(`the last to leave puts it back (order ${order.join(", ")})`, async () => {
      const { read, plan, log } = machine();
      const changes: HostChange[] = [];
      for (const tun of ["omail0", "omail1"]) {
        const change = await plan(tun, log);
        await change.apply();
        changes.push(change);
      }
      await undo(changes[order[0]!]!, log);
      expect(read()["net/ipv4/ip_forward"]).toBe("1");
      await undo(changes[order[1]!]!, log);
      expect(read()["net/ipv4/ip_forward"]).toBe("0");
    });
  }

  test("a dead one does not keep it on, and its original values count", async () => {
    const { shared, read, plan, log } = machine();
    await (await plan("omail0", log)).apply();
    killOwner(shared, "server-omail0");
    const second = await plan("omail1", log);
    await second.apply();
    await undo(second, log);
    expect(read()["net/ipv4/ip_forward"]).toBe("0");
  });

  test("the journal of a dead one leaves it on for those that live", async () => {
    const { shared, read, plan, log } = machine();
    const dead = await plan("omail0", log);
    await dead.apply();
    killOwner(shared, "server-omail0");
    const second = await plan("omail1", log);
    await second.apply();
    await undo(dead, log);
    expect(read()["net/ipv4/ip_forward"]).toBe("1");
    await undo(second, log);
    expect(read()["net/ipv4/ip_forward"]).toBe("0");
  });
});

test("planForwarding: claims go to the state directory when the shared one cannot be written", async () => {
  const { root, log } = machine();
  const change = await planForwarding(instanceOf("omail0", root), log, root, "/proc/no-such-place");
  await change.apply();
  expect(readdirSync(root).filter((name) => name.startsWith("forwarding-"))).toHaveLength(1);
  await undo(change, log);
  expect(readdirSync(root).filter((name) => name.startsWith("forwarding-"))).toEqual([]);
});
