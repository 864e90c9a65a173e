/** The self-test passes on a sound build; that it can fail is shown by spoiling what it runs on. */

import { afterEach, beforeEach, describe, expect, type Mock, spyOn, test } from "bun:test";
import { SystemError } from "../../lib/errors.ts";
import { SelfTest } from "../../lib/self_test.ts";
import { MemoryPacketDevice } from "../../lib/tun_memory.ts";
import type { PacketDevice } from "../../lib/tun.ts";
import { LinuxPacketDevice } from "../../lib/tun_linux.ts";

// the devices of the self-test on this system
const Device = process.platform === "linux" ? LinuxPacketDevice : MemoryPacketDevice;
const devices: PacketDevice = Device.prototype;
type Write = PacketDevice["write"];
const write = devices.write;
let spoiled: Mock<Write>;
beforeEach(() => {
  spoiled = spyOn(devices, "write");
});
afterEach(() => spoiled.mockRestore());

/** From here on the devices write by `how`. */
function writeBy(how: (device: PacketDevice, ...args: Parameters<Write>) => number): void {
  spoiled.mockImplementation(function (this: PacketDevice, ...args) {
    return how(this, ...args);
  });
}

function spoilOneByte(device: PacketDevice, ...args: Parameters<Write>): number {
  const [bytes, offset, length] = args;
  const changed = bytes.slice();
  changed[offset + length - 1]! ^= 1;
  return write.call(device, changed, offset, length);
}

/** Packets that were written so far. */
const written = (): number => spoiled.mock.calls.length;

describe.each([
  ["web", true],
  ["web", false],
  ["sync", true],
  ["sync", false],
] as const)("engine %s, offload %p", (engine, offload) => {
  test("prove and warmUp: pass here, and the second goes on where it stopped", async () => {
    const run = await SelfTest.open(engine, offload);
    await run.prove();
    let asked = 0;
    await run.warmUp(() => ++asked < 10);
    expect(asked).toBe(10);
    await run.warmUp(() => {
      asked++;
      return true;
    });
    run.close();
    expect(asked).toBeGreaterThan(10);
    // one each way in each round, the proof's and the warm-up's
    expect(written()).toBe(2 * (20 + asked - 1));
  });
});

test("prove: fails when a packet arrives changed", async () => {
  const run = await SelfTest.open("sync", true);
  writeBy(spoilOneByte);
  const failure = await run.prove().catch((error: unknown) => error);
  run.close();
  expect(failure).toBeInstanceOf(SystemError);
  expect(String(failure)).toContain("a packet was changed");
});

test("prove: a lost packet is sent again", async () => {
  const run = await SelfTest.open("sync", true);
  writeBy((device, ...args) => (written() === 5 ? 0 : write.apply(device, args)));
  await run.prove();
  run.close();
  expect(written()).toBe(2 * (20 + 1));
});

test("prove: fails when none arrives", async () => {
  const run = await SelfTest.open("sync", true);
  writeBy(() => 0);
  const failure = await run.prove().catch((error: unknown) => error);
  run.close();
  expect(String(failure)).toContain("packets were lost");
});

test("warmUp: ends when a packet is lost", async () => {
  const run = await SelfTest.open("sync", true);
  await run.prove();
  const before = written();
  writeBy(() => 0);
  await run.warmUp(() => true);
  run.close();
  expect(written()).toBe(before + 2);
});

test("warmUp: fails when a packet arrives changed", async () => {
  const run = await SelfTest.open("sync", true);
  await run.prove();
  writeBy(spoilOneByte);
  const failure = await run.warmUp(() => true).catch((error: unknown) => error);
  run.close();
  expect(String(failure)).toContain("a packet was changed");
});
