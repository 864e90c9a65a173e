/** A socket that hears of changed networks on Linux (rtnetlink(7); linux/netlink.h, linux/rtnetlink.h). */

import { FFIType } from "bun:ffi";
import { SystemError } from "./errors.ts";
import { errno, errnoName, libc, openLibrary, ptr } from "./libc.ts";

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const NETLINK_ROUTE = 0;
/** sizeof(struct sockaddr_nl): family (u16), pad (u16), port (u32), groups (u32), in the machine's byte order. */
const SOCKADDR_NL_BYTES = 12;
const GROUPS_OFFSET = 8;

/** RTMGRP_*: links, addresses, routes and rules of both families. */
const GROUPS = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << (19 - 1));

const symbols = openLibrary({
  socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
});

/**
 * Opens the socket; every message that can be read from it tells of a change.
 *
 * @returns a descriptor in non-blocking mode, which the caller closes
 * @throws {SystemError} when the kernel refuses
 */
export function openRouteSocket(): number {
  const fd = symbols.socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
  if (fd < 0) throw failure("socket", errno());
  const address = new Uint8Array(SOCKADDR_NL_BYTES);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(GROUPS_OFFSET, GROUPS, true);
  if (symbols.bind(fd, ptr(address), address.length) === 0) return fd;
  const code = errno();
  libc.close(fd);
  throw failure("bind", code);
}

function failure(call: string, code: number): SystemError {
  return new SystemError(`Cannot listen for changes of the network: ${call}: ${errnoName(code)}`, call, code);
}
