/** The way to the servers: read from both systems' words, and changes told once, by what they are. */

import { describe, expect, test } from "bun:test";
import type { RunCommand } from "../../lib/command.ts";
import { OuterWays, wayOfIpRoute, wayOfRouteGet } from "../../lib/outer_way.ts";
import { memoryLog } from "../support/memory_log.ts";

const SERVER = "203.0.113.2";

const ROUTE = { dst: SERVER, gateway: "192.0.2.1", dev: "wlan0", prefsrc: "192.0.2.7", flags: [], uid: 0 };
const LINK = { ifname: "wlan0", mtu: 1500, operstate: "UP" };
const WAY = "wlan0 via 192.0.2.1 from 192.0.2.7, MTU 1500";

describe("wayOfIpRoute", () => {
  const read = (route: object, link: object = LINK) =>
    wayOfIpRoute(JSON.stringify([route]), JSON.stringify([link]));

  test("device, gateway, own address and the device's MTU", () => {
    expect(read(ROUTE)).toBe(WAY);
    expect(read({ dst: SERVER, dev: "lo" }, {})).toBe("lo");
  });

  test("what the kernel learned of the path does not count", () => {
    expect(read({ ...ROUTE, cache: [], metrics: [{ mtu: 1300 }], expires: 500 })).toBe(WAY);
  });

  test("no route, no cable: no way", () => {
    expect(wayOfIpRoute("", "[]")).toBeNull();
    expect(wayOfIpRoute("[]", "[]")).toBeNull();
    expect(read({ ...ROUTE, flags: ["linkdown"] })).toBeNull();
    expect(read({ type: "unreachable", dst: SERVER })).toBeNull();
  });
});

describe("wayOfRouteGet", () => {
  const text = `   route to: 203.0.113.2
destination: default
       mask: default
    gateway: 192.0.2.1
  interface: en0
      flags: <UP,GATEWAY,DONE,STATIC,PRCLONING,GLOBAL>
 recvpipe  sendpipe  ssthresh  rtt,msec    rttvar  hopcount      mtu     expire
       0         0         0         0         0         0      1500         0
`;

  test("device, gateway, own addresses, MTU", () => {
    expect(wayOfRouteGet(text, (device) => (device === "en0" ? ["192.0.2.7"] : []))).toBe(
      "en0 via 192.0.2.1 from 192.0.2.7, MTU 1500",
    );
  });

  test("no route: no way", () => {
    expect(wayOfRouteGet("route: writing to routing socket: not in table\n", () => [])).toBeNull();
  });
});

describe.if(process.platform === "linux")("OuterWays", () => {
  /** A machine whose routes a test changes. */
  function machine() {
    const state = { routes: new Map<string, object>([[SERVER, ROUTE]]), mtu: 1500 };
    const said: string[] = [];
    const run: RunCommand = async (argv) => {
      const route = state.routes.get(argv.at(-1)!);
      const value = argv.includes("link") ? { ...LINK, mtu: state.mtu } : route;
      const stdout = value === undefined ? "" : JSON.stringify([value]);
      return { status: value === undefined ? 2 : 0, stdout, stderr: "" };
    };
    return { state, said, ways: new OuterWays(run, memoryLog().log, (why) => said.push(why)) };
  }

  test("nothing that concerns the servers: nothing is told", async () => {
    const { ways, said } = machine();
    await ways.look();
    await ways.follow(SERVER);
    await ways.look();
    expect(said).toEqual([]);
  });

  test.each([
    ["gateway", { gateway: "192.0.2.254" }, "via 192.0.2.254 from 192.0.2.7"],
    ["address", { prefsrc: "192.0.2.8" }, "via 192.0.2.1 from 192.0.2.8"],
  ] as const)("another %s is told once", async (_name, change, text) => {
    const { ways, said, state } = machine();
    await ways.follow(SERVER);
    state.routes.set(SERVER, { ...ROUTE, ...change });
    await ways.look();
    await ways.look();
    expect(said).toEqual([`${SERVER} is reached by wlan0 ${text}, MTU 1500`]);
  });

  test("another MTU of the device is told", async () => {
    const { ways, said, state } = machine();
    await ways.follow(SERVER);
    state.mtu = 1300;
    await ways.look();
    expect(said).toEqual([`${SERVER} is reached by wlan0 via 192.0.2.1 from 192.0.2.7, MTU 1300`]);
  });

  test("a way that was lost is told when there is one again, the same or not; its loss is not", async () => {
    const { ways, said, state } = machine();
    await ways.follow(SERVER);
    state.routes.delete(SERVER);
    await ways.look();
    expect(said).toEqual([]);
    state.routes.set(SERVER, ROUTE);
    await ways.look();
    expect(said).toEqual([`${SERVER} is reached by ${WAY}`]);
  });

  test("several servers are one call; the oldest of too many is forgotten", async () => {
    const { ways, said, state } = machine();
    for (let i = 1; i <= 9; i++) {
      state.routes.set(`198.51.100.${i}`, ROUTE);
      await ways.follow(`198.51.100.${i}`);
    }
    for (let i = 1; i <= 9; i++) state.routes.set(`198.51.100.${i}`, { ...ROUTE, dev: "eth0" });
    await ways.look();
    expect(said.map((text) => text.split("; ").length)).toEqual([8]);
    expect(said[0]).not.toContain("198.51.100.1 ");
  });

  test("a command that cannot be run is no reason to end", async () => {
    const log = memoryLog().log;
    const run: RunCommand = () => Promise.reject(new Error("no ip here"));
    const ways = new OuterWays(run, log, () => undefined);
    await ways.follow(SERVER);
    await ways.look();
  });
});
