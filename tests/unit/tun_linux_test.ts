/** TUN on Linux: the request's bytes, errors, and the packet device over a FIFO instead of a TUN. */

import { afterEach, describe, expect, test } from "bun:test";
import { closeSync, constants, existsSync, openSync } from "node:fs";
import { constants as osConstants } from "node:os";
import { join } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { LinuxPacketDevice, openTunLinux, tunRequest } from "../../lib/tun_linux.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const isLinux = process.platform === "linux";
const canOpen = isLinux && process.getuid?.() === 0 && existsSync("/dev/net/tun");
const scratch = scratchDirectories();
const descriptors: number[] = [];

afterEach(() => {
  for (const fd of descriptors.splice(0)) closeSync(fd);
});

/** A descriptor that gives back what is written to it, and that an event loop can watch like a TUN's. */
function openFifo(): number {
  const path = join(scratch(), "fifo");
  Bun.spawnSync(["mkfifo", path]);
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  descriptors.push(fd);
  return fd;
}

describe("tunRequest", () => {
  test("golden bytes: name, zero, flags at 16, little-endian, 40 bytes", () => {
    expect(tunRequest("omail0", 0x5001).toHex()).toBe(
      "6f6d61696c30" + "00".repeat(10) + "0150" + "00".repeat(22),
    );
  });

  test("a name of 15 characters keeps its final zero, a longer one is cut", () => {
    expect(tunRequest("a".repeat(15), 1).subarray(0, 16).toHex()).toBe("61".repeat(15) + "00");
    expect(tunRequest("a".repeat(30), 1).subarray(0, 18).toHex()).toBe("61".repeat(15) + "00" + "0100");
  });
});

describe("openTunLinux", () => {
  test.each(["", "a".repeat(16), "a b", "a/b", ".", "..", "a:b", "a%d", "tab\t", "line\n"])(
    'refuses the name "%s" before it asks the kernel',
    (name) => {
      expect(() => openTunLinux(name)).toThrow(UsageError);
    },
  );

  test.if(canOpen)(
    "makes an interface that is gone when it is closed; a second one of its name is refused",
    () => {
      const name = `omt${process.pid}`;
      for (const offload of [true, false]) {
        const tun = openTunLinux(name, offload);
        try {
          expect(tun.name).toBe(name);
          if (!offload) expect(tun.offload).toBe(false);
          expect(existsSync(`/sys/class/net/${name}`)).toBe(true);
          expect(() => openTunLinux(name)).toThrow(`"${name}": the name is taken`);
        } finally {
          tun.close();
        }
        expect(existsSync(`/sys/class/net/${name}`)).toBe(false);
      }
    },
  );

  test.if(canOpen)("refuses the name of another kind of interface", () => {
    expect(() => openTunLinux("lo")).toThrow(UsageError);
  });
});

describe.if(isLinux)("LinuxPacketDevice", () => {
  const read = (device: LinuxPacketDevice) => [...device.readBuffer.subarray(0, device.readAvailable())];

  test("reads what was written, and nothing when nothing waits", () => {
    const device = new LinuxPacketDevice(openFifo(), true);
    expect(device.offload).toBe(true);
    expect(read(device)).toEqual([]);
    expect(device.write(Uint8Array.of(9, 1, 2, 3, 9), 1, 3)).toBe(0);
    expect(read(device)).toEqual([1, 2, 3]);
    expect(read(device)).toEqual([]);
  });

  test("write: an error is its number", () => {
    const device = new LinuxPacketDevice(openFifo(), false);
    const buffer = new Uint8Array(2048);
    let result = 0;
    for (let i = 0; i < 1000 && result === 0; i++) result = device.write(buffer, 0, buffer.length);
    expect(result).toBe(11);
  });

  test("stop: a packet that comes late is not written to whatever has the descriptor's number now", () => {
    const fd = openFifo();
    const device = new LinuxPacketDevice(fd, false);
    device.stop();
    expect(device.write(Uint8Array.of(1, 2, 3), 0, 3)).toBe(osConstants.errno.EBADF);
    expect(read(device)).toEqual([]);
    expect(read(new LinuxPacketDevice(fd, false))).toEqual([]);
  });
});
