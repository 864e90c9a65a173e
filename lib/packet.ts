/**
 * An inner IP packet seen in place: where it ends and which addresses and ports it has.
 *
 * Formats: RFC 791 (IPv4), RFC 8200 (IPv6). Nothing is copied or allocated; all functions take the bytes and the offset
 * at which the packet begins.
 */

import { readUint16 } from "./bytes.ts";

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMP6 = 58;

export const IPV4_HEADER_BYTES = 20;
export const IPV6_HEADER_BYTES = 40;

/** IP version in the first half byte; 4 and 6 are the ones we carry. */
export function ipVersion(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! >>> 4;
}

/**
 * Length of the packet that begins at `offset`, by its own header.
 *
 * @returns the length in bytes, or 0 when the header is no IPv4 or IPv6 header or the packet runs past `end`
 */
export function packetLength(bytes: Uint8Array, offset: number, end: number): number {
  const available = end - offset;
  if (available < IPV4_HEADER_BYTES) return 0;
  const version = ipVersion(bytes, offset);
  if (version === 4) {
    const headerBytes = (bytes[offset]! & 15) * 4;
    const total = readUint16(bytes, offset + 2);
    return headerBytes >= IPV4_HEADER_BYTES && total >= headerBytes && total <= available ? total : 0;
  }
  if (version === 6 && available >= IPV6_HEADER_BYTES) {
    const total = IPV6_HEADER_BYTES + readUint16(bytes, offset + 4);
    return total <= available ? total : 0;
  }
  return 0;
}

/** Offset of the source address; it has 4 or 16 bytes by the version. */
export function sourceOffset(bytes: Uint8Array, offset: number): number {
  return ipVersion(bytes, offset) === 4 ? offset + 12 : offset + 8;
}

/** Offset of the destination address. */
export function destinationOffset(bytes: Uint8Array, offset: number): number {
  return ipVersion(bytes, offset) === 4 ? offset + 16 : offset + 24;
}

/** Header length of an IPv4 packet, or the fixed header of IPv6 (extension headers are not walked). */
export function ipHeaderBytes(bytes: Uint8Array, offset: number): number {
  return ipVersion(bytes, offset) === 4 ? (bytes[offset]! & 15) * 4 : IPV6_HEADER_BYTES;
}

/** Protocol number of the payload (IPv4 protocol, IPv6 next header). */
export function ipProtocol(bytes: Uint8Array, offset: number): number {
  return ipVersion(bytes, offset) === 4 ? bytes[offset + 9]! : bytes[offset + 6]!;
}
