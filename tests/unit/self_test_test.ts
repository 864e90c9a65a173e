/** The self-test passes on a sound build; that it can fail is shown by spoiling what it runs on. */

import { afterEach, expect, spyOn, test } from "bun:test";
import { SystemError } from "../../lib/errors.ts";
import { selfTest } from "../../lib/self_test.ts";
import { MemoryPacketDevice } from "../../lib/tun_memory.ts";
import { LinuxPacketDevice } from "../../lib/tun_linux.ts";

// the devices of the self-test on this system
const Device = process.platform === "linux" ? LinuxPacketDevice : MemoryPacketDevice;
const write = Device.prototype.write;
const spoiled = spyOn(Device.prototype, "write");
afterEach(() => void spoiled.mockImplementation(write));

test.each([
  ["web", true],
  ["web", false],
  ["sync", true],
  ["sync", false],
] as const)("selfTest: passes here (engine %s, offload %p)", async (engine, offload) => {
  spoiled.mockImplementation(write);
  await selfTest(engine, offload);
});

test("selfTest: fails when a packet arrives changed", async () => {
  spoiled.mockImplementation(function (this: InstanceType<typeof Device>, bytes, offset, length) {
    const changed = bytes.slice();
    changed[offset + length - 1]! ^= 1;
    return write.call(this, changed, offset, length);
  });
  const failure = await selfTest("sync", true).catch((error: unknown) => error);
  expect(failure).toBeInstanceOf(SystemError);
  expect(String(failure)).toContain("a packet was changed");
});
