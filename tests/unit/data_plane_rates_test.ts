/** Limits of speed and owned networks of a session, changed while packets flow. */

import { describe, expect, test } from "bun:test";
import type { SessionRates } from "../../lib/data_plane_message.ts";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import {
  connectedPairs,
  type DataPlanePair,
  type End,
  SESSION_ID,
  until,
} from "../support/data_plane_pair.ts";
import { buildPacket, withVnet } from "../support/inner_packet.ts";
import { expectWritten, inject, parts } from "../support/traffic.ts";

const connected = connectedPairs();

/** One direction: who sends, who receives, and how the server's counter of drops is called. */
const DIRECTIONS = [
  ["up", true, "rate-limited-up"],
  ["down", false, "rate-limited-down"],
] as const;

const NO_LIMIT = { bitsPerSecond: null, packetsPerSecond: null };

function ratesOf(direction: "up" | "down", bitsPerSecond: number): SessionRates {
  return { up: NO_LIMIT, down: NO_LIMIT, [direction]: { bitsPerSecond, packetsPerSecond: null } };
}

function setRates(pair: DataPlanePair, rates: SessionRates | null): void {
  pair.server.plane.handle({ kind: "set-rates", id: SESSION_ID, rates });
}

/** Turns the clock on, a millisecond at a time, with time for timers in between. */
async function pass(pair: DataPlanePair, forMs: number, done: () => boolean): Promise<void> {
  for (let i = 0; i < forMs && !done(); i++) {
    pair.clock.nowMs += 1;
    await Bun.sleep(1);
  }
}

describe.each(DIRECTIONS)("a limit %s", (direction, up, reason) => {
  const endsOf = (pair: DataPlanePair): [End, End] =>
    up ? [pair.client, pair.server] : [pair.server, pair.client];

  test.each([true, false])(
    "lets packets through at its rate, unchanged and in order (offload %p)",
    async (offload) => {
      const pair = await connected({ clientOffload: offload, serverOffload: offload });
      const [from, to] = endsOf(pair);
      setRates(pair, ratesOf(direction, 8e6));
      const values = Array.from({ length: 60 }, (_, i) =>
        parts(up, { payload: new Uint8Array(972).fill(i) }),
      );
      for (const value of values) inject(from, value);
      // 1,000 bytes take a millisecond; 20 ms are free
      await pass(pair, 20, () => false);
      expect(to.tun.written.length).toBeGreaterThan(20);
      expect(to.tun.written.length).toBeLessThan(50);
      await pass(pair, 500, () => to.tun.written.length === values.length);
      expectWritten(to, values);
      expect(pair.drops(pair.server)).toEqual({});
    },
  );

  test("drops what is more than its queue holds, and counts it", async () => {
    const pair = await connected();
    const [from, to] = endsOf(pair);
    setRates(pair, ratesOf(direction, 800_000));
    for (let i = 0; i < 100; i++) inject(from, parts(up, { payload: new Uint8Array(972).fill(i) }));
    await until(() => (pair.drops(pair.server)[reason] ?? 0) > 50);
    expect(to.tun.written.length).toBeLessThan(20);
  });

  test("can be lifted: what waits goes at once, and what comes then is free", async () => {
    const pair = await connected();
    const [from, to] = endsOf(pair);
    setRates(pair, ratesOf(direction, 800_000));
    const values = Array.from({ length: 15 }, (_, i) => parts(up, { payload: new Uint8Array(972).fill(i) }));
    for (const value of values) inject(from, value);
    await Bun.sleep(20);
    expect(to.tun.written.length).toBeLessThan(15);
    setRates(pair, null);
    await until(() => to.tun.written.length === 15);
    const more = Array.from({ length: 100 }, (_, i) => parts(up, { payload: new Uint8Array(900).fill(i) }));
    for (const value of more) inject(from, value);
    await until(() => to.tun.written.length === 115);
    expectWritten(to, [...values, ...more]);
  });
});

test("rates of add-session count from the first packet on", async () => {
  const pair = await connected();
  const { server } = pair;
  server.plane.handle({ kind: "remove-session", id: SESSION_ID });
  const allowedIps = ["10.8.0.2/32", "fd00::2/128"];
  const rates = ratesOf("up", 64_000);
  server.plane.handle({ kind: "add-session", id: SESSION_ID, allowedIps, peerOffload: true, rates });
  await pair.rekey(1);
  for (let i = 0; i < 60; i++) inject(pair.client, parts(true, { payload: new Uint8Array(972).fill(i) }));
  await until(() => (pair.drops(server)["rate-limited-up"] ?? 0) > 30);
});

test("set-allowed-ips gives a session a network, and takes it away", async () => {
  const pair = await connected();
  const { client, server } = pair;
  const office = { version: 4, protocol: "udp", payload: Uint8Array.of(7) } as const;
  const inwards = withVnet(buildPacket({ ...office, source: "192.168.50.9", destination: "10.8.0.1" }));
  const outwards = withVnet(buildPacket({ ...office, source: "10.8.0.1", destination: "192.168.50.9" }));
  const tryBoth = async (): Promise<[number, number]> => {
    client.tun.inject(inwards);
    server.tun.inject(outwards);
    await pair.settle();
    // besides, the server answers a packet for nobody by ICMP: protocol 1
    const passed = server.tun.written.splice(0).filter((packet) => packet[VNET_HEADER_BYTES + 9] !== 1);
    return [passed.length, client.tun.written.splice(0).length];
  };
  const own = ["10.8.0.2/32", "fd00::2/128"];
  expect(await tryBoth()).toEqual([0, 0]);
  server.plane.handle({ kind: "set-allowed-ips", id: SESSION_ID, allowedIps: [...own, "192.168.50.0/24"] });
  expect(await tryBoth()).toEqual([1, 1]);
  server.plane.handle({ kind: "set-allowed-ips", id: SESSION_ID, allowedIps: own });
  expect(await tryBoth()).toEqual([0, 0]);
  // of a session that ended a moment ago
  server.plane.handle({ kind: "set-allowed-ips", id: 99, allowedIps: own });
  server.plane.handle({ kind: "set-rates", id: 99, rates: null });
});
