/**
 * macOS numbers, structures and calls for utun devices (sys/kern_control.h, net/if_utun.h, sys/fcntl.h).
 *
 * The library is opened when {@link utunCalls} is first called, so importing this module does nothing elsewhere. Apple's
 * machines are all little-endian, and the kernel's structures are in host byte order.
 */

import { FFIType } from "bun:ffi";
import { errno, libc, openLibrary, ptr } from "./libc.ts";

/** Address family of kernel sockets, and its control protocol (sys/socket.h, sys/sys_domain.h). */
export const AF_SYSTEM = 32;
export const SOCK_DGRAM = 2;
export const SYSPROTO_CONTROL = 2;
export const AF_SYS_CONTROL = 2;

/** The kernel control that makes a utun interface for each connection to it. */
export const UTUN_CONTROL_NAME = "com.apple.net.utun_control";
/** Socket option, at level SYSPROTO_CONTROL, that tells the interface's name. */
export const UTUN_OPT_IFNAME = 2;
/** Room for an interface's name with its final zero (net/if.h). */
export const IFNAMSIZ = 16;

/** Finds a kernel control's number by its name: `_IOWR('N', 3, struct ctl_info)`. */
export const CTLIOCGINFO = 0xc0644e03;
/** MAX_KCTL_NAME: room for a kernel control's name with its final zero. */
const KERNEL_CONTROL_NAME_BYTES = 96;
const CTL_INFO_NAME_OFFSET = 4;
/** sizeof(struct ctl_info). */
export const CTL_INFO_BYTES = CTL_INFO_NAME_OFFSET + KERNEL_CONTROL_NAME_BYTES;
/** sizeof(struct sockaddr_ctl). */
export const SOCKADDR_CTL_BYTES = 32;

export const F_SETFD = 2;
export const F_SETFL = 4;
export const FD_CLOEXEC = 1;
export const O_NONBLOCK = 0x4;

/** The address family that utun puts, as a big-endian word, in front of each packet. */
export const UTUN_FAMILY_BYTES = 4;
export const AF_INET = 2;
export const AF_INET6 = 30;

/** struct ctl_info, asking for the number of the kernel control `name` (ASCII, at most 95 characters). */
export function ctlInfo(name: string): Uint8Array<ArrayBuffer> {
  const info = new Uint8Array(CTL_INFO_BYTES);
  info.set(Buffer.from(name).subarray(0, KERNEL_CONTROL_NAME_BYTES - 1), CTL_INFO_NAME_OFFSET);
  return info;
}

/** ctl_id of a struct ctl_info that the kernel has filled in. */
export function ctlInfoId(info: Uint8Array): number {
  return new DataView(info.buffer, info.byteOffset, info.byteLength).getUint32(0, true);
}

/**
 * struct sockaddr_ctl of one unit of a kernel control.
 *
 * @param id the control's number, from {@link ctlInfoId}
 * @param unit 0 lets the kernel choose; N + 1 is utunN
 */
export function sockaddrCtl(id: number, unit: number): Uint8Array<ArrayBuffer> {
  const address = new Uint8Array(SOCKADDR_CTL_BYTES);
  const view = new DataView(address.buffer);
  view.setUint8(0, SOCKADDR_CTL_BYTES); // sc_len
  view.setUint8(1, AF_SYSTEM); // sc_family
  view.setUint16(2, AF_SYS_CONTROL, true); // ss_sysaddr
  view.setUint32(4, id, true); // sc_id
  view.setUint32(8, unit, true); // sc_unit; sc_reserved[5] stays zero
  return address;
}

/**
 * The system calls of a utun device; tests hand in their own. Each returns what the call returns, so a negative number
 * is a failure, told by {@link errno} right after it.
 */
export interface UtunCalls {
  socket(domain: number, type: number, protocol: number): number;
  /** With the address of `argument`, which the kernel may fill in. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  fcntl(fd: number, command: number, argument: number): number;
  connect(fd: number, address: Uint8Array): number;
  /** @returns the bytes that the kernel put into `value`, or a negative number */
  getsockopt(fd: number, level: number, option: number, value: Uint8Array): number;
  /** Writes the first `length` bytes of `bytes`. */
  write(fd: number, bytes: Uint8Array, length: number): number;
  close(fd: number): number;
  errno(): number;
}

/**
 * How many unused arguments must stand before the variadic one of `f(int, int, ...)`.
 *
 * Apple's ABI for arm64 passes variadic arguments on the stack even while registers are free ("Writing ARM64 code for
 * Apple platforms", variadic functions); bun:ffi knows fixed arguments only, of which x0 to x7 take the first eight.
 * Six unused ones after the two real ones make the variadic argument the ninth, whose place is where the callee looks:
 * the first 8-byte slot of the stack. Other systems and x64 put it in the next register, like a fixed one.
 */
export function variadicPadding(platform: string, arch: string): number {
  return platform === "darwin" && arch === "arm64" ? 6 : 0;
}

let opened: UtunCalls | null = null;

/**
 * The calls of this machine's C library, opened on first use.
 *
 * @throws {SystemError} when the library or a call is missing
 */
export function utunCalls(): UtunCalls {
  opened ??= openCalls();
  return opened;
}

function openCalls(): UtunCalls {
  const padding = Array<number>(variadicPadding(process.platform, process.arch)).fill(0);
  const { i32, u32, u64_fast: word, ptr: pointer } = FFIType;
  const variadic = { args: [i32, word, ...padding.map(() => word), word], returns: i32 } as const;
  const system = openLibrary({
    socket: { args: [i32, i32, i32], returns: i32 },
    ioctl: variadic,
    fcntl: variadic,
    connect: { args: [i32, pointer, u32], returns: i32 },
    getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 },
  } as const);
  const optionLength = new Uint32Array(1);
  return {
    socket: (domain, type, protocol) => system.socket(domain, type, protocol),
    ioctl: (fd, request, argument) => system.ioctl(fd, request, ...padding, ptr(argument)),
    fcntl: (fd, command, argument) => system.fcntl(fd, command, ...padding, argument),
    connect: (fd, address) => system.connect(fd, address, address.length),
    getsockopt: (fd, level, option, value) => {
      optionLength[0] = value.length;
      const result = system.getsockopt(fd, level, option, value, optionLength);
      return result < 0 ? result : optionLength[0];
    },
    write: (fd, bytes, length) => Number(libc.write(fd, bytes, length)),
    close: (fd) => libc.close(fd),
    errno,
  };
}
