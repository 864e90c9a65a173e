/**
 * Splits a super-packet into smaller super-packets, for a record limit under its size.
 *
 * What comes out is what the kernel would have built with a smaller `gso_max_size`: each part has its own virtio header,
 * IP length and identification, TCP sequence number and flags or UDP length, and the sum of its own pseudo header in the
 * checksum field, which stays open (NEEDS_CSUM; virtio 1.2, section 5.1.6.2). A part of one segment is an ordinary packet.
 * Segmenting the parts gives byte for byte what segmenting the whole gives. The super-packet is cut evenly: as few parts as
 * the limit allows, and none much larger than the others, because a larger record is the likelier one to be lost.
 *
 * Pure, nothing is allocated. For pairs of virtio header and packet that `admitOffload` would admit, as the kernel makes
 * them; what has its transport header elsewhere (behind IPv6 extension headers) is for `segment.ts`.
 */

import { copyBytes, writeUint16 } from "./bytes.ts";
import { completeChecksum, foldSum, pseudoHeaderSum } from "./checksum.ts";
import { VNET_HEADER_BYTES } from "./limits.ts";
import { ipHeaderBytes, ipVersion, PROTOCOL_TCP, PROTOCOL_UDP } from "./packet.ts";
import { finishIpv4, finishTcp, headersLength, segmentCount } from "./segment.ts";
import {
  GSO_ECN,
  GSO_NONE,
  GSO_UDP_L4,
  TCP_CHECKSUM_OFFSET,
  UDP_CHECKSUM_OFFSET,
  VNET_NEEDS_CSUM,
  vnetCsumOffset,
  vnetCsumStart,
  vnetFlags,
  vnetGsoSize,
  vnetGsoType,
  writeVnetHeader,
} from "./vnet_header.ts";

/** Segments of every part but the last, which has the rest. */
function segmentsPerPart(bytes: Uint8Array, offset: number, length: number, limit: number): number {
  const total = segmentCount(bytes, offset, length);
  if (total === 1 || VNET_HEADER_BYTES + length <= limit) return total;
  const room = limit - VNET_HEADER_BYTES - headersLength(bytes, offset);
  const most = Math.max(1, Math.floor(room / Math.max(1, vnetGsoSize(bytes, offset))));
  return Math.ceil(total / Math.ceil(total / most));
}

/** Into how many parts {@link writeSplit} will split the packet of `length` bytes behind the virtio header at `offset`. */
export function splitCount(bytes: Uint8Array, offset: number, length: number, limit: number): number {
  return Math.ceil(segmentCount(bytes, offset, length) / segmentsPerPart(bytes, offset, length, limit));
}

/** Bytes that {@link writeSplit} will write. */
export function splitBytes(bytes: Uint8Array, offset: number, length: number, limit: number): number {
  const parts = splitCount(bytes, offset, length, limit);
  if (parts === 1) return VNET_HEADER_BYTES + length;
  return length + VNET_HEADER_BYTES + (parts - 1) * (VNET_HEADER_BYTES + headersLength(bytes, offset));
}

/**
 * Writes the parts back to back, each a virtio header and its packet, to `out` from `outOffset` on. `packetLength` walks them.
 *
 * A part is longer than `limit` only if it is one segment, which cannot be split: an ordinary packet, that the caller can
 * send without its virtio header.
 *
 * @param offset where the virtio header is; the packet of `length` bytes follows it; must not overlap what is written
 * @param limit most bytes of a part, its virtio header included
 * @param finish whether parts of one segment get their whole checksum (and a virtio header of zeros), or leave it open
 * @returns bytes written
 */
export function writeSplit(
  bytes: Uint8Array,
  offset: number,
  length: number,
  limit: number,
  out: Uint8Array,
  outOffset: number,
  finish: boolean,
): number {
  if (vnetGsoType(bytes, offset) === GSO_NONE) {
    copyBytes(bytes, offset, out, outOffset, VNET_HEADER_BYTES + length);
    if (finish) finishOrdinary(out, outOffset, length);
    return VNET_HEADER_BYTES + length;
  }
  const packet = offset + VNET_HEADER_BYTES;
  const headers = headersLength(bytes, offset);
  const size = vnetGsoSize(bytes, offset);
  const total = segmentCount(bytes, offset, length);
  const perPart = segmentsPerPart(bytes, offset, length, limit);
  const isTcp = vnetGsoType(bytes, offset) !== GSO_UDP_L4;
  const protocol = isTcp ? PROTOCOL_TCP : PROTOCOL_UDP;
  // all parts have the same addresses, so only the length in the pseudo header differs
  const pseudo = pseudoHeaderSum(bytes, packet, ipVersion(bytes, packet), protocol, 0);
  let at = outOffset;
  for (let first = 0; first < total; first += perPart) {
    const from = headers + first * size;
    const payload = Math.max(0, Math.min(perPart * size, length - from));
    copyBytes(bytes, offset, out, at, VNET_HEADER_BYTES + headers);
    copyBytes(bytes, packet + from, out, at + VNET_HEADER_BYTES + headers, payload);
    const last = first + perPart >= total;
    finishPart(out, at, headers + payload, isTcp, first, last, first * size, pseudo);
    finishVnet(out, at, headers, Math.min(perPart, total - first) === 1, first);
    if (finish && vnetGsoType(out, at) === GSO_NONE) finishOrdinary(out, at, headers + payload);
    at += VNET_HEADER_BYTES + headers + payload;
  }
  return at - outOffset;
}

/** Makes the headers behind the virtio header at `at` those of a packet of `length` bytes that begins at segment `first`. */
function finishPart(
  out: Uint8Array,
  at: number,
  length: number,
  isTcp: boolean,
  first: number,
  last: boolean,
  skipped: number,
  pseudo: number,
): void {
  const packet = at + VNET_HEADER_BYTES;
  const ipBytes = vnetCsumStart(out, at);
  if (ipVersion(out, packet) === 4) finishIpv4(out, packet, length, first);
  else writeUint16(out, packet + 4, length - ipHeaderBytes(out, packet));
  const transport = packet + ipBytes;
  if (isTcp) finishTcp(out, transport, first, last, skipped);
  else writeUint16(out, transport + 4, length - ipBytes);
  const field = transport + (isTcp ? TCP_CHECKSUM_OFFSET : UDP_CHECKSUM_OFFSET);
  writeUint16(out, field, foldSum(pseudo + length - ipBytes));
}

/** Makes the copied virtio header that of a part: ordinary or not, and only the first one can have a CWR to announce. */
function finishVnet(out: Uint8Array, at: number, headers: number, ordinary: boolean, first: number): void {
  const type = vnetGsoType(out, at);
  const gsoType = ordinary ? GSO_NONE : first === 0 ? type : type & ~GSO_ECN;
  const gsoSize = ordinary ? 0 : vnetGsoSize(out, at);
  const start = vnetCsumStart(out, at);
  writeVnetHeader(out, at, VNET_NEEDS_CSUM, gsoType, headers, gsoSize, start, vnetCsumOffset(out, at));
}

/** Completes the checksum of the ordinary packet behind the virtio header at `at`, if it is open. */
function finishOrdinary(out: Uint8Array, at: number, length: number): void {
  if ((vnetFlags(out, at) & VNET_NEEDS_CSUM) === 0) return;
  const packet = at + VNET_HEADER_BYTES;
  const start = packet + vnetCsumStart(out, at);
  completeChecksum(out, start, start + vnetCsumOffset(out, at), packet + length);
  out.fill(0, at, packet);
}
