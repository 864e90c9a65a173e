/**
 * Builds inner IP packets from their parts, slowly and plainly: the second implementation that the product's checksums
 * and segments are compared with. It shares no code with `lib/`.
 */

import { isIP } from "node:net";

export const FIN = 0x01;
export const SYN = 0x02;
export const PSH = 0x08;
export const ACK = 0x10;
export const CWR = 0x80;

/** Parts of a packet; what is left out has an ordinary value. */
export interface PacketParts {
  readonly version: 4 | 6;
  readonly protocol: "tcp" | "udp";
  readonly source?: string;
  readonly destination?: string;
  /** IPv4 options, a multiple of 4 up to 40 bytes. */
  readonly ipOptions?: Uint8Array;
  readonly identification?: number;
  /** IPv4 flags and fragment offset as one 16-bit word. */
  readonly fragment?: number;
  /** IPv6 extension headers in front of the transport header, as bytes; the first one's number is `nextHeader`. */
  readonly extension?: { readonly nextHeader: number; readonly bytes: Uint8Array };
  readonly sequence?: number;
  readonly flags?: number;
  /** TCP options, a multiple of 4 up to 40 bytes. */
  readonly tcpOptions?: Uint8Array;
  readonly payload?: Uint8Array;
  /** "complete", or "pseudo": the folded sum of the pseudo header, as the kernel leaves it to the device. */
  readonly checksum?: "complete" | "pseudo";
}

/** An address text to its 4 or 16 bytes. */
export function addressBytes(text: string): number[] {
  if (isIP(text) === 4) return text.split(".").map(Number);
  const [head = "", tail = ""] = text.split("::");
  const groups = (part: string) => (part === "" ? [] : part.split(":").map((group) => parseInt(group, 16)));
  const before = groups(head);
  const after = groups(tail);
  const zeros = Array.from({ length: 8 - before.length - after.length }, () => 0);
  return [...before, ...zeros, ...after].flatMap((group) => [group >> 8, group & 255]);
}

/** RFC 1071, one word at a time with the carry added back at once; not complemented. */
export function onesComplementSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i]! << 8) + (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

const word = (value: number) => [(value >> 8) & 255, value & 255];
const long = (value: number) => [...word(Math.floor(value / 65536)), ...word(value)];

/** Writes the packet out. */
export function buildPacket(parts: PacketParts): Uint8Array<ArrayBuffer> {
  const source = addressBytes(parts.source ?? (parts.version === 4 ? "10.8.0.2" : "fd00::2"));
  const destination = addressBytes(parts.destination ?? (parts.version === 4 ? "10.8.0.1" : "fd00::1"));
  const number = parts.protocol === "tcp" ? 6 : 17;
  const transport = buildTransport(parts);
  const pseudo = [...source, ...destination, ...long(transport.length), 0, 0, 0, number];
  const field = parts.protocol === "tcp" ? 16 : 6;
  const sum =
    parts.checksum === "pseudo"
      ? onesComplementSum(pseudo)
      : ~onesComplementSum([...pseudo, ...transport]) & 0xffff || 0xffff;
  transport.splice(field, 2, ...word(sum));
  const header =
    parts.version === 4
      ? buildIpv4(parts, source, destination, number, transport.length)
      : buildIpv6(parts, source, destination, number, transport.length);
  return Uint8Array.from([...header, ...transport]);
}

function buildTransport(parts: PacketParts): number[] {
  const payload = [...(parts.payload ?? [])];
  if (parts.protocol === "udp")
    return [...word(4000), ...word(53), ...word(8 + payload.length), 0, 0, ...payload];
  const options = [...(parts.tcpOptions ?? [])];
  const offset = (20 + options.length) / 4;
  const ports = [...word(4000), ...word(443)];
  const numbers = [...long(parts.sequence ?? 1000), ...long(77)];
  const rest = [offset << 4, parts.flags ?? ACK, ...word(512), 0, 0, 0, 0];
  return [...ports, ...numbers, ...rest, ...options, ...payload];
}

function buildIpv4(
  parts: PacketParts,
  source: number[],
  destination: number[],
  protocol: number,
  transportBytes: number,
): number[] {
  const options = [...(parts.ipOptions ?? [])];
  const headerBytes = 20 + options.length;
  const header = [
    ...[0x40 | (headerBytes / 4), 0, ...word(headerBytes + transportBytes)],
    ...[...word(parts.identification ?? 7), ...word(parts.fragment ?? 0x4000)],
    ...[64, protocol, 0, 0, ...source, ...destination, ...options],
  ];
  header.splice(10, 2, ...word(~onesComplementSum(header) & 0xffff));
  return header;
}

function buildIpv6(
  parts: PacketParts,
  source: number[],
  destination: number[],
  protocol: number,
  transportBytes: number,
): number[] {
  const extension = [...(parts.extension?.bytes ?? [])];
  const next = parts.extension?.nextHeader ?? protocol;
  return [
    0x60,
    0,
    0,
    0,
    ...word(extension.length + transportBytes),
    next,
    64,
    ...source,
    ...destination,
    ...extension,
  ];
}

/** Fields of a virtio-net header (linux/virtio_net.h). */
export interface VnetParts {
  readonly flags?: number;
  readonly gsoType?: number;
  readonly headerLength?: number;
  readonly gsoSize?: number;
  readonly csumStart?: number;
  readonly csumOffset?: number;
}

/** Puts a virtio-net header, little-endian, in front of a packet. */
export function withVnet(packet: Uint8Array, vnet: VnetParts = {}): Uint8Array<ArrayBuffer> {
  const fields = [vnet.headerLength, vnet.gsoSize, vnet.csumStart, vnet.csumOffset];
  const words = fields.flatMap((value = 0) => [value & 255, value >> 8]);
  return Uint8Array.from([vnet.flags ?? 0, vnet.gsoType ?? 0, ...words, ...packet]);
}

/** Bytes of the IP header with IPv4 options or IPv6 extensions. */
export function ipBytesOf(parts: PacketParts): number {
  if (parts.version === 4) return 20 + (parts.ipOptions?.length ?? 0);
  return 40 + (parts.extension?.bytes.length ?? 0);
}

/** The header that the kernel puts in front of an unfinished packet of these parts; a `gsoSize` makes it a super-packet. */
export function kernelVnet(parts: PacketParts, gsoSize = 0): Required<VnetParts> {
  const csumStart = ipBytesOf(parts);
  const tcp = parts.protocol === "tcp";
  const tcpType = parts.version === 4 ? 1 : 4;
  return {
    flags: 1,
    gsoType: gsoSize === 0 ? 0 : tcp ? tcpType : 5,
    headerLength: csumStart + (tcp ? 20 + (parts.tcpOptions?.length ?? 0) : 8),
    gsoSize,
    csumStart,
    csumOffset: tcp ? 16 : 6,
  };
}

/** The ordinary packets that a network card would make of a super-packet of these parts, each built from scratch. */
export function segmentsOf(parts: PacketParts, gsoSize: number): Uint8Array<ArrayBuffer>[] {
  const payload = parts.payload ?? new Uint8Array(0);
  const count = Math.max(1, Math.ceil(payload.length / gsoSize));
  return Array.from({ length: count }, (_, i) => {
    const last = i === count - 1;
    const notLast = last ? 0 : FIN | PSH;
    const notFirst = i === 0 ? 0 : CWR;
    return buildPacket({
      ...parts,
      checksum: "complete",
      identification: ((parts.identification ?? 7) + i) & 0xffff,
      sequence: ((parts.sequence ?? 1000) + i * gsoSize) % 2 ** 32,
      flags: (parts.flags ?? ACK) & ~notLast & ~notFirst,
      payload: payload.slice(i * gsoSize, (i + 1) * gsoSize),
    });
  });
}
