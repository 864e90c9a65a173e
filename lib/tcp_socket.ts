/** An option of TCP sockets that Bun has no call for (tcp(7)). */

import type { TLSSocket } from "node:tls";
import { libc, ptr } from "./libc.ts";

const IPPROTO_TCP = 6;
const TCP_NOTSENT_LOWAT = process.platform === "darwin" ? 0x201 : 25;

const value = new Int32Array(1);

/**
 * Has the kernel take data only while it holds less than `bytes` that it has not sent yet. What the path does not carry waits
 * with us then, and the kernel's buffer is what it is for: bytes that may have to be sent again.
 *
 * @returns false when it cannot be set, which costs delay and nothing else
 */
export function limitUnsent(socket: TLSSocket, bytes: number): boolean {
  const fd = descriptorOf(socket);
  if (fd === null) return false;
  value[0] = bytes;
  return libc.setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, ptr(value), 4) === 0;
}

/** The descriptor of a socket; Bun has it on the handle, as Node has. */
function descriptorOf(socket: TLSSocket): number | null {
  const handle: unknown = Reflect.get(socket, "_handle");
  if (typeof handle !== "object" || handle === null || !("fd" in handle)) return null;
  const { fd } = handle;
  return typeof fd === "number" && fd >= 0 ? fd : null;
}
