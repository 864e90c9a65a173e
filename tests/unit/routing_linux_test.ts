import { describe, expect, test } from "bun:test";
import { type Family, parsePrefix } from "../../lib/address.ts";
import type { RunCommand } from "../../lib/command.ts";
import type { ClientPlan } from "../../lib/host_plan.ts";
import { NO_LOCAL_NETWORKS } from "../../lib/local_networks.ts";
import { planRoutes } from "../../lib/route_plan.ts";
import {
  chooseSlot,
  familyRouting,
  ownRouting,
  parseRules,
  planRouting,
  transition,
} from "../../lib/routing_linux.ts";
import type { UndoStep } from "../../lib/undo_journal.ts";
import { memoryLog } from "../support/memory_log.ts";

const PLAN: ClientPlan = {
  role: "client",
  tun: "omail0",
  mtuBytes: 1420,
  addresses: ["10.8.0.2/24"],
  gsoMaxBytes: null,
  fullTunnel: true,
  routes: ["172.16.0.0/12"],
  excludes: ["192.168.0.0/16"],
  allowLan: false,
  endpoints: [{ address: "198.51.100.1", port: 51820 }],
  dns: [],
  searchDomains: [],
  guardDns: true,
};

describe("familyRouting", () => {
  const lines = (plan: ClientPlan, family: Family, local = NO_LOCAL_NETWORKS, slot = 1) =>
    transition([], familyRouting(plan, planRoutes(plan), local, slot, family));

  test("a full tunnel: what stays outside jumps to the mark, all else goes in", () => {
    expect(lines(PLAN, 4)).toEqual([
      "route add default dev omail0 scope global table 51821",
      "rule add pref 30013 nop",
      "rule add pref 29962 to 198.51.100.1/32 goto 30013",
      "rule add pref 30008 to 192.168.0.0/16 goto 30013",
      "rule add pref 30008 ipproto udp sport 68 dport 67 goto 30013",
      "rule add pref 30010 dport 53 lookup 51821",
      "rule add pref 30010 dport 853 lookup 51821",
      "rule add pref 30012 lookup 51821",
    ]);
  });

  test("the local network only if it is allowed, after DNS; networks inside the machine always, before", () => {
    const local = {
      inside: [parsePrefix("172.17.0.0/16")],
      insideDevices: [],
      tunnels: [],
      lan: [parsePrefix("10.1.0.0/24")],
    };
    const shown = (plan: ClientPlan) => lines(plan, 4, local).filter((line) => /172\.17|10\.1|53/.test(line));
    const strict = [
      "rule add pref 30009 to 172.17.0.0/16 goto 30013",
      "rule add pref 30010 dport 53 lookup 51821",
    ];
    expect(shown(PLAN)).toEqual([...strict, "rule add pref 30010 dport 853 lookup 51821"]);
    expect(shown({ ...PLAN, allowLan: true }).at(-1)).toBe("rule add pref 30011 to 10.1.0.0/24 goto 30013");
  });

  test("--no-dns leaves queries alone", () => {
    expect(lines({ ...PLAN, guardDns: false }, 4).join()).not.toContain("dport 53");
  });

  test("a family without a tunnel address becomes unreachable, except for servers", () => {
    const plan = { ...PLAN, endpoints: [{ address: "2001:db8::1", port: 1 }] };
    expect(lines(plan, 6, NO_LOCAL_NETWORKS, 0)).toEqual([
      "rule add pref 30005 nop",
      "rule add pref 29963 to 2001:db8::1/128 goto 30005",
      "rule add pref 30002 dport 53 unreachable",
      "rule add pref 30002 dport 853 unreachable",
      "rule add pref 30004 unreachable",
    ]);
  });

  test("a split tunnel needs routes only", () => {
    const plan = { ...PLAN, fullTunnel: false, routes: ["172.16.0.0/12", "fd00:5::/48"] };
    expect(lines(plan, 6)).toEqual(["route add fd00:5::/48 dev omail0 metric 1"]);
    expect(lines(plan, 4)).toEqual(["route prepend 172.16.0.0/12 dev omail0"]);
  });
});

describe("transition", () => {
  const steps = (plan: ClientPlan) => familyRouting(plan, planRoutes(plan), NO_LOCAL_NETWORKS, 0, 4);

  test("to the same routing has nothing to do", () => {
    expect(transition(steps(PLAN), steps(PLAN))).toEqual([]);
  });

  test("adds what is new before it removes what is old, and touches nothing else", () => {
    const moved = { ...PLAN, endpoints: [{ address: "198.51.100.9", port: 51820 }] };
    expect(transition(steps(PLAN), steps(moved))).toEqual([
      "rule add pref 29963 to 198.51.100.9/32 goto 30005",
      "rule del pref 29963 to 198.51.100.1/32 goto 30005",
    ]);
  });
});

describe("planRouting", () => {
  /** A machine whose `ip rule show` prints these rules of ours for IPv4. */
  function machine(rules: readonly object[]) {
    const scripts: string[] = [];
    const run: RunCommand = async (argv, input) => {
      if (input !== undefined) scripts.push(input);
      return {
        status: 0,
        stdout: argv.join(" ").startsWith("ip -4 -json rule") ? JSON.stringify(rules) : "[]",
        stderr: "",
      };
    };
    return { run, scripts, ...memoryLog() };
  }
  const plan = async (m: ReturnType<typeof machine>, standing: readonly UndoStep[]) =>
    planRouting(PLAN, planRoutes(PLAN), NO_LOCAL_NETWORKS, standing, m.run, m.log);

  test("rules that somebody removed are made again", async () => {
    const first = await plan(machine([]), []);
    const own = first.undo.filter((step) => step.kind === "rule" && step.family === 4);
    const lost = machine([]);
    const again = await plan(lost, first.undo);
    expect(again.key).not.toBe(first.key);
    await again.apply();
    expect(lost.scripts.join("").match(/rule add .* lookup 51883$/gm)).toHaveLength(3);
    const there = machine(
      own.map((step) => ({ priority: step.kind === "rule" ? Number(step.selector[1]) : 0 })),
    );
    const kept = await plan(
      there,
      first.undo.filter((step) => "family" in step && step.family === 4),
    );
    await kept.apply();
    expect(there.scripts.join("")).not.toContain("rule add pref 30508 lookup");
  });
});

describe("ownRouting", () => {
  const steps = familyRouting(PLAN, planRoutes(PLAN), NO_LOCAL_NETWORKS, 0, 4);
  const printing =
    (stdout: string): RunCommand =>
    async () => ({ status: 0, stdout, stderr: "" });

  test("keeps steps whose table is empty or leads into our device", async () => {
    expect(await ownRouting(steps, "omail0", printing(""))).toEqual(steps);
    expect(await ownRouting(steps, "omail0", printing("default dev omail0 scope link\n"))).toEqual(steps);
  });

  test("gives up those whose table another tunnel has by now", async () => {
    expect(await ownRouting(steps, "omail0", printing("default dev omail1 scope link\n"))).toEqual([]);
  });
});

describe("chooseSlot", () => {
  test("starts at the end, less the number in the interface's name", () => {
    expect([chooseSlot("omail0", []), chooseSlot("omail7", []), chooseSlot("tunnel", [])]).toEqual([
      63, 56, 63,
    ]);
  });

  test("takes a slot in front of those in use, by table or by preference", () => {
    expect(chooseSlot("omail0", [{ priority: 32764, table: "51830" }])).toBe(9);
    expect(chooseSlot("omail0", [{ priority: 30000 + 8 * 20 + 3, table: "main" }])).toBe(19);
    expect(chooseSlot("omail7", [{ priority: 30000 + 8 * 63 }])).toBe(56);
  });

  test("knows the rules in front of all blocks for its own", () => {
    expect(chooseSlot("omail0", [{ priority: 29900 }])).toBe(62);
  });

  test("comes back to free ones when there is none in front", () => {
    expect(chooseSlot("omail0", [{ priority: 30000 }])).toBe(63);
  });

  test("fails when all are taken", () => {
    const rules = Array.from({ length: 64 }, (_, slot) => ({ priority: 30000 + slot * 8 }));
    expect(() => chooseSlot("omail0", rules)).toThrow('"51820" to "51883" are in use');
  });
});

describe("parseRules", () => {
  test("reads what ip prints", () => {
    const json = '[{"priority":0,"src":"all","table":"local"},{"priority":32766,"src":"all","table":"main"}]';
    expect(parseRules(json).map(({ priority }) => priority)).toEqual([0, 32766]);
  });

  test("takes no output for no rules, as ip prints it without IPv6", () => {
    expect(parseRules("")).toEqual([]);
  });
});
