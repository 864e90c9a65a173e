/**
 * Joins neighbouring UDP packets of one flow into one super-packet for the kernel (USO), in place.
 *
 * A record often holds dozens of equal UDP packets of one flow, each behind its virtio header. Written one by one, each
 * costs a system call and a walk through the kernel's receive path; joined, the kernel cuts them up at the socket. Only
 * what a segmentation of the result gives back exactly is joined: same addresses, ports and IP header fields, payloads
 * of one size with a shorter one at most at the end, checksums still open or verified here.
 */

import { readUint16, writeUint16 } from "./bytes.ts";
import { addWords, checksumOf, foldSum, pseudoHeaderSum } from "./checksum.ts";
import { VNET_HEADER_BYTES } from "./limits.ts";
import {
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  ipHeaderBytes,
  ipProtocol,
  ipVersion,
  packetLength,
  PROTOCOL_UDP,
} from "./packet.ts";
import {
  GSO_NONE,
  GSO_UDP_L4,
  UDP_CHECKSUM_OFFSET,
  UDP_HEADER_BYTES,
  VNET_NEEDS_CSUM,
  vnetFlags,
  vnetGsoType,
  writeVnetHeader,
} from "./vnet_header.ts";

/** Packets in one super-packet: UDP_MAX_SEGMENTS of Linux before 6.10. */
const MAX_RUN_PACKETS = 64;
/** In the byte of an IPv4 header that holds the flags. */
const DONT_FRAGMENT = 0x40;
/** IPv4 total length has 16 bits. */
const MAX_RUN_BYTES = 65_535;

/** The last run found; one object, reused, because this is the packet path. */
export class UdpRun {
  /** Bytes of the buffer that the run's packets took, virtio headers included. */
  consumed = 0;
  /** Bytes of the super-packet that now stands at the run's offset, virtio header included. */
  size = 0;
  /** Packets joined. */
  packets = 0;

  /**
   * Joins the packets that continue the one at `offset`, which the caller has admitted (`admitOffload`).
   *
   * @param length length of the first packet, without its virtio header
   * @param end end of the bytes that may be looked at
   * @returns false when nothing was joined; the buffer is then unchanged
   */
  join(bytes: Uint8Array, offset: number, length: number, end: number): boolean {
    const first = offset + VNET_HEADER_BYTES;
    const headers = udpHeaders(bytes, offset, length);
    if (headers === 0) return false;
    const payload = length - headers;
    let at = first + length;
    let to = at;
    let packets = 1;
    while (packets < MAX_RUN_PACKETS && at + VNET_HEADER_BYTES < end) {
      const packet = at + VNET_HEADER_BYTES;
      const size = packetLength(bytes, packet, end);
      const more = size - headers;
      if (more <= 0 || more > payload || to - first + more > MAX_RUN_BYTES) break;
      if (!sameFlow(bytes, first, packet, headers) || !numbered(bytes, first, packet, packets)) break;
      if (udpHeaders(bytes, at, size) !== headers) break;
      bytes.copyWithin(to, packet + headers, packet + size);
      to += more;
      at = packet + size;
      packets++;
      if (more < payload) break;
    }
    if (packets === 1) return false;
    finish(bytes, offset, headers, payload, to - first);
    this.consumed = at - offset;
    this.size = to - offset;
    this.packets = packets;
    return true;
  }
}

/** IP and UDP header together when the packet may be part of a run, else 0. */
function udpHeaders(bytes: Uint8Array, offset: number, length: number): number {
  if (vnetGsoType(bytes, offset) !== GSO_NONE) return 0;
  const packet = offset + VNET_HEADER_BYTES;
  const ipBytes = ipHeaderBytes(bytes, packet);
  const version = ipVersion(bytes, packet);
  if (ipBytes !== (version === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES)) return 0;
  if (ipProtocol(bytes, packet) !== PROTOCOL_UDP || length <= ipBytes + UDP_HEADER_BYTES) return 0;
  // a fragment has no UDP header of its own, or an incomplete payload
  if (version === 4 && ((bytes[packet + 6]! & 0x3f) !== 0 || bytes[packet + 7] !== 0)) return 0;
  const udp = packet + ipBytes;
  if (readUint16(bytes, udp + 4) !== length - ipBytes) return 0;
  const open = (vnetFlags(bytes, offset) & VNET_NEEDS_CSUM) !== 0;
  return open || checksumHolds(bytes, packet, version, udp, length - ipBytes)
    ? ipBytes + UDP_HEADER_BYTES
    : 0;
}

/** Whether the complete UDP checksum is right; "none" (0) must stay none, so it does not count. */
function checksumHolds(
  bytes: Uint8Array,
  packet: number,
  version: number,
  udp: number,
  udpBytes: number,
): boolean {
  if (readUint16(bytes, udp + UDP_CHECKSUM_OFFSET) === 0) return false;
  const pseudo = pseudoHeaderSum(bytes, packet, version, PROTOCOL_UDP, udpBytes);
  return foldSum(addWords(bytes, udp, udp + udpBytes, pseudo)) === 0xffff;
}

/** Whether two packets agree in everything that a segmentation copies: all but lengths, identification and checksums. */
function sameFlow(bytes: Uint8Array, a: number, b: number, headers: number): boolean {
  const isIpv4 = ipVersion(bytes, a) === 4;
  const ports = headers - UDP_HEADER_BYTES;
  for (let i = 0; i < ports + 4; i++) {
    const varies = isIpv4 ? (i >= 2 && i < 6) || i === 10 || i === 11 : i === 4 || i === 5;
    if (!varies && bytes[a + i] !== bytes[b + i]) return false;
  }
  return true;
}

/** Whether a segmentation gives the `index`th packet its identification again, or nobody looks at it (DF, RFC 6864). */
function numbered(bytes: Uint8Array, first: number, packet: number, index: number): boolean {
  if (ipVersion(bytes, first) === 6 || (bytes[first + 6]! & DONT_FRAGMENT) !== 0) return true;
  return readUint16(bytes, packet + 4) === ((readUint16(bytes, first + 4) + index) & 0xffff);
}

/** Makes the headers at `offset` those of a super-packet of `length` bytes, its checksum left open. */
function finish(bytes: Uint8Array, offset: number, headers: number, payload: number, length: number): void {
  const packet = offset + VNET_HEADER_BYTES;
  const version = ipVersion(bytes, packet);
  const ipBytes = headers - UDP_HEADER_BYTES;
  const udp = packet + ipBytes;
  if (version === 4) {
    writeUint16(bytes, packet + 2, length);
    writeUint16(bytes, packet + 10, 0);
    writeUint16(bytes, packet + 10, checksumOf(addWords(bytes, packet, udp, 0)));
  } else writeUint16(bytes, packet + 4, length - ipBytes);
  writeUint16(bytes, udp + 4, length - ipBytes);
  const pseudo = pseudoHeaderSum(bytes, packet, version, PROTOCOL_UDP, length - ipBytes);
  writeUint16(bytes, udp + UDP_CHECKSUM_OFFSET, foldSum(pseudo));
  writeVnetHeader(bytes, offset, VNET_NEEDS_CSUM, GSO_UDP_L4, headers, payload, ipBytes, UDP_CHECKSUM_OFFSET);
}
