import { expect, test } from "bun:test";
import { writeUint16 } from "../../lib/bytes.ts";
import { RoutingLoop } from "../../lib/routing_loop.ts";
import { buildPacket, type PacketParts } from "../support/inner_packet.ts";

const OWN_PORT = 40_000;

/** A packet with the given ports. */
function packetOf(parts: Partial<PacketParts>, from = OWN_PORT): Uint8Array {
  const packet = buildPacket({ version: 4, protocol: "udp", ...parts });
  const transport = parts.version === 6 ? 40 : 20;
  writeUint16(packet, transport, from);
  writeUint16(packet, transport + 2, 51820);
  return packet;
}

function closes(packet: Uint8Array, host: string, port = 51820): boolean {
  return new RoutingLoop().closes(packet, 0, packet.length, { host, port }, OWN_PORT);
}

test("RoutingLoop: a datagram from our port to the endpoint, of either family", () => {
  expect(closes(packetOf({ source: "192.0.2.7", destination: "192.0.2.1" }), "192.0.2.1")).toBe(true);
  const six = packetOf({ version: 6, source: "2001:db8::7", destination: "2001:db8::1" });
  expect(closes(six, "2001:db8::1")).toBe(true);
});

test("RoutingLoop: what goes elsewhere, or is not ours, passes", () => {
  const base = { source: "192.0.2.7", destination: "192.0.2.1" };
  expect(closes(packetOf(base), "192.0.2.2")).toBe(false);
  expect(closes(packetOf(base), "2001:db8::1")).toBe(false);
  expect(closes(packetOf(base), "192.0.2.1", 51821)).toBe(false);
  expect(closes(packetOf(base, 40_001), "192.0.2.1")).toBe(false);
  expect(closes(packetOf({ ...base, protocol: "tcp" }), "192.0.2.1")).toBe(false);
});

test("RoutingLoop: a packet that ends before its ports passes", () => {
  const packet = packetOf({});
  const loop = new RoutingLoop();
  for (let end = 20; end < 24; end++) {
    expect(loop.closes(packet, 0, end, { host: "192.0.2.1", port: 51820 }, OWN_PORT)).toBe(false);
  }
});
