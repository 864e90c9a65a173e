/** utun's structures byte by byte against the kernel's headers, and the calls against the C library of this machine. */

import { describe, expect, test } from "bun:test";
import {
  CTL_INFO_BYTES,
  CTLIOCGINFO,
  ctlInfo,
  ctlInfoId,
  F_SETFD,
  FD_CLOEXEC,
  SOCKADDR_CTL_BYTES,
  sockaddrCtl,
  UTUN_CONTROL_NAME,
  utunCalls,
  variadicPadding,
} from "../../lib/libc_macos.ts";

describe("CTLIOCGINFO", () => {
  test("is _IOWR('N', 3, struct ctl_info) as sys/ioccom.h makes it", () => {
    const inOut = 0xc0000000;
    expect(CTLIOCGINFO).toBe(inOut + CTL_INFO_BYTES * 2 ** 16 + "N".charCodeAt(0) * 2 ** 8 + 3);
  });
});

describe("ctlInfo", () => {
  test("golden bytes for the utun control", () => {
    const name = "636f6d2e6170706c652e6e65742e7574756e5f636f6e74726f6c";
    expect(ctlInfo(UTUN_CONTROL_NAME).toHex()).toBe("00000000" + name + "00".repeat(70));
    expect(ctlInfo(UTUN_CONTROL_NAME)).toHaveLength(CTL_INFO_BYTES);
  });

  test("keeps the final zero of a name that is too long", () => {
    const info = ctlInfo("n".repeat(200));
    expect(info).toHaveLength(100);
    expect([info[98], info[99]]).toEqual([0x6e, 0]);
  });
});

describe("ctlInfoId", () => {
  test("reads the number in host byte order, at any place in memory", () => {
    expect(ctlInfoId(Uint8Array.fromHex("ffff0a0000800000").subarray(2))).toBe(0x8000000a);
  });
});

describe("sockaddrCtl", () => {
  test("golden bytes: length, family, AF_SYS_CONTROL, number, unit, five reserved words", () => {
    const address = sockaddrCtl(0x01020304, 8);
    expect(address.toHex().match(/.{8}/g)).toEqual([
      "20200200",
      "04030201",
      "08000000",
      ...Array<string>(5).fill("00000000"),
    ]);
    expect(address).toHaveLength(SOCKADDR_CTL_BYTES);
  });
});

describe("variadicPadding", () => {
  test("makes the variadic argument the ninth on Apple's arm64, and leaves it the third elsewhere", () => {
    expect(variadicPadding("darwin", "arm64")).toBe(6);
    for (const arch of ["x64", "arm64"]) expect(variadicPadding("linux", arch)).toBe(0);
    expect(variadicPadding("darwin", "x64")).toBe(0);
  });
});

// The numbers below are Linux's; F_SETFD and FD_CLOEXEC are the same on both systems.
describe.skipIf(process.platform !== "linux")("utunCalls", () => {
  const [AF_INET, SOCK_DGRAM, SOL_SOCKET, SO_TYPE, FIONREAD, F_GETFD] = [2, 2, 1, 3, 0x541b, 1] as const;
  const calls = utunCalls();

  function withSocket(use: (fd: number) => void): void {
    const fd = calls.socket(AF_INET, SOCK_DGRAM, 0);
    expect(fd).toBeGreaterThanOrEqual(0);
    try {
      use(fd);
    } finally {
      expect(calls.close(fd)).toBe(0);
    }
  }

  test("getsockopt fills the value and returns its length", () => {
    withSocket((fd) => {
      const value = new Uint8Array(16);
      expect(calls.getsockopt(fd, SOL_SOCKET, SO_TYPE, value)).toBe(4);
      expect(value[0]).toBe(SOCK_DGRAM);
    });
  });

  test("fcntl hands over its number", () => {
    withSocket((fd) => {
      expect(calls.fcntl(fd, F_GETFD, 0)).toBe(0);
      expect(calls.fcntl(fd, F_SETFD, FD_CLOEXEC)).toBe(0);
      expect(calls.fcntl(fd, F_GETFD, 0)).toBe(FD_CLOEXEC);
    });
  });

  test("ioctl lets the kernel fill its argument", () => {
    withSocket((fd) => {
      const waiting = new Uint8Array(4).fill(0xff);
      expect(calls.ioctl(fd, FIONREAD, waiting)).toBe(0);
      expect(waiting.toHex()).toBe("00000000");
    });
  });

  test("a failure is negative, and errno tells why", () => {
    const EBADF = 9;
    for (const call of [
      () => calls.connect(-1, new Uint8Array(16)),
      () => calls.getsockopt(-1, SOL_SOCKET, SO_TYPE, new Uint8Array(4)),
      () => calls.write(-1, new Uint8Array(4), 4),
      () => calls.close(-1),
    ]) {
      expect(call()).toBe(-1);
      expect(calls.errno()).toBe(EBADF);
    }
  });
});
