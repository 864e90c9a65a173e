/**
 * TUN devices on Linux: /dev/net/tun, non-blocking, with the kernel's offloads where it has them.
 *
 * Documentation/networking/tuntap.rst and linux/if_tun.h. The device is not persistent: it vanishes, with its addresses
 * and routes, when its descriptor is closed, also by `kill -9`.
 */

import { PrivilegeError, SystemError, UsageError } from "./errors.ts";
import { cString, errno, errnoName, libc, type Pointer, ptr, yieldProcessor } from "./libc.ts";
import {
  IFF_NO_PI,
  IFF_TUN,
  IFF_VNET_HDR,
  IFNAMSIZ,
  IFREQ_BYTES,
  IFREQ_FLAGS_OFFSET,
  ioctl,
  ioctlNumber,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  read,
  TUN_F_CSUM,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUN_F_USO4,
  TUN_F_USO6,
  TUNGETFEATURES,
  TUNSETIFF,
  TUNSETOFFLOAD,
} from "./libc_linux.ts";
import type { PacketDevice, TunDevice } from "./tun.ts";

const DEVICE = "/dev/net/tun";
/** Room for one super-packet with its virtio header. */
const PACKET_ROOM_BYTES = 65_536 + 16;
/**
 * One {@link LinuxPacketDevice.readAvailable} ends after so many packets or bytes, that the other way gets its turn, and
 * earlier when a super-packet comes behind so many bytes: that is a record of its own, and at the beginning of the buffer
 * its copies are aligned, which makes copying it (memmove by `rep movsb`) several times faster.
 */
const READ_PACKETS = 128;
const READ_UNTIL_BYTES = 65_536;
const SUPER_PACKET_BYTES = 8_192;
const SUPER_PACKET_UNTIL_BYTES = 16_384;
/**
 * After so many small packets written the processor is offered to others: a program on this machine that receives them has
 * room for some 270 (net.core.rmem_default), fewer of those that the kernel cuts from super-packets, and loses the rest of a
 * flood when it never gets to read in between.
 */
const SMALL_PACKET_BYTES = 512;
const YIELD_AFTER_PACKETS = 128;
const READ_BYTES = READ_UNTIL_BYTES + PACKET_ROOM_BYTES;

/** struct ifreq with a name and flags, for TUNSETIFF. */
export function tunRequest(name: string, flags: number): Uint8Array<ArrayBuffer> {
  const request = new Uint8Array(IFREQ_BYTES);
  request.set(Buffer.from(name).subarray(0, IFNAMSIZ - 1));
  new DataView(request.buffer).setUint16(IFREQ_FLAGS_OFFSET, flags, true);
  return request;
}

/**
 * Makes the TUN interface `name`.
 *
 * @param offload try for virtio headers and super-packets; without them the device carries plain packets
 * @throws {PrivilegeError} without /dev/net/tun or the right to use it
 * @throws {UsageError} when the name is taken or is none
 */
export function openTunLinux(name: string, offload = true): TunDevice {
  if (!/^[^\s/:%]{1,15}$/.test(name) || name === "." || name === "..") {
    throw new UsageError(
      `Cannot use "${name}" as an interface name: expected 1 to 15 characters without spaces or /`,
    );
  }
  const path = cString(DEVICE);
  const fd = libc.open(ptr(path), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (fd < 0) throw openError(errno());
  const withOffload =
    offload && carriesVirtioHeaders(fd) && attach(fd, name, IFF_TUN | IFF_NO_PI | IFF_VNET_HDR) === 0;
  const failure = withOffload ? 0 : attach(fd, name, IFF_TUN | IFF_NO_PI);
  if (failure !== 0) {
    libc.close(fd);
    throw attachError(name, failure);
  }
  return { fd, name, offload: withOffload, close: () => void libc.close(fd) };
}

/** Whether devices of this kernel may carry virtio headers; one that does not even tell has none. */
function carriesVirtioHeaders(fd: number): boolean {
  const features = new Uint32Array(1);
  return ioctl(fd, TUNGETFEATURES, ptr(features)) === 0 && (features[0]! & IFF_VNET_HDR) !== 0;
}

/** @returns 0 or the error number */
function attach(fd: number, name: string, flags: number): number {
  const request = tunRequest(name, flags);
  return ioctl(fd, TUNSETIFF, ptr(request)) === 0 ? 0 : errno();
}

/**
 * Asks for the best set of offloads that this kernel knows; without any it completes checksums itself.
 *
 * @returns whether UDP super-packets are among them (Linux 6.2)
 */
function enableOffloads(fd: number): boolean {
  const tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6;
  const udp = TUN_F_USO4 | TUN_F_USO6;
  const granted = [tcp | udp, tcp, TUN_F_CSUM].find((wanted) => ioctlNumber(fd, TUNSETOFFLOAD, wanted) === 0);
  return granted !== undefined && (granted & udp) !== 0;
}

function openError(code: number): Error {
  const name = errnoName(code);
  if (name === "ENOENT" || name === "ENODEV" || name === "ENXIO") {
    return new PrivilegeError(
      `Cannot open ${DEVICE}: ${name}, this machine has no TUN device; load it with "modprobe tun", or give the container --device ${DEVICE}`,
    );
  }
  if (name === "EACCES" || name === "EPERM") {
    return new PrivilegeError(`Cannot open ${DEVICE}: ${name}; run as root (sudo) or with CAP_NET_ADMIN`);
  }
  return new SystemError(`Cannot open ${DEVICE}: ${name}`, "open", code);
}

function attachError(name: string, code: number): Error {
  const reason = errnoName(code);
  if (reason === "EBUSY") {
    return new UsageError(`Cannot make interface "${name}": the name is taken; choose another with --tun`);
  }
  if (reason === "EPERM") {
    return new PrivilegeError(
      `Cannot make interface "${name}": EPERM; run as root (sudo) or with CAP_NET_ADMIN`,
    );
  }
  if (reason === "EINVAL") {
    return new UsageError(
      `Cannot make interface "${name}": the name is taken by another kind of interface, or is none`,
    );
  }
  return new SystemError(`Cannot make interface "${name}": ${reason}`, "ioctl TUNSETIFF", code);
}

/**
 * The packet path's end of an open descriptor, for the loop of `data_loop_poll.ts`.
 *
 * The buffer whose address the kernel gets is a field of this object, so that the collector cannot free it meanwhile.
 */
export class LinuxPacketDevice implements PacketDevice {
  readonly offload: boolean;
  readonly udpOffload: boolean;
  /** What {@link readAvailable} filled. */
  readonly readBuffer = new Uint8Array(READ_BYTES);
  /** The last {@link readAvailable} found the queue empty in the end. */
  isDrained = false;
  /** Packets and super-packets of the last {@link readAvailable}. */
  packetsRead = 0;
  #fd: number;
  readonly #readAddress: number = ptr(this.readBuffer);
  #writeBuffer: Uint8Array | null = null;
  #writeAddress = 0;
  #smallPackets = 0;

  constructor(fd: number, offload: boolean) {
    this.#fd = fd;
    this.offload = offload;
    this.udpOffload = offload && enableOffloads(fd);
  }

  /** -1 after {@link stop}, which every system call refuses. */
  get fd(): number {
    return this.#fd;
  }

  /**
   * Reads what waits, packet by packet, up to a bound.
   *
   * @returns bytes of {@link readBuffer} that now hold packets back to back; 0 when none waits
   */
  readAvailable(): number {
    let end = 0;
    let packets = 0;
    this.isDrained = false;
    while (packets < READ_PACKETS && end < READ_UNTIL_BYTES) {
      const count = read(this.#fd, (this.#readAddress + end) as Pointer, PACKET_ROOM_BYTES);
      if (count <= 0) {
        this.isDrained = true;
        break;
      }
      end += count;
      packets++;
      if (count > SUPER_PACKET_BYTES && end >= SUPER_PACKET_UNTIL_BYTES) break;
    }
    this.packetsRead = packets;
    return end;
  }

  write(bytes: Uint8Array, offset: number, length: number, packets = 1): number {
    if (this.#writeBuffer !== bytes) {
      this.#writeBuffer = bytes;
      this.#writeAddress = ptr(bytes);
    }
    if (length < SMALL_PACKET_BYTES * packets) this.#makeWay(packets);
    const count = Number(libc.write(this.#fd, (this.#writeAddress + offset) as Pointer, length));
    return count === length ? 0 : errno();
  }

  /** Offers the processor to others before these small packets, when many have gone before. */
  #makeWay(packets: number): void {
    this.#smallPackets += packets;
    if (this.#smallPackets < YIELD_AFTER_PACKETS) return;
    this.#smallPackets = 0;
    yieldProcessor();
  }

  stop(): void {
    this.#fd = -1;
  }
}
