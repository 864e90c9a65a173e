import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  lstatSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { RunCommand } from "../../lib/command.ts";
import {
  planDns,
  resolvConfText,
  undoResolvConf,
  undoResolvconf,
  type DnsHost,
  type DnsRequest,
} from "../../lib/dns_linux.ts";
import type { HostChange } from "../../lib/host_change.ts";
import { memoryLog } from "../support/memory_log.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();
const ORIGINAL = "search example.org\nnameserver 192.0.2.53\noptions edns0\n";

function machine(commands: readonly string[] = [], failing: readonly string[] = []) {
  const calls: string[] = [];
  const run: RunCommand = async (argv) => {
    calls.push(argv.join(" "));
    return {
      status: failing.some((start) => argv.join(" ").startsWith(start)) ? 1 : 0,
      stdout: "",
      stderr: "",
    };
  };
  const resolvConf = join(scratch(), "resolv.conf");
  const host: DnsHost = { resolvConf, run, has: (command) => commands.includes(command) };
  return { calls, host, resolvConf, ...memoryLog() };
}

/** A full tunnel's DNS without search domains. */
function plan(tun: string, servers: readonly string[], m: ReturnType<typeof machine>) {
  return planDns(request(tun, servers), m.host, [], m.log);
}

function request(tun: string, servers: readonly string[], more: Partial<DnsRequest> = {}): DnsRequest {
  return { tun, servers, searchDomains: [], fullTunnel: true, ...more };
}

/** Undoes a change of the file itself. */
function undo(change: HostChange | null, { log }: ReturnType<typeof memoryLog>): void {
  for (const step of change?.undo ?? []) if (step.kind === "resolv-conf") undoResolvConf(step, log);
}

describe("planDns: the file itself", () => {
  test("a file comes back byte for byte with its mode, and nothing stays beside it", async () => {
    const m = machine();
    const bytes = Buffer.from([...Buffer.from(ORIGINAL), 0xff, 0x0a]);
    writeFileSync(m.resolvConf, bytes);
    chmodSync(m.resolvConf, 0o640);
    const change = await plan("omail0", ["10.8.0.1", "fd00::1"], m);
    await change?.apply();
    expect(readFileSync(m.resolvConf, "utf8")).toContain(
      "nameserver 10.8.0.1\nnameserver fd00::1\noptions edns0\n",
    );
    expect(lstatSync(m.resolvConf).mode & 0o777).toBe(0o644);
    undo(change, m);
    expect(readFileSync(m.resolvConf)).toEqual(bytes);
    expect(lstatSync(m.resolvConf).mode & 0o777).toBe(0o640);
    expect(readdirSync(dirname(m.resolvConf))).toEqual(["resolv.conf"]);
  });

  test("a symlink comes back as one, and its target is never written", async () => {
    const m = machine();
    const target = join(dirname(m.resolvConf), "stub");
    writeFileSync(target, ORIGINAL);
    symlinkSync("stub", m.resolvConf);
    const change = await plan("omail0", ["10.8.0.1"], m);
    await change?.apply();
    expect(readFileSync(target, "utf8")).toBe(ORIGINAL);
    undo(change, m);
    expect(readlinkSync(m.resolvConf)).toBe("stub");
  });

  test("a file that was not there is removed", async () => {
    const m = machine();
    const change = await plan("omail0", ["10.8.0.1"], m);
    await change?.apply();
    undo(change, m);
    expect(readdirSync(dirname(m.resolvConf))).toEqual([]);
  });

  test("what somebody else wrote meanwhile stays", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, ORIGINAL);
    const change = await plan("omail0", ["10.8.0.1"], m);
    await change?.apply();
    writeFileSync(m.resolvConf, "nameserver 203.0.113.1\n");
    undo(change, m);
    expect(readFileSync(m.resolvConf, "utf8")).toBe("nameserver 203.0.113.1\n");
  });

  test("a change that was journaled and never made is undone without harm", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, ORIGINAL);
    undo(await plan("omail0", ["10.8.0.1"], m), m);
    expect(readFileSync(m.resolvConf, "utf8")).toBe(ORIGINAL);
  });

  test("a second tunnel leaves the first one's file alone and says so", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, resolvConfText(request("omail0", ["10.8.0.1"]), ""));
    expect(await plan("omail1", ["10.9.0.1"], m)).toBeNull();
    expect(m.lines[0]?.message).toContain('the tunnel "omail0" has it');
  });
});

describe("planDns: methods", () => {
  test("no servers, no change", async () => {
    const m = machine();
    expect(await plan("omail0", [], m)).toBeNull();
  });

  test("systemd-resolved is told by link, and forgets it with the link or by one command", async () => {
    const m = machine(["resolvectl", "resolvconf"]);
    writeFileSync(m.resolvConf, "nameserver 127.0.0.53\n");
    const change = await plan("omail0", ["10.8.0.1"], m);
    await change?.apply();
    expect(change?.undo).toEqual([{ kind: "resolved", tun: "omail0" }]);
    expect(m.calls.slice(1)).toEqual([
      "resolvectl dns omail0 10.8.0.1",
      "resolvectl domain omail0 ~.",
      "resolvectl default-route omail0 true",
    ]);
  });

  test("a resolved that does not know our link (another namespace) is passed over", async () => {
    const m = machine(["resolvectl"], ["resolvectl dns"]);
    writeFileSync(m.resolvConf, "nameserver 127.0.0.53\n");
    expect((await plan("omail0", ["10.8.0.1"], m))?.undo[0]?.kind).toBe("resolv-conf");
  });

  test("resolvconf is used when it wrote the file", async () => {
    const m = machine(["resolvconf"]);
    writeFileSync(m.resolvConf, "# Generated by resolvconf\nnameserver 192.0.2.53\n");
    const change = await plan("omail0", ["10.8.0.1"], m);
    await change?.apply();
    expect(m.calls[0]).toMatch(/^resolvconf -a (tun\.)?omail0 -m 0 -x$/);
    await undoResolvconf("omail0", m.host.run, m.log);
    expect(m.calls[1]).toBe("resolvconf -d omail0 -f");
  });
});

describe("split DNS", () => {
  const split = request("omail0", ["10.8.0.1"], { searchDomains: ["corp.example"], fullTunnel: false });

  test("systemd-resolved asks the tunnel for its domains only", async () => {
    const m = machine(["resolvectl"]);
    writeFileSync(m.resolvConf, "nameserver 127.0.0.53\n");
    await (await planDns(split, m.host, [], m.log))?.apply();
    expect(m.calls.slice(1)).toEqual([
      "resolvectl dns omail0 10.8.0.1",
      "resolvectl domain omail0 corp.example",
      "resolvectl default-route omail0 false",
    ]);
  });

  test("resolvconf keeps the machine's own servers behind the tunnel's", async () => {
    const m = machine(["resolvconf"]);
    writeFileSync(m.resolvConf, "# Generated by resolvconf\nnameserver 192.0.2.53\n");
    await (await planDns(split, m.host, [], m.log))?.apply();
    expect(m.calls[0]).toMatch(/^resolvconf -a (tun\.)?omail0 -m 0$/);
  });

  test("a plain file asks the tunnel's servers first, and the log says that it cannot split", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, ORIGINAL);
    await (await planDns(split, m.host, [], m.log))?.apply();
    expect(readFileSync(m.resolvConf, "utf8")).toEndWith(
      "search corp.example example.org\nnameserver 10.8.0.1\nnameserver 192.0.2.53\noptions edns0\n",
    );
    expect(m.lines[0]?.message).toContain("cannot ask by domain");
  });

  test("a full tunnel completes names, and asks nobody else", () => {
    const text = resolvConfText({ ...split, fullTunnel: true }, ORIGINAL);
    expect(text).toEndWith("search corp.example\nnameserver 10.8.0.1\noptions edns0\n");
  });
});

describe("planDns: a second plan", () => {
  test("takes the first one's place, and the original still comes back", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, ORIGINAL);
    const first = await plan("omail0", ["10.8.0.1"], m);
    await first?.apply();
    const second = await planDns(request("omail0", ["10.9.0.1"]), m.host, first?.undo ?? [], m.log);
    expect(second?.key).not.toBe(first?.key ?? "");
    await second?.apply();
    expect(readFileSync(m.resolvConf, "utf8")).toContain("nameserver 10.9.0.1\noptions edns0\n");
    undo(second, m);
    expect(readFileSync(m.resolvConf, "utf8")).toBe(ORIGINAL);
  });

  test("the same plan again has the same key while nobody touches the file", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, ORIGINAL);
    const first = await plan("omail0", ["10.8.0.1"], m);
    await first?.apply();
    const again = await planDns(request("omail0", ["10.8.0.1"]), m.host, first?.undo ?? [], m.log);
    expect(again?.key).toBe(first?.key ?? "");
  });

  test("what somebody else wrote meanwhile is the new original", async () => {
    const m = machine();
    writeFileSync(m.resolvConf, ORIGINAL);
    const first = await plan("omail0", ["10.8.0.1"], m);
    await first?.apply();
    writeFileSync(m.resolvConf, "nameserver 203.0.113.1\n");
    const again = await planDns(request("omail0", ["10.8.0.1"]), m.host, first?.undo ?? [], m.log);
    expect(again?.key).not.toBe(first?.key ?? "");
    await again?.apply();
    expect(readFileSync(m.resolvConf, "utf8")).toContain("nameserver 10.8.0.1\n");
    undo(again, m);
    expect(readFileSync(m.resolvConf, "utf8")).toBe("nameserver 203.0.113.1\n");
  });
});

test("resolvConfText: no more servers than glibc reads, no search domains of the machine", () => {
  const servers = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
  const text = resolvConfText(request("omail0", servers), ORIGINAL);
  expect(text.match(/^nameserver/gm)).toHaveLength(3);
  expect(text).not.toContain("search");
});
