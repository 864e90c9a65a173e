/**
 * The virtio-net header in front of a packet on a TUN with IFF_VNET_HDR: reading it, and not believing it.
 *
 * struct virtio_net_hdr (linux/virtio_net.h), 10 bytes, little-endian on the wire and on every machine we run on:
 * ```
 *  0       1          2         4          6            8             10
 * | flags | gso type | hdr len | gso size | csum start | csum offset | IP packet ...
 * ```
 * A header that came through the tunnel was written by the peer. {@link admitOffload} lets only those through whose every
 * field follows from the packet behind it, because a kernel that is handed a lying header has crashed before.
 */

import { readUint16 } from "./bytes.ts";
import { VNET_HEADER_BYTES } from "./limits.ts";
import {
  IPV4_HEADER_BYTES,
  ipHeaderBytes,
  ipProtocol,
  ipVersion,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "./packet.ts";

/** The checksum at csum start + csum offset must still be completed. */
export const VNET_NEEDS_CSUM = 1;

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_TCPV6 = 4;
/** UDP segmentation, Linux 6.2 (VIRTIO_NET_HDR_GSO_UDP_L4). */
export const GSO_UDP_L4 = 5;
/** Flag beside a TCP type: the first segment carries CWR (RFC 3168). */
export const GSO_ECN = 0x80;

/** Offset of the checksum inside a TCP header (RFC 9293) and a UDP header (RFC 768). */
export const TCP_CHECKSUM_OFFSET = 16;
export const UDP_CHECKSUM_OFFSET = 6;
export const UDP_HEADER_BYTES = 8;
const UDP_LENGTH_OFFSET = 4;
const TCP_HEADER_BYTES = 20;

/** Segments that Linux accepts in one UDP super-packet (UDP_MAX_SEGMENTS of 6.10 and later). */
const UDP_MAX_SEGMENTS = 128;
/** Linux never sends TCP segments smaller than this (TCP_MIN_SND_MSS, net/tcp.h). */
const TCP_MIN_SEGMENT = 48;

export function vnetFlags(bytes: Uint8Array, offset: number): number {
  return bytes[offset]!;
}

export function vnetGsoType(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 1]!;
}

/** Payload bytes of each segment of a super-packet. */
export function vnetGsoSize(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 4]! | (bytes[offset + 5]! << 8);
}

/** Where the checksummed part begins, counted from the IP header. */
export function vnetCsumStart(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 6]! | (bytes[offset + 7]! << 8);
}

/** Where the checksum field is, counted from csum start. */
export function vnetCsumOffset(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 8]! | (bytes[offset + 9]! << 8);
}

/** Writes a whole header. */
export function writeVnetHeader(
  bytes: Uint8Array,
  offset: number,
  flags: number,
  gsoType: number,
  headerLength: number,
  gsoSize: number,
  csumStart: number,
  csumOffset: number,
): void {
  bytes[offset] = flags;
  bytes[offset + 1] = gsoType;
  bytes[offset + 2] = headerLength;
  bytes[offset + 3] = headerLength >>> 8;
  bytes[offset + 4] = gsoSize;
  bytes[offset + 5] = gsoSize >>> 8;
  bytes[offset + 6] = csumStart;
  bytes[offset + 7] = csumStart >>> 8;
  bytes[offset + 8] = csumOffset;
  bytes[offset + 9] = csumOffset >>> 8;
}

/**
 * Decides whether the header at `offset` may be handed to the kernel with the packet of `length` bytes behind it.
 *
 * Flags other than NEEDS_CSUM are cleared (DATA_VALID would let a peer vouch for a checksum), and `hdr len` is written
 * from the packet itself; everything else must already be consistent.
 *
 * @returns whether the pair may be written to the TUN
 */
export function admitOffload(bytes: Uint8Array, offset: number, length: number): boolean {
  const needsChecksum = (vnetFlags(bytes, offset) & VNET_NEEDS_CSUM) !== 0;
  const gsoType = vnetGsoType(bytes, offset);
  if (!needsChecksum) {
    if (gsoType !== GSO_NONE) return false;
    bytes.fill(0, offset, offset + VNET_HEADER_BYTES);
    return true;
  }
  const headerBytes = transportHeaderBytes(bytes, offset, length);
  if (headerBytes === 0) return false;
  if (gsoType !== GSO_NONE && !admitGso(bytes, offset, length - headerBytes)) return false;
  if (gsoType === GSO_NONE && vnetGsoSize(bytes, offset) !== 0) return false;
  bytes[offset] = VNET_NEEDS_CSUM;
  bytes[offset + 2] = headerBytes;
  bytes[offset + 3] = headerBytes >>> 8;
  return true;
}

/**
 * IP and transport header together, when csum start and offset point at the checksum of the very TCP or UDP header that
 * follows the IP header; else 0. Fragments and IPv6 extension headers are refused: the kernel never offloads those.
 */
function transportHeaderBytes(bytes: Uint8Array, offset: number, length: number): number {
  const packet = offset + VNET_HEADER_BYTES;
  const ipBytes = ipHeaderBytes(bytes, packet);
  if (vnetCsumStart(bytes, offset) !== ipBytes || isFragment(bytes, packet)) return 0;
  const protocol = ipProtocol(bytes, packet);
  const checksumOffset = vnetCsumOffset(bytes, offset);
  if (protocol === PROTOCOL_UDP) {
    return checksumOffset === UDP_CHECKSUM_OFFSET && length >= ipBytes + UDP_HEADER_BYTES
      ? ipBytes + UDP_HEADER_BYTES
      : 0;
  }
  if (protocol !== PROTOCOL_TCP || checksumOffset !== TCP_CHECKSUM_OFFSET) return 0;
  if (length < ipBytes + TCP_HEADER_BYTES) return 0;
  const tcpBytes = (bytes[packet + ipBytes + 12]! >>> 4) * 4;
  return tcpBytes >= TCP_HEADER_BYTES && length >= ipBytes + tcpBytes ? ipBytes + tcpBytes : 0;
}

function admitGso(bytes: Uint8Array, offset: number, payloadBytes: number): boolean {
  const packet = offset + VNET_HEADER_BYTES;
  const type = vnetGsoType(bytes, offset);
  const size = vnetGsoSize(bytes, offset);
  const protocol = ipProtocol(bytes, packet);
  if (payloadBytes === 0 || size === 0) return false;
  if (type === GSO_UDP_L4) {
    const udpLength = readUint16(bytes, packet + vnetCsumStart(bytes, offset) + UDP_LENGTH_OFFSET);
    const honest = protocol === PROTOCOL_UDP && udpLength === UDP_HEADER_BYTES + payloadBytes;
    return honest && payloadBytes <= size * UDP_MAX_SEGMENTS;
  }
  const wanted = ipVersion(bytes, packet) === 4 ? GSO_TCPV4 : GSO_TCPV6;
  return (type & ~GSO_ECN) === wanted && protocol === PROTOCOL_TCP && size >= TCP_MIN_SEGMENT;
}

/** Whether an IPv4 packet is a fragment (RFC 791: more-fragments flag or an offset). */
function isFragment(bytes: Uint8Array, packet: number): boolean {
  if (ipVersion(bytes, packet) !== 4 || ipHeaderBytes(bytes, packet) < IPV4_HEADER_BYTES) return false;
  return (bytes[packet + 6]! & 0x3f) !== 0 || bytes[packet + 7] !== 0;
}
