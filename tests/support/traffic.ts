/** Inner packets for the tests of the data plane: made, handed to a TUN, and recognised when they come out. */

import { expect } from "bun:test";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { packetLength } from "../../lib/packet.ts";
import { splitBytes, writeSplit } from "../../lib/segment_split.ts";
import type { End } from "./data_plane_pair.ts";
import { buildPacket, kernelVnet, type PacketParts, withVnet } from "./inner_packet.ts";
import { randomSource } from "./property.ts";

/** A packet of the client (up) or to it. */
export function parts(up: boolean, fields: Partial<PacketParts> = {}): PacketParts {
  const version = fields.version ?? 4;
  const own = version === 4 ? "10.8.0.2" : "fd00::2";
  const other = version === 4 ? "10.8.0.1" : "fd00::1";
  const [source, destination] = up ? [own, other] : [other, own];
  return { protocol: "udp", source, destination, ...fields, version };
}

/** Hands a packet to a TUN as its kernel would: unfinished, with a virtio header, where there is offload. */
export function inject(end: End, value: PacketParts, gsoSize = 0): void {
  if (!end.tun.offload) return end.tun.inject(buildPacket(value));
  end.tun.inject(withVnet(buildPacket({ ...value, checksum: "pseudo" }), kernelVnet(value, gsoSize)));
}

/** The forms in which a packet may come out of a TUN; both mean the same to a kernel. */
export function forms(end: End, value: PacketParts): string[] {
  const complete = buildPacket(value);
  if (!end.tun.offload) return [complete.toHex()];
  const unfinished = withVnet(buildPacket({ ...value, checksum: "pseudo" }), kernelVnet(value));
  return [withVnet(complete).toHex(), unfinished.toHex()];
}

/** What a super-packet of TCP looks like as it leaves the other TUN, when records may have `limit` bytes. */
export function superPackets(value: PacketParts, gsoSize: number, limit: number): string[] {
  const packet = buildPacket({ ...value, checksum: "pseudo" });
  const whole = withVnet(packet, kernelVnet(value, gsoSize));
  const out = new Uint8Array(splitBytes(whole, 0, packet.length, limit));
  const written = writeSplit(whole, 0, packet.length, limit, out, 0, true);
  const parts: string[] = [];
  for (let at = 0; at < written;) {
    const next = at + VNET_HEADER_BYTES + packetLength(out, at + VNET_HEADER_BYTES, written);
    parts.push(out.subarray(at, next).toHex());
    at = next;
  }
  return parts;
}

/** Asserts that exactly these packets came out, in this order. */
export function expectWritten(end: End, values: readonly PacketParts[]): void {
  expect(end.tun.written.length).toBe(values.length);
  values.forEach((value, i) => expect(forms(end, value)).toContain(end.tun.written[i]!.toHex()));
}

/** Packets of both families and protocols with different payloads of up to `maxPayload` bytes. */
export function randomPackets(up: boolean, count: number, seed = 1, maxPayload = 1300): PacketParts[] {
  const random = randomSource(seed);
  return Array.from({ length: count }, (_, i) =>
    parts(up, {
      version: random(2) === 0 ? 4 : 6,
      protocol: random(2) === 0 ? "tcp" : "udp",
      identification: i,
      payload: new Uint8Array(random(maxPayload)).map((_, at) => i + at),
    }),
  );
}
