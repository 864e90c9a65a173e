import { describe, expect, test } from "bun:test";
import type { ServerPlan } from "../../lib/host_plan.ts";
import { ipv6Obstacle, linkLines } from "../../lib/link_linux.ts";

const PLAN: ServerPlan = {
  role: "server",
  tun: "omail0",
  mtuBytes: 1420,
  addresses: ["10.8.0.1/24", "fd00::1/64"],
  gsoMaxBytes: 62_000,
  nat: false,
};

describe("linkLines", () => {
  test("both families, IPv6 without duplicate address detection", () => {
    expect(linkLines(PLAN, true, null)).toEqual([
      "address flush dev omail0",
      "link set dev omail0 mtu 1420 txqueuelen 1000",
      "link set dev omail0 addrgenmode none",
      "address add 10.8.0.1/24 dev omail0",
      "address add fd00::1/64 dev omail0 nodad",
      "link set dev omail0 up",
    ]);
  });

  test("after another plan only what differs changes, and what is new comes before what is old goes", () => {
    const before = { ...PLAN, addresses: ["10.8.0.1/24", "10.9.0.1/24", "fd00:9::1/64"] };
    expect(linkLines(PLAN, true, before)).toEqual([
      "link set dev omail0 mtu 1420 txqueuelen 1000",
      "link set dev omail0 addrgenmode none",
      "address add fd00::1/64 dev omail0 nodad",
      "link set dev omail0 up",
      "address del 10.9.0.1/24 dev omail0",
      "address del fd00:9::1/64 dev omail0",
    ]);
  });

  test("without IPv6 there is no line that needs it", () => {
    expect(linkLines(PLAN, false, null).filter((line) => /fd00|addrgenmode/.test(line))).toEqual([]);
  });
});

describe("ipv6Obstacle", () => {
  test("an MTU under 1,280 cannot carry IPv6 (RFC 8200)", () => {
    expect(ipv6Obstacle("omail0", 1279)).toContain('"1279"');
  });

  test("a device without IPv6 settings is on a kernel without IPv6", () => {
    expect(ipv6Obstacle("no-such-device", 1400)).toBe("the kernel has no IPv6");
  });
});
