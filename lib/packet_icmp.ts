/**
 * Builds the ICMP error that answers an inner packet which cannot be forwarded.
 *
 * IPv4: RFC 792, RFC 1191 (next-hop MTU), RFC 1122 section 3.2.2 and RFC 1812 section 4.3.2 (when not to, how much to
 * quote). IPv6: RFC 4443 sections 2.4, 3.1, 3.2. How often one may be sent is the caller's to limit (`token_bucket.ts`).
 */

import { readUint32, writeUint16, writeUint32 } from "./bytes.ts";
import { addWords, checksumOf, pseudoHeaderSum } from "./checksum.ts";
import {
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  ipVersion,
  packetLength,
  PROTOCOL_ICMP,
  PROTOCOL_ICMP6,
} from "./packet.ts";
import { findTransport, transportOffset, transportProtocol } from "./packet_transport.ts";

/** Type, code and four more bytes that depend on them. */
const ICMP_HEADER_BYTES = 8;
/** RFC 1812, section 4.3.2.3: the whole error has at most 576 bytes; RFC 4443, section 2.4 (c): the IPv6 minimum MTU. */
const IPV4_ERROR_BYTES = 576;
const IPV6_ERROR_BYTES = 1280;
/** RFC 1812, section 4.3.2.5: precedence 6 (internetwork control), as Linux does. */
const TOS_INTERNET_CONTROL = 0xc0;
const DONT_FRAGMENT = 0x40;
const HOP_LIMIT = 64;

const IPV4_UNREACHABLE = 3;
const IPV4_HOST_UNREACHABLE = 1;
const IPV4_FRAGMENTATION_NEEDED = 4;
const IPV6_UNREACHABLE = 1;
const IPV6_ADDRESS_UNREACHABLE = 3;
const IPV6_TOO_BIG = 2;

/** Messages about trouble: destination unreachable, source quench, redirect, time exceeded, parameter problem. */
const IPV4_ERROR_TYPES = new Set([3, 4, 5, 11, 12]);
/** Informational in number, but RFC 4443, section 2.4 (e.2), forbids to answer it as well. */
const IPV6_REDIRECT = 137;
const IPV6_FIRST_INFORMATIONAL = 128;

/**
 * "The packet is longer than `mtuBytes`, the next hop's MTU": IPv4 type 3 code 4, IPv6 type 2.
 *
 * @param bytes the offending packet is `bytes[offset..end)`
 * @param from address of the answering router, 4 or 16 bytes by the packet's version
 * @returns the whole IP packet; null when none may be sent, also for an IPv4 packet that may be fragmented
 */
export function packetTooBig(
  bytes: Uint8Array,
  offset: number,
  end: number,
  from: Uint8Array,
  mtuBytes: number,
): Uint8Array<ArrayBuffer> | null {
  if (!mayAnswer(bytes, offset, end, true)) return null;
  if (ipVersion(bytes, offset) === 6) return ipv6Error(bytes, offset, end, from, IPV6_TOO_BIG, 0, mtuBytes);
  if ((bytes[offset + 6]! & DONT_FRAGMENT) === 0) return null;
  return ipv4Error(bytes, offset, end, from, IPV4_FRAGMENTATION_NEEDED, Math.min(mtuBytes, 0xffff));
}

/**
 * "Nobody has that address": IPv4 type 3 code 1 (host unreachable), IPv6 type 1 code 3 (address unreachable).
 *
 * @param bytes the offending packet is `bytes[offset..end)`
 * @param from address of the answering router, 4 or 16 bytes by the packet's version
 * @returns the whole IP packet; null when none may be sent
 */
export function hostUnreachable(
  bytes: Uint8Array,
  offset: number,
  end: number,
  from: Uint8Array,
): Uint8Array<ArrayBuffer> | null {
  if (!mayAnswer(bytes, offset, end, false)) return null;
  return ipVersion(bytes, offset) === 4
    ? ipv4Error(bytes, offset, end, from, IPV4_HOST_UNREACHABLE, 0)
    : ipv6Error(bytes, offset, end, from, IPV6_UNREACHABLE, IPV6_ADDRESS_UNREACHABLE, 0);
}

/** Whether an error may answer this packet: see the two lists in RFC 1122, section 3.2.2, and RFC 4443, 2.4 (e). */
function mayAnswer(bytes: Uint8Array, offset: number, end: number, tooBig: boolean): boolean {
  const packetEnd = offset + packetLength(bytes, offset, end);
  if (packetEnd === offset) return false;
  const found = findTransport(bytes, offset, packetEnd);
  if (found < 0) return false;
  const protocol = transportProtocol(found);
  const at = transportOffset(found);
  if (ipVersion(bytes, offset) === 4) {
    if (!isIpv4Host(bytes, offset + 12) || !isIpv4Host(bytes, offset + 16)) return false;
    // an ICMP message whose type is cut off could be an error
    return protocol !== PROTOCOL_ICMP || (at < packetEnd && !IPV4_ERROR_TYPES.has(bytes[at]!));
  }
  if (!isIpv6Host(bytes, offset + 8)) return false;
  // path MTU discovery works for multicast, too: exception (1) to (e.3)
  if (bytes[offset + 24] === 0xff && !tooBig) return false;
  if (protocol !== PROTOCOL_ICMP6) return true;
  return at < packetEnd && bytes[at]! >= IPV6_FIRST_INFORMATIONAL && bytes[at] !== IPV6_REDIRECT;
}

/** One host's address: not this-network, loopback, multicast, reserved or broadcast (RFC 1122, section 3.2.1.3). */
function isIpv4Host(bytes: Uint8Array, at: number): boolean {
  const first = bytes[at]!;
  return first !== 0 && first !== 127 && first < 224;
}

/** Neither multicast nor the unspecified or the loopback address. */
function isIpv6Host(bytes: Uint8Array, at: number): boolean {
  if (bytes[at] === 0xff) return false;
  const high = readUint32(bytes, at) + readUint32(bytes, at + 4) + readUint32(bytes, at + 8);
  return high !== 0 || readUint32(bytes, at + 12) > 1;
}

function ipv4Error(
  bytes: Uint8Array,
  offset: number,
  end: number,
  from: Uint8Array,
  code: number,
  mtuBytes: number,
): Uint8Array<ArrayBuffer> {
  const headers = IPV4_HEADER_BYTES + ICMP_HEADER_BYTES;
  const quoted = Math.min(packetLength(bytes, offset, end), IPV4_ERROR_BYTES - headers);
  const out = new Uint8Array(headers + quoted);
  out[0] = 0x45;
  out[1] = TOS_INTERNET_CONTROL;
  writeUint16(out, 2, out.length);
  // never fragmented, so the identification means nothing (RFC 6864, section 4.1)
  out[6] = DONT_FRAGMENT;
  out[8] = HOP_LIMIT;
  out[9] = PROTOCOL_ICMP;
  out.set(from, 12);
  out.set(bytes.subarray(offset + 12, offset + 16), 16);
  writeUint16(out, 10, checksumOf(addWords(out, 0, IPV4_HEADER_BYTES, 0)));
  const icmp = IPV4_HEADER_BYTES;
  out[icmp] = IPV4_UNREACHABLE;
  out[icmp + 1] = code;
  writeUint16(out, icmp + 6, mtuBytes);
  out.set(bytes.subarray(offset, offset + quoted), headers);
  writeUint16(out, icmp + 2, checksumOf(addWords(out, icmp, out.length, 0)));
  return out;
}

function ipv6Error(
  bytes: Uint8Array,
  offset: number,
  end: number,
  from: Uint8Array,
  type: number,
  code: number,
  mtuBytes: number,
): Uint8Array<ArrayBuffer> {
  const headers = IPV6_HEADER_BYTES + ICMP_HEADER_BYTES;
  const quoted = Math.min(packetLength(bytes, offset, end), IPV6_ERROR_BYTES - headers);
  const out = new Uint8Array(headers + quoted);
  out[0] = 0x60;
  writeUint16(out, 4, ICMP_HEADER_BYTES + quoted);
  out[6] = PROTOCOL_ICMP6;
  out[7] = HOP_LIMIT;
  out.set(from, 8);
  out.set(bytes.subarray(offset + 8, offset + 24), 24);
  const icmp = IPV6_HEADER_BYTES;
  out[icmp] = type;
  out[icmp + 1] = code;
  writeUint32(out, icmp + 4, mtuBytes);
  out.set(bytes.subarray(offset, offset + quoted), headers);
  const pseudo = pseudoHeaderSum(out, 0, 6, PROTOCOL_ICMP6, ICMP_HEADER_BYTES + quoted);
  writeUint16(out, icmp + 2, checksumOf(addWords(out, icmp, out.length, pseudo)));
  return out;
}
