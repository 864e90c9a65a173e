/** The in-memory TUN keeps the promises of `PacketDevice`. */

import { describe, expect, test } from "bun:test";
import { MemoryPacketDevice } from "../../lib/tun_memory.ts";

const packet = (byte: number, length = 3) => new Uint8Array(length).fill(byte);

describe("MemoryPacketDevice", () => {
  test("read: what was injected before and after, in order", async () => {
    const device = new MemoryPacketDevice(false);
    device.inject(packet(1));
    device.inject(packet(2));
    expect(await device.read()).toEqual(packet(1));
    expect(await device.read()).toEqual(packet(2));
    const waiting = device.read();
    device.inject(packet(3));
    expect(await waiting).toEqual(packet(3));
  });

  test("readNow: one packet at the offset, or 0 when none waits or it does not fit", () => {
    const device = new MemoryPacketDevice(false);
    const into = new Uint8Array(8);
    expect(device.readNow(into, 0)).toBe(0);
    device.inject(packet(1));
    expect(device.readNow(into, 6)).toBe(0);
    expect(device.readNow(into, 5)).toBe(3);
    expect([...into]).toEqual([0, 0, 0, 0, 0, 1, 1, 1]);
  });

  test("write: keeps a copy", () => {
    const device = new MemoryPacketDevice(true);
    const buffer = Uint8Array.of(0, 1, 2, 3);
    expect(device.write(buffer, 1, 2)).toBe(0);
    buffer.fill(9);
    expect(device.written).toEqual([Uint8Array.of(1, 2)]);
  });

  test("stop: ends the waiting read and every later one", async () => {
    const device = new MemoryPacketDevice(false);
    const waiting = device.read();
    device.stop();
    expect(await waiting).toBeNull();
    expect(await device.read()).toBeNull();
  });
});
