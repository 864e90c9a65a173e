import { expect, test } from "bun:test";
import { capabilitiesToKeep, readCapabilities } from "../../lib/privileges_linux.ts";

const STATUS =
  "Name:\tx\nCapInh:\t0000000000001000\nCapPrm:\t000001fffeffffff\nCapEff:\t0\nCapBnd:\t000001ffffffffff\n";

test("readCapabilities() takes the sets from /proc/PID/status", () => {
  expect(readCapabilities(STATUS)).toEqual({
    inheritable: 0x1000n,
    permitted: 0x1fffeffffffn,
    bounding: 0x1ffffffffffn,
  });
  expect(readCapabilities("")).toEqual({ inheritable: 0n, permitted: 0n, bounding: 0n });
});

test("a server keeps CAP_NET_ADMIN, and what its port and its directory need", () => {
  const needs = { role: "server", port: 51820, stateDir: "/var/lib/omail" } as const;
  expect(capabilitiesToKeep(needs, true)).toEqual([12]);
  expect(capabilitiesToKeep({ ...needs, port: 443 }, true)).toEqual([12, 10]);
  expect(capabilitiesToKeep(needs, false)).toEqual([12, 1]);
});

test("a client keeps what putting resolv.conf back needs", () => {
  expect(capabilitiesToKeep({ role: "client", port: null, stateDir: "/" }, true)).toEqual([12, 0, 1]);
});
