/**
 * Where the transport header of an inner IP packet begins, behind IPv4 options or IPv6 extension headers.
 *
 * RFC 791, RFC 8200 section 4, RFC 4302 (authentication header), RFC 6275 (mobility). Nothing is allocated: offset and
 * protocol come back in one number.
 */

import { readUint16 } from "./bytes.ts";
import { ipHeaderBytes, ipProtocol, IPV4_HEADER_BYTES, IPV6_HEADER_BYTES, ipVersion } from "./packet.ts";

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;
const MOBILITY = 135;

/** RFC 8200 knows six kinds; a longer chain is somebody's attempt to keep us busy. */
const MAX_EXTENSIONS = 8;

/** The fragment offset inside its 16-bit word: in IPv4 the low 13 bits, in IPv6 the high ones. */
const IPV4_FRAGMENT_OFFSET = 0x1fff;
const IPV6_FRAGMENT_OFFSET = 0xfff8;

/**
 * Finds the transport header of the packet `bytes[offset..end)`.
 *
 * @returns offset and protocol for {@link transportOffset} and {@link transportProtocol}; or -1 when there is none: no
 *   IPv4 or IPv6, a fragment other than the first, or a header that runs past `end`
 */
export function findTransport(bytes: Uint8Array, offset: number, end: number): number {
  if (end - offset < IPV4_HEADER_BYTES) return -1;
  const version = ipVersion(bytes, offset);
  if (version === 4) {
    const headerBytes = ipHeaderBytes(bytes, offset);
    if (headerBytes < IPV4_HEADER_BYTES || offset + headerBytes > end) return -1;
    if ((readUint16(bytes, offset + 6) & IPV4_FRAGMENT_OFFSET) !== 0) return -1;
    return (offset + headerBytes) * 256 + ipProtocol(bytes, offset);
  }
  return version === 6 && end - offset >= IPV6_HEADER_BYTES ? walkExtensions(bytes, offset, end) : -1;
}

/** Offset of the transport header that {@link findTransport} found. */
export function transportOffset(found: number): number {
  return Math.floor(found / 256);
}

/** Its protocol number. */
export function transportProtocol(found: number): number {
  return found % 256;
}

function walkExtensions(bytes: Uint8Array, offset: number, end: number): number {
  let next = ipProtocol(bytes, offset);
  let at = offset + IPV6_HEADER_BYTES;
  for (let i = 0; i < MAX_EXTENSIONS && at <= end; i++) {
    if (!isExtension(next)) return at * 256 + next;
    if (at + 8 > end) return -1;
    if (next === FRAGMENT && (readUint16(bytes, at + 2) & IPV6_FRAGMENT_OFFSET) !== 0) return -1;
    const length = extensionBytes(next, bytes[at + 1]!);
    next = bytes[at]!;
    at += length;
  }
  return -1;
}

function isExtension(protocol: number): boolean {
  return (
    protocol === HOP_BY_HOP ||
    protocol === ROUTING ||
    protocol === FRAGMENT ||
    protocol === AUTHENTICATION ||
    protocol === DESTINATION_OPTIONS ||
    protocol === MOBILITY
  );
}

/** Length of an extension header by its second byte, which counts in units that depend on the kind. */
function extensionBytes(protocol: number, units: number): number {
  if (protocol === FRAGMENT) return 8;
  return protocol === AUTHENTICATION ? (units + 2) * 4 : (units + 1) * 8;
}
