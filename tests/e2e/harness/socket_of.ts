/** The UDP sockets of another process: found in /proc, taken over by pidfd_getfd(2), changed, and let go again. */

import { FFIType } from "bun:ffi";
import { readdir, readlink } from "node:fs/promises";
import { errno, errnoName, libc, openLibrary, ptr } from "../../../lib/libc.ts";
import { SOL_SOCKET, SOL_UDP } from "../../../lib/libc_linux.ts";

/** The same numbers on every machine type (asm-generic/unistd.h). */
const PIDFD_OPEN = 434;
const PIDFD_GETFD = 438;
/** Send without checksums (socket(7), linux/udp.h); for IPv6 the receiver must agree. */
const SO_NO_CHECK = 11;
const UDP_NO_CHECK6_TX = 101;
const UDP_NO_CHECK6_RX = 102;

const { syscall } = openLibrary({
  syscall: {
    args: [FFIType.i64_fast, FFIType.i64_fast, FFIType.i64_fast, FFIType.i64_fast],
    returns: FFIType.i64_fast,
  },
});

/** The descriptors that a process has open on UDP sockets. */
async function udpDescriptors(pid: number): Promise<number[]> {
  const tables = await Promise.all(
    ["udp", "udp6"].map((name) => Bun.file(`/proc/${pid}/net/${name}`).text()),
  );
  const inodes = tables.flatMap((table) =>
    table
      .split("\n")
      .slice(1)
      .map((line) => line.trim().split(/\s+/)[9]),
  );
  const sockets = new Set(inodes.filter(Boolean).map((inode) => `socket:[${inode}]`));
  const descriptors = await readdir(`/proc/${pid}/fd`);
  const targets = await Promise.all(
    descriptors.map((fd) => readlink(`/proc/${pid}/fd/${fd}`).catch(() => "")),
  );
  return descriptors.filter((_, index) => sockets.has(targets[index]!)).map(Number);
}

/** From now on the kernel refuses UDP_SEGMENT on every UDP socket of the process: EINVAL. */
export async function refuseSegmentation(pid: number): Promise<void> {
  const descriptors = await udpDescriptors(pid);
  if (descriptors.length === 0) throw new Error(`Process ${pid} has no UDP socket`);
  const process = orThrow("pidfd_open", syscall(PIDFD_OPEN, pid, 0, 0));
  for (const descriptor of descriptors) {
    const socket = orThrow("pidfd_getfd", syscall(PIDFD_GETFD, process, descriptor, 0));
    setOption(socket, SOL_SOCKET, SO_NO_CHECK);
    setOption(socket, SOL_UDP, UDP_NO_CHECK6_TX);
    setOption(socket, SOL_UDP, UDP_NO_CHECK6_RX);
    libc.close(socket);
  }
  libc.close(process);
}

function setOption(socket: number, level: number, name: number): void {
  const on = Int32Array.of(1);
  orThrow(`setsockopt ${level} ${name}`, libc.setsockopt(socket, level, name, ptr(on), on.byteLength));
}

function orThrow(call: string, result: number | bigint): number {
  if (result < 0) throw new Error(`${call}: ${errnoName(errno())}`);
  return Number(result);
}
