import { expect, test } from "bun:test";
import { systemClock } from "../../lib/clock.ts";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { RateGate } from "../../lib/rate_gate.ts";
import { type QueuedPacket, RateShaper } from "../../lib/rate_limit.ts";
import { buildPacket, kernelVnet, segmentsOf, withVnet } from "../support/inner_packet.ts";

/** A gate, and what it let go. */
function gateOf(offload = false) {
  const released: QueuedPacket[] = [];
  let dropped = 0;
  const gate = new RateGate<{ removed: boolean }>({
    offload,
    clock: systemClock,
    release: (_owner, packets) => released.push(...packets),
    dropped: (packets) => (dropped += packets),
  });
  return { gate, released, dropped: () => dropped };
}

const shaperOf = (bitsPerSecond: number): RateShaper =>
  new RateShaper({ bitsPerSecond, packetsPerSecond: null });
const PACKET = new Uint8Array(1_000).fill(7);

test("RateGate lets the first packet pass, and the others go when their time has come, in order", async () => {
  const { gate, released } = gateOf();
  const shaper = shaperOf(1e6);
  const owner = { removed: false };
  const passed = [0, 1, 2, 3].map((index) => {
    PACKET[0] = index;
    return gate.admit(owner, shaper, PACKET, 0, 1_000, 1_000, 1);
  });
  expect(passed.filter(Boolean).length).toBeGreaterThan(0);
  const startMs = performance.now();
  while (passed.filter(Boolean).length + released.length < 4 && performance.now() - startMs < 2_000)
    await Bun.sleep(1);
  expect(released.map(({ bytes }) => bytes[0]!)).toEqual([0, 1, 2, 3].filter((index) => !passed[index]));
  gate.close();
});

test("RateGate holds two sessions apart, and gives nothing to one that was removed", async () => {
  const { gate, released } = gateOf();
  const gone = { removed: false };
  const slow = shaperOf(64_000);
  for (let i = 0; i < 4; i++) gate.admit(gone, slow, PACKET, 0, 1_000, 1_000, 1);
  gone.removed = true;
  const quick = shaperOf(8e6);
  const owner = { removed: false };
  let passed = 0;
  for (let i = 0; i < 30; i++) if (gate.admit(owner, quick, PACKET, 0, 1_000, 1_000, 1)) passed++;
  const startMs = performance.now();
  while (passed + released.length < 30 && performance.now() - startMs < 2_000) await Bun.sleep(1);
  expect(passed + released.length).toBe(30);
  await Bun.sleep(200);
  expect(passed + released.length).toBe(30);
  gate.close();
});

test("RateGate cuts a super-packet up for a slow line, as a network card would", async () => {
  const { gate, released } = gateOf(true);
  const parts = { version: 4, protocol: "tcp", payload: new Uint8Array(20_000).fill(1) } as const;
  const packet = buildPacket({ ...parts, checksum: "pseudo" });
  const whole = withVnet(packet, kernelVnet(parts, 1_300));
  const shaper = shaperOf(20e6);
  expect(gate.admit({ removed: false }, shaper, whole, 0, whole.length, packet.length, 16)).toBe(false);
  const expected = segmentsOf(parts, 1_300);
  const startMs = performance.now();
  while (released.length < expected.length && performance.now() - startMs < 2_000) await Bun.sleep(1);
  const texts = released.map(({ bytes }) => bytes.subarray(VNET_HEADER_BYTES).toHex());
  expect(texts).toEqual(expected.map((segment) => Buffer.from(segment).toString("hex")));
  expect(
    released.every(({ bytes }) => bytes.subarray(0, VNET_HEADER_BYTES).every((byte) => byte === 0)),
  ).toBe(true);
  gate.close();
});

test("RateGate can be driven without its timer", () => {
  const { gate, released } = gateOf();
  const shaper = shaperOf(64_000);
  const owner = { removed: false };
  expect(gate.dueMs).toBe(Infinity);
  const passed = [0, 1].filter(() => gate.admit(owner, shaper, PACKET, 0, 1_000, 1_000, 1)).length;
  expect([passed, released.length]).toEqual([1, 0]);
  gate.releaseDue(gate.dueMs - 1);
  expect(released).toHaveLength(0);
  // the clock is the system's: wait as a loop would
  while (systemClock.monotonicMs() < gate.dueMs);
  gate.releaseDue(systemClock.monotonicMs());
  expect(released).toHaveLength(1);
  expect(gate.dueMs).toBe(Infinity);
  gate.close();
});

test("RateGate counts what it drops, in ordinary packets", () => {
  const { gate, dropped } = gateOf();
  const shaper = shaperOf(64_000);
  for (let i = 0; i < 100; i++) gate.admit({ removed: false }, shaper, PACKET, 0, 1_000, 1_000, 1);
  expect(dropped()).toBeGreaterThan(50);
  gate.close();
});

test("RateGate.changed() lets what waits go at a new rate at once", async () => {
  const { gate, released } = gateOf();
  const shaper = shaperOf(64_000);
  const owner = { removed: false };
  for (let i = 0; i < 10; i++) gate.admit(owner, shaper, PACKET, 0, 1_000, 1_000, 1);
  shaper.setLimit({ bitsPerSecond: null, packetsPerSecond: null });
  gate.changed(shaper);
  await Bun.sleep(20);
  expect(released.length).toBeGreaterThanOrEqual(7);
  expect(shaper.dueInMs(systemClock.monotonicMs())).toBeNull();
  gate.close();
});
