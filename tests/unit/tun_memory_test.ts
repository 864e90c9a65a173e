/** The in-memory TUN keeps the promises of `AwaitedPacketDevice`. */

import { describe, expect, test } from "bun:test";
import { MemoryPacketDevice } from "../../lib/tun_memory.ts";

const packet = (byte: number, length = 3) => new Uint8Array(length).fill(byte);

describe("MemoryPacketDevice", () => {
  test("read: all that waits, back to back, else the next one", async () => {
    const device = new MemoryPacketDevice(false);
    device.inject(packet(1));
    device.inject(packet(2));
    expect(await device.read()).toEqual(Uint8Array.of(1, 1, 1, 2, 2, 2));
    const waiting = device.read();
    device.inject(packet(3));
    expect(await waiting).toEqual(packet(3));
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
