/** The kernel's part of recvmmsg(2) for tests: fills the places of a batch as its structures say, without a socket. */

import { toArrayBuffer } from "bun:ffi";
import type { Pointer } from "../../lib/libc.ts";
import type { DatagramBatch } from "../../lib/udp_batch.ts";

/** One message that waits: its bytes, and the struct sockaddr of who sent it. */
export interface Message {
  readonly bytes: Uint8Array;
  readonly name: Uint8Array;
}

const MMSGHDR_BYTES = 64;

/** The memory of so many bytes at an address that a structure holds. */
function memory(address: bigint, bytes: number): Uint8Array {
  return new Uint8Array(toArrayBuffer(Number(address) as Pointer, 0, bytes));
}

/** @returns what receives messages into the places of `batch`, and tells their number */
export function batchKernel(batch: DatagramBatch): (messages: readonly Message[]) => number {
  const headers = memory(BigInt(batch.address), batch.messages * MMSGHDR_BYTES);
  const view = new DataView(headers.buffer, headers.byteOffset, headers.length);
  return (messages) => {
    if (messages.length > batch.messages) throw new RangeError(`${messages.length} messages do not fit`);
    for (const [i, { bytes, name }] of messages.entries()) receive(view, i * MMSGHDR_BYTES, bytes, name);
    return messages.length;
  };
}

/** Fills in the struct mmsghdr at `at` (recvmsg(2), recvmmsg(2)). */
function receive(view: DataView, at: number, bytes: Uint8Array, name: Uint8Array): void {
  const room = view.getUint32(at + 8, true);
  memory(view.getBigUint64(at, true), room).set(name.subarray(0, room));
  view.setUint32(at + 8, name.length, true);
  const iovecs = view.getBigUint64(at + 16, true);
  const count = Number(view.getBigUint64(at + 24, true));
  const vector = memory(iovecs, count * 16);
  const places = new DataView(vector.buffer, vector.byteOffset, vector.length);
  let taken = 0;
  for (let i = 0; i < count && taken < bytes.length; i++) {
    const part = bytes.subarray(taken, taken + Number(places.getBigUint64(i * 16 + 8, true)));
    memory(places.getBigUint64(i * 16, true), part.length).set(part);
    taken += part.length;
  }
  view.setUint32(at + 56, taken, true);
}
