/** A packet and the virtio header in front of it: what one says of the other (virtio_net_hdr in linux/virtio_net.h). */

import { completeChecksum } from "./checksum.ts";
import { ipHeaderBytes } from "./packet.ts";
import { VNET_HEADER_BYTES } from "./limits.ts";
import { VNET_NEEDS_CSUM, vnetCsumOffset, vnetCsumStart, vnetFlags } from "./vnet_header.ts";

/**
 * Whether the transport header follows the IP header at once, as far as the virtio header at `offset` speaks of one: not
 * behind an IPv6 extension header. The peer admits only what it can check (`admitOffload`).
 */
export function isPlain(bytes: Uint8Array, offset: number): boolean {
  const open = (vnetFlags(bytes, offset) & VNET_NEEDS_CSUM) !== 0;
  return !open || vnetCsumStart(bytes, offset) === ipHeaderBytes(bytes, offset + VNET_HEADER_BYTES);
}

/** Completes the checksum of an ordinary packet if its virtio header at `offset` says that the kernel left it open. */
export function finishChecksum(bytes: Uint8Array, offset: number, end: number): void {
  if ((vnetFlags(bytes, offset) & VNET_NEEDS_CSUM) === 0) return;
  const start = offset + VNET_HEADER_BYTES + vnetCsumStart(bytes, offset);
  completeChecksum(bytes, start, start + vnetCsumOffset(bytes, offset), end);
}
