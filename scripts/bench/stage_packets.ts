/** What the stages work on: packets as a Linux TUN with virtio headers hands them over, and headers of records. */

import { completeChecksum, foldSum, pseudoHeaderSum } from "../../lib/checksum.ts";
import { HEADER_BYTES, TAG_BYTES, VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { PROTOCOL_TCP } from "../../lib/packet.ts";
import { piecesFor, RecordType, writeHeader } from "../../lib/protocol.ts";
import { GSO_NONE, GSO_TCPV4, VNET_NEEDS_CSUM, writeVnetHeader } from "../../lib/vnet_header.ts";
import { countText } from "./table.ts";

/** Largest outer datagram where the MTU is 1,420. */
export const DATAGRAM_BYTES = 1_452;
const IP_BYTES = 20;
const TCP_BYTES = 32;
export const HEADERS_BYTES = IP_BYTES + TCP_BYTES;
/** Payload of a segment where the MTU is 1,420. */
export const SEGMENT_PAYLOAD_BYTES = 1_368;

/** An IPv4 TCP packet from 10.8.0.2 to 10.8.A.B behind its virtio header; over one segment it is a super-packet. */
export function offloadPacket(bytes: number, to = 1): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(VNET_HEADER_BYTES + bytes);
  const isSuper = bytes > HEADERS_BYTES + SEGMENT_PAYLOAD_BYTES;
  const [type, size] = isSuper ? [GSO_TCPV4, SEGMENT_PAYLOAD_BYTES] : [GSO_NONE, 0];
  writeVnetHeader(whole, 0, VNET_NEEDS_CSUM, type, HEADERS_BYTES, size, IP_BYTES, 16);
  const packet = whole.subarray(VNET_HEADER_BYTES);
  packet.set([0x45, 0, bytes >> 8, bytes, 0, 7, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
  packet.set([10, 8, 0, 2, 10, 8, to >> 8, to], 12);
  packet.set([0x15, 0xb3, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, (TCP_BYTES / 4) << 4, 0x10, 2, 0], IP_BYTES);
  for (let i = HEADERS_BYTES; i < bytes; i++) packet[i] = i * 7;
  const pseudo = foldSum(pseudoHeaderSum(packet, 0, 4, PROTOCOL_TCP, bytes - IP_BYTES));
  packet.set([pseudo >> 8, pseudo], IP_BYTES + 16);
  completeChecksum(packet, 0, 10, IP_BYTES);
  return whole;
}

/** As many packets back to back as one read of the TUN may bring. */
export function chunkOf(packets: number, bytes: number): Uint8Array<ArrayBuffer> {
  const one = offloadPacket(bytes);
  const chunk = new Uint8Array(packets * one.length);
  for (let i = 0; i < packets; i++) chunk.set(one, i * one.length);
  return chunk;
}

/** The header of an offload record with a plaintext of `bytes`. */
export function headerOf(bytes: number, sequence: number): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_BYTES);
  const length = bytes + TAG_BYTES;
  writeHeader(header, 0, RecordType.offload, length, 1, 0, piecesFor(length, DATAGRAM_BYTES), sequence);
  return header;
}

export function sizeText(bytes: number): string {
  return `${countText(bytes)} bytes`;
}
