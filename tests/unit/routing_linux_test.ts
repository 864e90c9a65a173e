import { describe, expect, test } from "bun:test";
import type { ClientPlan } from "../../lib/host_plan.ts";
import { planRoutes } from "../../lib/route_plan.ts";
import { chooseSlot, familyRouting, parseRules } from "../../lib/routing_linux.ts";

const PLAN: ClientPlan = {
  role: "client",
  tun: "omail0",
  mtuBytes: 1420,
  addresses: ["10.8.0.2/24"],
  gsoMaxBytes: null,
  fullTunnel: true,
  routes: ["172.16.0.0/12"],
  excludes: ["192.168.0.0/16"],
  server: { address: "198.51.100.1", port: 51820 },
  dns: [],
};

describe("familyRouting", () => {
  test("a full tunnel: table first, then server, excludes, specific routes, tunnel", () => {
    expect(familyRouting(PLAN, planRoutes(PLAN), 1, 4).lines).toEqual([
      "route prepend 172.16.0.0/12 dev omail0",
      "route add default dev omail0 table 51821",
      "rule add pref 30004 to 198.51.100.1 lookup main",
      "rule add pref 30005 to 192.168.0.0/16 lookup main",
      "rule add pref 30006 lookup main suppress_prefixlength 0",
      "rule add pref 30007 lookup 51821",
    ]);
  });

  test("a family without a tunnel address becomes unreachable, and that route is undone", () => {
    const routing = familyRouting(PLAN, planRoutes(PLAN), 0, 6);
    expect(routing.lines[0]).toBe("route add unreachable default table 51820");
    expect(routing.lines).not.toContainEqual(expect.stringContaining("198.51.100.1"));
    expect(routing.undo[0]).toEqual({
      kind: "route",
      family: 6,
      route: ["unreachable", "default", "table", "51820"],
    });
  });

  test("each rule is undone by the very words that made it", () => {
    const { lines, undo } = familyRouting(PLAN, planRoutes(PLAN), 3, 4);
    const added = lines
      .filter((line) => line.startsWith("rule add "))
      .map((line) => line.slice("rule add ".length));
    expect(undo.map((step) => (step.kind === "rule" ? step.selector.join(" ") : step.kind))).toEqual(added);
  });

  test("a split tunnel needs routes only, and leaves nothing to undo", () => {
    const plan = { ...PLAN, fullTunnel: false, routes: ["172.16.0.0/12", "fd00:5::/48"] };
    expect(familyRouting(plan, planRoutes(plan), 0, 6)).toEqual({
      family: 6,
      lines: ["route add fd00:5::/48 dev omail0 metric 1"],
      undo: [],
    });
  });
});

describe("chooseSlot", () => {
  test("starts at the number in the interface's name", () => {
    expect([chooseSlot("omail0", []), chooseSlot("omail7", []), chooseSlot("tunnel", [])]).toEqual([0, 7, 0]);
  });

  test("passes over tables and preferences in use", () => {
    const rules = [
      { priority: 32764, table: "51820" },
      { priority: 30005, table: "main" },
    ];
    expect(chooseSlot("omail0", rules)).toBe(2);
  });

  test("fails when all are taken", () => {
    const rules = Array.from({ length: 64 }, (_, slot) => ({ priority: 30000 + slot * 4 }));
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
