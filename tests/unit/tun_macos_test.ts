/** utun on a scripted kernel: how a device is opened, and how packets get and lose their address family. */

import { describe, expect, test } from "bun:test";
import { constants } from "node:os";
import fc from "fast-check";
import { PrivilegeError, SystemError, UsageError } from "../../lib/errors.ts";
import { ctlInfoId, sockaddrCtl, type UtunCalls, utunCalls } from "../../lib/libc_macos.ts";
import { MacosPacketDevice, openTunMacos, stripFamilies, utunUnit } from "../../lib/tun_macos.ts";
import { buildPacket, type PacketParts } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";

const FD = 7;
const CONTROL_ID = 42;
const INET = "00000002";
const INET6 = "0000001e";
/** Room enough for any packet. */
const ROOM = 70_000;

const packets = fc.array(
  fc
    .record<PacketParts>({
      version: fc.constantFrom(4, 6),
      protocol: fc.constantFrom("tcp", "udp"),
      payload: bytes(0, 100),
    })
    .map((parts) => buildPacket(parts)),
  { maxLength: 6 },
);

/** As utun hands it over. */
function withFamily(packet: Uint8Array): Uint8Array {
  return Buffer.concat([Uint8Array.fromHex(packet[0]! >> 4 === 6 ? INET6 : INET), packet]);
}

/** Plays the kernel: notes each call, knows the utun control, fails where told, and has packets to read. */
class ScriptedKernel implements UtunCalls {
  readonly log: string[] = [];
  readonly written: Uint8Array[] = [];
  failing: { readonly call: string; readonly code: number } | null = null;
  #errno = 0;

  #called(call: string, text: string, result: number): number {
    this.log.push(`${call} ${text}`);
    if (this.failing?.call !== call) return result;
    this.#errno = this.failing.code;
    return -1;
  }

  socket(domain: number, type: number, protocol: number): number {
    return this.#called("socket", `${domain} ${type} ${protocol}`, FD);
  }

  ioctl(fd: number, request: number, argument: Uint8Array): number {
    const result = this.#called("ioctl", `${fd} ${request.toString(16)} ${ctlInfoId(argument)}`, 0);
    new DataView(argument.buffer).setUint32(0, CONTROL_ID, true);
    return result;
  }

  fcntl(fd: number, command: number, argument: number): number {
    return this.#called("fcntl", `${fd} ${command} ${argument}`, 0);
  }

  connect(fd: number, address: Uint8Array): number {
    return this.#called("connect", `${fd} ${address.toHex()}`, 0);
  }

  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number {
    value.set(Buffer.from("utun5\0"));
    return this.#called("getsockopt", `${fd} ${level} ${option} ${value.length}`, 6);
  }

  write(_fd: number, packet: Uint8Array, length: number): number {
    this.written.push(packet.slice(0, length));
    return this.#called("write", String(length), length);
  }

  close(fd: number): number {
    return this.#called("close", String(fd), 0);
  }

  errno(): number {
    return this.#errno;
  }
}

/** Plays the stream: gives `chunks`, then the end. */
function streamOf(...chunks: Uint8Array<ArrayBuffer>[]) {
  return {
    read: () => Promise.resolve({ done: chunks.length === 0, value: chunks.shift() }),
    cancel: () => Promise.reject(new Error("already closed")),
  };
}

describe("utunUnit", () => {
  test.each([
    ["utun0", 1],
    ["utun7", 8],
    ["utun9999", 10_000],
    ["utun", 0],
    ["utun07", 0],
    ["utun10000", 0],
    ["omail0", 0],
    ["xutun1", 0],
    ["utun1x", 0],
  ])("%s is unit %d", (name, unit) => expect(utunUnit(name)).toBe(unit));
});

describe("openTunMacos", () => {
  test("makes the calls of sys/kern_control.h in order", () => {
    const kernel = new ScriptedKernel();
    openTunMacos("utun5", kernel);
    expect(kernel.log).toEqual([
      "socket 32 2 2",
      "fcntl 7 2 1",
      "ioctl 7 c0644e03 0",
      `connect 7 ${sockaddrCtl(CONTROL_ID, 6).toHex()}`,
      "fcntl 7 4 4",
      "getsockopt 7 2 2 16",
    ]);
  });

  test("leaves the choice to the kernel for any other name, and tells what it chose", () => {
    const kernel = new ScriptedKernel();
    const device = openTunMacos("omail0", kernel);
    expect(kernel.log).toContain(`connect 7 ${sockaddrCtl(CONTROL_ID, 0).toHex()}`);
    expect(device).toMatchObject({ fd: FD, name: "utun5", offload: false });
    device.close();
    expect(kernel.log.at(-1)).toBe("close 7");
  });

  test.each([
    ["connect", constants.errno.EPERM, PrivilegeError, "EPERM; run as root"],
    ["connect", constants.errno.EBUSY, UsageError, "the name is taken"],
    ["ioctl", constants.errno.ENOENT, PrivilegeError, "com.apple.net.utun_control"],
    ["fcntl", constants.errno.EINVAL, SystemError, "fcntl F_SETFD failed with EINVAL"],
    ["getsockopt", constants.errno.EINVAL, SystemError, "getsockopt UTUN_OPT_IFNAME failed with EINVAL"],
  ])("%s failing with error %d is named, and the descriptor closed", (call, code, kind, words) => {
    const kernel = new ScriptedKernel();
    kernel.failing = { call, code };
    const open = () => openTunMacos("utun5", kernel);
    expect(open).toThrow(kind);
    expect(open).toThrow('Cannot make interface "utun5": ');
    expect(open).toThrow(words);
    expect(kernel.log.at(-1)).toBe("close 7");
  });

  test("closes nothing when there is no socket", () => {
    const kernel = new ScriptedKernel();
    kernel.failing = { call: "socket", code: constants.errno.EMFILE };
    expect(() => openTunMacos("utun5", kernel)).toThrow("socket failed with EMFILE");
    expect(kernel.log).toEqual(["socket 32 2 2"]);
  });
});

describe("stripFamilies", () => {
  test("leaves the packets, back to back", () => {
    check(
      fc.property(packets, (list) => {
        const chunk = Buffer.concat(list.map(withFamily));
        const length = stripFamilies(chunk);
        expect(chunk.subarray(0, length).toHex()).toBe(Buffer.concat(list).toHex());
      }),
    );
  });

  test("hands on what it cannot measure, for the data plane to count", () => {
    const good = buildPacket({ version: 4, protocol: "udp", payload: new Uint8Array(3) });
    const chunk = Buffer.concat([withFamily(good), Uint8Array.fromHex(INET + "99aabbcc")]);
    const length = stripFamilies(chunk);
    expect(chunk.subarray(0, length).toHex()).toBe(good.toHex() + "99aabbcc");
  });

  test("never leaves more than came, whatever came", () => {
    check(
      fc.property(bytes(0, 200), (chunk) => {
        const length = stripFamilies(chunk.slice());
        expect(length).toBeLessThanOrEqual(Math.max(0, chunk.length - 4));
      }),
    );
  });
});

describe("MacosPacketDevice", () => {
  const ipv4 = buildPacket({ version: 4, protocol: "udp", payload: new Uint8Array(30).fill(4) });
  const ipv6 = buildPacket({ version: 6, protocol: "tcp", payload: new Uint8Array(60).fill(6) });

  test("read() gives each chunk's packets, passes over an empty one, and ends with the stream", async () => {
    const chunk = Buffer.concat([withFamily(ipv4), withFamily(ipv6)]);
    const device = new MacosPacketDevice(FD, new ScriptedKernel(), streamOf(Uint8Array.fromHex(INET), chunk));
    expect((await device.read())?.toHex()).toBe(ipv4.toHex() + ipv6.toHex());
    expect(await device.read()).toBeNull();
  });

  test("write() puts the family of the packet's version in front", () => {
    const kernel = new ScriptedKernel();
    const device = new MacosPacketDevice(FD, kernel, streamOf());
    const both = Buffer.concat([ipv4, ipv6]);
    expect(device.write(both, 0, ipv4.length)).toBe(0);
    expect(device.write(both, ipv4.length, ipv6.length)).toBe(0);
    expect(kernel.written.map((packet) => packet.toHex())).toEqual([
      INET + ipv4.toHex(),
      INET6 + ipv6.toHex(),
    ]);
  });

  test("write() returns the error number", () => {
    const kernel = new ScriptedKernel();
    kernel.failing = { call: "write", code: constants.errno.ENOBUFS };
    const device = new MacosPacketDevice(FD, kernel, streamOf());
    expect(device.write(ipv4, 0, ipv4.length)).toBe(constants.errno.ENOBUFS);
    expect(device.write(new Uint8Array(ROOM), 0, ROOM)).toBe(constants.errno.EMSGSIZE);
  });

  test("stop() passes over a stream that has ended", () => {
    expect(() => new MacosPacketDevice(FD, new ScriptedKernel(), streamOf()).stop()).not.toThrow();
  });

  // A connected UDP socket stands in for utun's: both keep packets apart. The address is laid out as Linux has it.
  test.skipIf(process.platform !== "linux")(
    "moves packets through a real socket and Bun's stream",
    async () => {
      const calls = utunCalls();
      const arrived = Promise.withResolvers<{ readonly packet: Uint8Array; readonly port: number }>();
      const peer = await Bun.udpSocket({
        hostname: "127.0.0.1",
        binaryType: "uint8array",
        socket: { data: (_socket, packet, port) => arrived.resolve({ packet: packet.slice(), port }) },
      });
      const fd = calls.socket(2, 2 | 0o4000, 0);
      const address = new Uint8Array(16);
      address.set([2, 0, peer.port >> 8, peer.port & 255, 127, 0, 0, 1]);
      try {
        expect(calls.connect(fd, address)).toBe(0);
        const device = new MacosPacketDevice(fd);
        expect(device.write(ipv6, 0, ipv6.length)).toBe(0);
        const { packet, port } = await arrived.promise;
        expect(packet.toHex()).toBe(INET6 + ipv6.toHex());
        peer.send(withFamily(ipv4), port, "127.0.0.1");
        expect((await device.read())?.toHex()).toBe(ipv4.toHex());
        device.stop();
      } finally {
        calls.close(fd);
        peer.close();
      }
    },
  );
});
