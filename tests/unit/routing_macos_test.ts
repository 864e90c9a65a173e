import { describe, expect, test } from "bun:test";
import type { ClientPlan } from "../../lib/host_plan.ts";
import { planRoutes } from "../../lib/route_plan.ts";
import { linkCommandsMacos, routeCommandsMacos } from "../../lib/routing_macos.ts";

const PLAN: ClientPlan = {
  role: "client",
  tun: "utun7",
  mtuBytes: 1420,
  addresses: ["10.8.0.2/24", "fd00::2/64"],
  gsoMaxBytes: null,
  fullTunnel: true,
  routes: [],
  excludes: ["192.168.0.0/16"],
  allowLan: false,
  endpoints: [{ address: "198.51.100.1", port: 51820 }],
  dns: [],
  searchDomains: [],
  guardDns: true,
};

const lines = (plan: ClientPlan, gateway: string | null = "192.0.2.1") =>
  routeCommandsMacos(plan, planRoutes(plan), { 4: gateway, 6: null }).map(({ argv }) => argv.join(" "));

test("linkCommandsMacos: MTU, addresses, up, then the networks that a utun does not get by itself", () => {
  expect(linkCommandsMacos(PLAN).map(({ argv }) => argv.join(" "))).toEqual([
    "ifconfig utun7 mtu 1420",
    "ifconfig utun7 inet 10.8.0.2/24 10.8.0.2 alias",
    "ifconfig utun7 inet6 fd00::2/64 alias",
    "ifconfig utun7 up",
    "route -q -n add -inet 10.8.0.0/24 -interface utun7",
    "route -q -n add -inet6 fd00::/64 -interface utun7",
  ]);
});

describe("routeCommandsMacos", () => {
  test("a full tunnel: server and excludes by the gateway first, then two halves per family", () => {
    expect(lines(PLAN)).toEqual([
      "route -q -n add -inet 198.51.100.1/32 -gateway 192.0.2.1",
      "route -q -n add -inet 192.168.0.0/16 -gateway 192.0.2.1",
      "route -q -n add -inet 0.0.0.0/1 -interface utun7",
      "route -q -n add -inet 128.0.0.0/1 -interface utun7",
      "route -q -n add -inet6 ::/1 -interface utun7",
      "route -q -n add -inet6 8000::/1 -interface utun7",
    ]);
  });

  test("a family without an address is rejected", () => {
    expect(lines({ ...PLAN, addresses: ["10.8.0.2/24"] }).slice(-2)).toEqual([
      "route -q -n add -inet6 ::/1 ::1 -reject",
      "route -q -n add -inet6 8000::/1 ::1 -reject",
    ]);
  });

  test("a split tunnel adds its routes only", () => {
    expect(lines({ ...PLAN, fullTunnel: false, routes: ["172.16.0.0/12"] })).toEqual([
      "route -q -n add -inet 172.16.0.0/12 -interface utun7",
    ]);
  });

  test("each command is undone by the same words", () => {
    const commands = routeCommandsMacos(PLAN, planRoutes(PLAN), { 4: "192.0.2.1", 6: null });
    for (const { argv, undo } of commands) {
      expect(undo?.argv).toEqual(argv.map((word) => (word === "add" ? "delete" : word)));
    }
  });
});
