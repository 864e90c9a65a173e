/**
 * TUN devices on macOS: a utun interface for each connection to the kernel's utun control, without offloads.
 *
 * net/if_utun.h and sys/kern_control.h. The interface vanishes, with its addresses and routes, when its last descriptor
 * is closed, also by `kill -9`. Its socket yields and takes one packet a call, behind four bytes of address family.
 */

import { constants } from "node:os";
import { writeUint32 } from "./bytes.ts";
import { PrivilegeError, SystemError, UsageError } from "./errors.ts";
import { errnoName } from "./libc.ts";
import {
  AF_INET,
  AF_INET6,
  AF_SYSTEM,
  CTLIOCGINFO,
  ctlInfo,
  ctlInfoId,
  F_SETFD,
  F_SETFL,
  FD_CLOEXEC,
  IFNAMSIZ,
  O_NONBLOCK,
  SOCK_DGRAM,
  sockaddrCtl,
  SYSPROTO_CONTROL,
  UTUN_CONTROL_NAME,
  UTUN_FAMILY_BYTES,
  UTUN_OPT_IFNAME,
  type UtunCalls,
  utunCalls,
} from "./libc_macos.ts";
import { ipVersion, packetLength } from "./packet.ts";
import type { ChunkReader, AwaitedPacketDevice, TunDevice } from "./tun.ts";

/** The largest IP packet; the interface's MTU keeps real ones far below. */
const PACKET_BYTES = 65_535;

/**
 * The unit of the utun control that makes the interface `name`.
 *
 * @returns N + 1 for `utunN` of at most four digits; 0, the kernel's choice, for every other name
 */
export function utunUnit(name: string): number {
  const found = /^utun(0|[1-9][0-9]{0,3})$/.exec(name);
  return found === null ? 0 : Number(found[1]) + 1;
}

/**
 * Makes a utun interface: `name` itself if it is a `utunN`, otherwise one that the kernel chooses.
 *
 * @returns the device, under the name that the kernel gave it
 * @throws {PrivilegeError} when not root, or the system has no utun
 * @throws {UsageError} when `name` is taken
 */
export function openTunMacos(name: string, calls: UtunCalls = utunCalls()): TunDevice {
  const check = (result: number, call: string): number => {
    if (result < 0) throw openError(name, call, calls.errno());
    return result;
  };
  const fd = check(calls.socket(AF_SYSTEM, SOCK_DGRAM, SYSPROTO_CONTROL), "socket");
  try {
    check(calls.fcntl(fd, F_SETFD, FD_CLOEXEC), "fcntl F_SETFD");
    const info = ctlInfo(UTUN_CONTROL_NAME);
    check(calls.ioctl(fd, CTLIOCGINFO, info), "ioctl CTLIOCGINFO");
    check(calls.connect(fd, sockaddrCtl(ctlInfoId(info), utunUnit(name))), "connect");
    check(calls.fcntl(fd, F_SETFL, O_NONBLOCK), "fcntl F_SETFL");
    const given = new Uint8Array(IFNAMSIZ);
    const length = check(
      calls.getsockopt(fd, SYSPROTO_CONTROL, UTUN_OPT_IFNAME, given),
      "getsockopt UTUN_OPT_IFNAME",
    );
    return { fd, name: cText(given.subarray(0, length)), offload: false, close: () => void calls.close(fd) };
  } catch (error) {
    calls.close(fd);
    throw error;
  }
}

/** The text of a C string up to its final zero. */
function cText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end)).toString("latin1");
}

function openError(name: string, call: string, code: number): Error {
  const reason = errnoName(code);
  const what = `Cannot make interface "${name}"`;
  if (reason === "EBUSY") {
    return new UsageError(
      `${what}: the name is taken; choose another with --tun, or "utun" for the next free one`,
    );
  }
  if (reason === "EPERM" || reason === "EACCES") {
    return new PrivilegeError(`${what}: ${reason}; run as root (sudo)`);
  }
  if (reason === "ENOENT") {
    return new PrivilegeError(`${what}: this system has no kernel control "${UTUN_CONTROL_NAME}"`);
  }
  return new SystemError(`${what}: ${call} failed with ${reason}`, call, code);
}

/**
 * Takes the address family from in front of each packet, in place; lengths come from the packets' own headers.
 *
 * What follows a packet of unknown length goes along as it is: the data plane counts it as malformed.
 *
 * @param bytes packets as utun gave them, back to back
 * @returns the bytes that are left, at the beginning of `bytes`
 */
export function stripFamilies(bytes: Uint8Array): number {
  let to = 0;
  for (let from = UTUN_FAMILY_BYTES; from < bytes.length;) {
    const length = packetLength(bytes, from, bytes.length) || bytes.length - from;
    bytes.copyWithin(to, from, from + length);
    to += length;
    from += length + UTUN_FAMILY_BYTES;
  }
  return to;
}

/**
 * The packet path's end of an open utun descriptor.
 *
 * Bun's event loop watches the descriptor through a stream, which reads a socket by recv(2) into no less than 64 KB, so
 * that packets stay whole. What we write is copied to a field of this object, so that the collector cannot free it under
 * the kernel: without offloads a packet is small, and copying it costs less than gathering it from two places.
 */
export class MacosPacketDevice implements AwaitedPacketDevice {
  readonly offload = false;
  readonly udpOffload = false;
  #fd: number;
  readonly #calls: UtunCalls;
  readonly #reader: ChunkReader;
  readonly #writeBuffer = new Uint8Array(UTUN_FAMILY_BYTES + PACKET_BYTES);

  constructor(
    fd: number,
    calls: UtunCalls = utunCalls(),
    reader: ChunkReader = Bun.file(fd).stream().getReader(),
  ) {
    this.#fd = fd;
    this.#calls = calls;
    this.#reader = reader;
  }

  async read(): Promise<Uint8Array | null> {
    for (;;) {
      const { value, done } = await this.#reader.read();
      if (done || value === undefined) return null;
      const length = stripFamilies(value);
      if (length > 0) return value.subarray(0, length);
    }
  }

  write(bytes: Uint8Array, offset: number, length: number): number {
    if (length > PACKET_BYTES) return constants.errno.EMSGSIZE;
    const out = this.#writeBuffer;
    writeUint32(out, 0, ipVersion(bytes, offset) === 6 ? AF_INET6 : AF_INET);
    out.set(bytes.subarray(offset, offset + length), UTUN_FAMILY_BYTES);
    const total = UTUN_FAMILY_BYTES + length;
    const count = this.#calls.write(this.#fd, out, total);
    if (count < 0) return this.#calls.errno();
    return count === total ? 0 : constants.errno.EIO;
  }

  stop(): void {
    this.#fd = -1;
    // The stream only rejects what nobody waits for any more.
    this.#reader.cancel().catch(() => undefined);
  }
}
