/**
 * Turns a packet with a virtio-net header into the ordinary IP packets that it stands for.
 *
 * The kernel hands us unfinished packets: with a checksum still to be completed, or as a super-packet of up to 64 KB that
 * a network card would cut up (TSO, USO). A peer that takes no virtio headers gets what the card would have sent. Pure;
 * checksums are always computed anew from the finished segment.
 */

import { copyBytes, readUint16, readUint32, writeUint16, writeUint32 } from "./bytes.ts";
import { addWords, checksumOf, completeChecksum, pseudoHeaderSum } from "./checksum.ts";
import { VNET_HEADER_BYTES } from "./limits.ts";
import { ipHeaderBytes, ipVersion, PROTOCOL_TCP, PROTOCOL_UDP } from "./packet.ts";
import {
  GSO_NONE,
  GSO_UDP_L4,
  TCP_CHECKSUM_OFFSET,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_BYTES,
  VNET_NEEDS_CSUM,
  vnetCsumOffset,
  vnetCsumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
} from "./vnet_header.ts";

const TCP_FIN = 0x01;
const TCP_PSH = 0x08;
const TCP_CWR = 0x80;

/** Bytes of IP and transport header in front of the payload of a super-packet whose virtio header is at `offset`. */
export function headersLength(bytes: Uint8Array, offset: number): number {
  const start = vnetCsumStart(bytes, offset);
  if (vnetGsoType(bytes, offset) === GSO_UDP_L4) return start + UDP_HEADER_BYTES;
  return start + (bytes[offset + VNET_HEADER_BYTES + start + 12]! >>> 4) * 4;
}

/** How many ordinary packets the packet of `length` bytes behind the virtio header at `offset` stands for. */
export function segmentCount(bytes: Uint8Array, offset: number, length: number): number {
  if (vnetGsoType(bytes, offset) === GSO_NONE) return 1;
  const payload = length - headersLength(bytes, offset);
  return Math.max(1, Math.ceil(payload / Math.max(1, vnetGsoSize(bytes, offset))));
}

/** Bytes that {@link writeSegments} will write. */
export function segmentedBytes(bytes: Uint8Array, offset: number, length: number): number {
  return length + (segmentCount(bytes, offset, length) - 1) * headersLength(bytes, offset);
}

/**
 * Writes the ordinary packets back to back to `out` from `outOffset` on.
 *
 * @param offset where the virtio header is; the packet of `length` bytes follows it
 * @returns bytes written
 */
export function writeSegments(
  bytes: Uint8Array,
  offset: number,
  length: number,
  out: Uint8Array,
  outOffset: number,
): number {
  const packet = offset + VNET_HEADER_BYTES;
  if (vnetGsoType(bytes, offset) === GSO_NONE) {
    copyBytes(bytes, packet, out, outOffset, length);
    if ((vnetFlags(bytes, offset) & VNET_NEEDS_CSUM) !== 0) {
      const start = outOffset + vnetCsumStart(bytes, offset);
      completeChecksum(out, start, start + vnetCsumOffset(bytes, offset), outOffset + length);
    }
    return length;
  }
  const headers = headersLength(bytes, offset);
  const cut: Cut = {
    ipBytes: vnetCsumStart(bytes, offset),
    isTcp: vnetGsoType(bytes, offset) !== GSO_UDP_L4,
    size: vnetGsoSize(bytes, offset),
    count: segmentCount(bytes, offset, length),
  };
  let written = 0;
  for (let i = 0; i < cut.count; i++) {
    const from = headers + i * cut.size;
    const payload = Math.min(cut.size, length - from);
    const at = outOffset + written;
    copyBytes(bytes, packet, out, at, headers);
    copyBytes(bytes, packet + from, out, at + headers, payload);
    finishSegment(out, at, headers + payload, cut, i);
    written += headers + payload;
  }
  return written;
}

/** How one super-packet is cut; its virtio header says it, because IPv6 extension headers may hide the protocol. */
interface Cut {
  /** IP header with options or extension headers. */
  readonly ipBytes: number;
  readonly isTcp: boolean;
  /** Payload bytes of every segment but the last. */
  readonly size: number;
  readonly count: number;
}

/** Makes the copied headers at `at` those of segment `index`. */
function finishSegment(out: Uint8Array, at: number, length: number, cut: Cut, index: number): void {
  const { ipBytes, isTcp } = cut;
  if (ipVersion(out, at) === 4) finishIpv4(out, at, length, index);
  else writeUint16(out, at + 4, length - ipHeaderBytes(out, at));
  const transport = at + ipBytes;
  const transportBytes = length - ipBytes;
  if (isTcp) finishTcp(out, transport, index, index === cut.count - 1, index * cut.size);
  else writeUint16(out, transport + 4, transportBytes);
  const field = transport + (isTcp ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET);
  writeUint16(out, field, 0);
  const pseudo = pseudoHeaderSum(
    out,
    at,
    ipVersion(out, at),
    isTcp ? PROTOCOL_TCP : PROTOCOL_UDP,
    transportBytes,
  );
  writeUint16(out, field, checksumOf(addWords(out, transport, at + length, pseudo)) || 0xffff);
}

/**
 * Makes the IPv4 header copied to `at` that of a packet of `length` bytes, `index` segments into its super-packet.
 *
 * RFC 6864: the identification only matters for fragments, but Linux counts it up per segment and so do we.
 */
export function finishIpv4(out: Uint8Array, at: number, length: number, index: number): void {
  writeUint16(out, at + 2, length);
  writeUint16(out, at + 4, readUint16(out, at + 4) + index);
  writeUint16(out, at + 10, 0);
  writeUint16(out, at + 10, checksumOf(addWords(out, at, at + ipHeaderBytes(out, at), 0)));
}

/**
 * Makes the TCP header copied to `transport` that of a packet `index` segments and `skipped` bytes into its super-packet;
 * its checksum is left alone. FIN and PSH belong to the last segment, CWR to the first (RFC 3168, section 6.1.2).
 */
export function finishTcp(
  out: Uint8Array,
  transport: number,
  index: number,
  last: boolean,
  skipped: number,
): void {
  writeUint32(out, transport + 4, readUint32(out, transport + 4) + skipped);
  if (!last) out[transport + 13]! &= ~(TCP_FIN | TCP_PSH);
  if (index > 0) out[transport + 13]! &= ~TCP_CWR;
}
