import { describe, expect, test } from "bun:test";
import * as fc from "fast-check";
import { addressFromBytes, makePrefix, networkOf, parsePrefix, prefixContains } from "../../lib/address.ts";
import { UsageError } from "../../lib/errors.ts";
import type { ClientPlan } from "../../lib/host_plan.ts";
import { check } from "../support/property.ts";
import { covers, planRoutes, subtractPrefixes } from "../../lib/route_plan.ts";

const BASE: ClientPlan = {
  role: "client",
  tun: "omail0",
  mtuBytes: 1420,
  addresses: ["10.8.0.2/24"],
  gsoMaxBytes: null,
  fullTunnel: false,
  routes: [],
  excludes: [],
  allowLan: false,
  endpoints: [{ address: "198.51.100.1", port: 51820 }],
  dns: [],
  searchDomains: [],
  guardDns: true,
};

const texts = (plan: Partial<ClientPlan>) =>
  planRoutes({ ...BASE, ...plan }).tunnelRoutes.map(({ text }) => text);

describe("planRoutes: tunnelRoutes", () => {
  test("are the networks asked for, once each, host bits cleared", () => {
    expect(texts({ routes: ["192.168.7.9/24", "192.168.7.0/24", "fd00:1::/64"] })).toEqual([
      "192.168.7.0/24",
      "fd00:1::/64",
    ]);
  });

  test("leave out the connected network, which the kernel makes", () => {
    expect(texts({ routes: ["10.8.0.0/24", "10.9.0.0/24"] })).toEqual(["10.9.0.0/24"]);
  });

  test("never contain the server, so that the tunnel cannot swallow its own packets", () => {
    expect(texts({ routes: ["198.51.100.0/30"] })).toEqual(["198.51.100.0/32", "198.51.100.2/31"]);
    expect(texts({ routes: ["198.51.100.1/32"] })).toEqual([]);
  });

  test("never contain any server that may be dialled", () => {
    const endpoints = ["198.51.100.1", "198.51.100.2"].map((address) => ({ address, port: 1 }));
    expect(texts({ endpoints, routes: ["198.51.100.0/30"] })).toEqual(["198.51.100.0/32", "198.51.100.3/32"]);
  });

  test("lead to the tunnel's DNS servers, unless the kernel's own route or a server's address does", () => {
    expect(texts({ dns: ["10.8.0.1", "192.0.2.53", "198.51.100.1"] })).toEqual(["192.0.2.53/32"]);
  });

  test("never contain an excluded network", () => {
    expect(texts({ routes: ["10.0.0.0/8"], excludes: ["10.128.0.0/9", "10.64.0.0/10"] })).toEqual([
      "10.0.0.0/10",
    ]);
  });

  test("are never a default route, which would replace the machine's own", () => {
    expect(texts({ routes: ["::/0"] })).toEqual(["::/1", "8000::/1"]);
    expect(texts({ routes: ["0.0.0.0/0"] })).toHaveLength(32);
  });
});

describe("planRoutes: full tunnel", () => {
  test("sends the families with an address into the tunnel and blocks the others", () => {
    const plan = planRoutes({ ...BASE, fullTunnel: true, excludes: ["192.168.0.0/16"] });
    expect(plan.tunnelDefaults).toEqual([4]);
    expect(plan.blockedDefaults).toEqual([6]);
    expect(plan.bypasses.map(({ text }) => text)).toEqual(["192.168.0.0/16"]);
  });

  test("blocks nothing with addresses of both families", () => {
    const plan = planRoutes({ ...BASE, fullTunnel: true, addresses: ["10.8.0.2/24", "fd00::2/64"] });
    expect(plan.tunnelDefaults).toEqual([4, 6]);
    expect(plan.blockedDefaults).toEqual([]);
  });
});

describe("planRoutes: errors", () => {
  test("a tunnel network that holds the server is refused by name", () => {
    expect(() => planRoutes({ ...BASE, addresses: ["198.51.100.7/24"] })).toThrow(
      new UsageError(
        "Cannot use \"198.51.100.0/24\" as the tunnel's network: it contains the server's own address " +
          '"198.51.100.1", expected a network that is not in use outside the tunnel',
      ),
    );
  });

  test("an ill-formed route is refused by name", () => {
    expect(() => texts({ routes: ["10.0.0.0/33"] })).toThrow('"10.0.0.0/33"');
  });
});

describe("subtractPrefixes", () => {
  const prefix4 = fc
    .tuple(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.integer({ min: 0, max: 32 }))
    .map(([bytes, length]) => networkOf(makePrefix(addressFromBytes(bytes), length)));

  test("an address is in the result exactly if it is in the network and in no hole", () => {
    const address = fc.uint8Array({ minLength: 4, maxLength: 4 }).map(addressFromBytes);
    const property = fc.property(
      prefix4,
      fc.array(prefix4, { maxLength: 4 }),
      address,
      (network, holes, probe) => {
        const rest = subtractPrefixes(network, holes);
        // Probes that matter lie at the edges: random ones seldom hit a small network.
        for (const each of [probe, network.address, ...holes.map((hole) => hole.address)]) {
          const expected = prefixContains(network, each) && !holes.some((hole) => prefixContains(hole, each));
          expect(rest.filter((part) => prefixContains(part, each)).length).toBe(expected ? 1 : 0);
        }
      },
    );
    check(property, 300);
  });

  test("another family is no hole", () => {
    expect(
      subtractPrefixes(parsePrefix("10.0.0.0/8"), [parsePrefix("::/0")]).map(({ text }) => text),
    ).toEqual(["10.0.0.0/8"]);
  });
});

test("covers: a prefix covers itself and what is inside, not what is around", () => {
  const [wide, narrow] = [parsePrefix("10.0.0.0/8"), parsePrefix("10.1.0.0/16")];
  expect([covers(wide, wide), covers(wide, narrow), covers(narrow, wide)]).toEqual([true, true, false]);
});
