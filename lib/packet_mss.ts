/**
 * Lowers the MSS option of a forwarded TCP SYN or SYN-ACK to what the tunnel carries, in place.
 *
 * Hosts on both sides then send segments that fit the inner MTU, whether or not "packet too big" reaches them (RFC 9293,
 * section 3.7.1; the same as `nft ... tcp option maxseg size set rt mtu`). An MSS is never raised nor added. Nothing is
 * allocated and nothing throws: a packet that is not understood stays as it is.
 */

import { readUint16, writeUint16 } from "./bytes.ts";
import { replaceWord } from "./checksum.ts";
import {
  ipProtocol,
  IPV4_HEADER_BYTES,
  IPV6_HEADER_BYTES,
  ipVersion,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
} from "./packet.ts";
import { findTransport, transportOffset, transportProtocol } from "./packet_transport.ts";

const TCP_HEADER_BYTES = 20;
const TCP_CHECKSUM_OFFSET = 16;
const TCP_SYN = 0x02;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const OPTION_MSS_BYTES = 4;

/**
 * Clamps the packet `bytes[offset..end)`.
 *
 * @param mtuBytes the inner MTU; the MSS becomes at most this less the IP and TCP headers without options (RFC 6691)
 * @param checksumOpen the packet's virtio header says NEEDS_CSUM: the TCP checksum field holds the sum of the pseudo
 *   header alone, which an option does not change, and whoever completes it covers the new bytes
 * @returns whether the packet was changed
 */
export function clampMss(
  bytes: Uint8Array,
  offset: number,
  end: number,
  mtuBytes: number,
  checksumOpen: boolean,
): boolean {
  // floods are made of these: no need to look for what is behind the header
  if (end - offset < IPV4_HEADER_BYTES || ipProtocol(bytes, offset) === PROTOCOL_UDP) return false;
  const found = findTransport(bytes, offset, end);
  if (found < 0 || transportProtocol(found) !== PROTOCOL_TCP) return false;
  const tcp = transportOffset(found);
  if (tcp + TCP_HEADER_BYTES > end || (bytes[tcp + 13]! & TCP_SYN) === 0) return false;
  const tcpEnd = tcp + (bytes[tcp + 12]! >>> 4) * 4;
  if (tcpEnd > end) return false;
  const ipBytes = ipVersion(bytes, offset) === 4 ? IPV4_HEADER_BYTES : IPV6_HEADER_BYTES;
  const limit = mtuBytes - ipBytes - TCP_HEADER_BYTES;
  return limit > 0 && clampOptions(bytes, tcp, tcpEnd, limit, checksumOpen);
}

/** Goes through the options; at the first that is malformed it stops, as receivers do. */
function clampOptions(
  bytes: Uint8Array,
  tcp: number,
  tcpEnd: number,
  limit: number,
  checksumOpen: boolean,
): boolean {
  let changed = false;
  let at = tcp + TCP_HEADER_BYTES;
  while (at < tcpEnd && bytes[at] !== OPTION_END) {
    if (bytes[at] === OPTION_NOP) {
      at++;
      continue;
    }
    const length = at + 1 < tcpEnd ? bytes[at + 1]! : 0;
    if (length < 2 || at + length > tcpEnd) return changed;
    if (bytes[at] === OPTION_MSS && length === OPTION_MSS_BYTES && readUint16(bytes, at + 2) > limit) {
      if (!checksumOpen) fixChecksum(bytes, tcp, at + 2, limit);
      writeUint16(bytes, at + 2, limit);
      changed = true;
    }
    at += length;
  }
  return changed;
}

/** Takes the value at `at`, about to become `after`, out of the TCP checksum and the new one in. */
function fixChecksum(bytes: Uint8Array, tcp: number, at: number, after: number): void {
  const field = tcp + TCP_CHECKSUM_OFFSET;
  const before = readUint16(bytes, at);
  const straddles = (at - tcp) % 2 === 1;
  const checksum = readUint16(bytes, field);
  const fixed = straddles
    ? replaceWord(checksum, swapBytes(before), swapBytes(after))
    : replaceWord(checksum, before, after);
  writeUint16(bytes, field, fixed);
}

function swapBytes(word: number): number {
  return ((word & 0xff) << 8) | (word >>> 8);
}
