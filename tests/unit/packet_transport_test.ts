/** Finding the transport header: options, extension chains, fragments, every truncated prefix, random bytes. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { findTransport, transportOffset, transportProtocol } from "../../lib/packet_transport.ts";
import { buildPacket, type PacketParts } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";

function find(packet: Uint8Array, before = 0): { offset: number; protocol: number } | null {
  const input = Uint8Array.of(...new Uint8Array(before), ...packet);
  const found = findTransport(input, before, input.length);
  return found < 0 ? null : { offset: transportOffset(found) - before, protocol: transportProtocol(found) };
}

function withExtension(nextHeader: number, extension: number[]): Uint8Array {
  return buildPacket({
    version: 6,
    protocol: "tcp",
    extension: { nextHeader, bytes: Uint8Array.from(extension) },
  });
}

describe("findTransport", () => {
  test("behind IPv4 options of every length, and at any offset", () => {
    for (let words = 0; words <= 10; words++) {
      const packet = buildPacket({
        version: 4,
        protocol: "udp",
        ipOptions: new Uint8Array(words * 4).fill(1),
      });
      expect(find(packet, 7)).toEqual({ offset: 20 + words * 4, protocol: 17 });
    }
  });

  test("behind each IPv6 extension header, and a chain of them", () => {
    const eight = [0, 1, 4, 0, 0, 0, 0];
    for (const kind of [0, 43, 60, 135]) {
      expect(find(withExtension(kind, [6, ...eight]))).toEqual({ offset: 48, protocol: 6 });
    }
    expect(find(withExtension(44, [6, 0, 0, 1, 0, 0, 0, 9]))).toEqual({ offset: 48, protocol: 6 });
    expect(find(withExtension(51, [6, 4, ...new Uint8Array(22)]))).toEqual({
      offset: 64,
      protocol: 6,
    });
    expect(find(withExtension(0, [60, ...eight, 6, ...eight]))).toEqual({ offset: 56, protocol: 6 });
  });

  test("a header of a kind that it cannot walk is the transport", () => {
    expect(find(withExtension(50, [1, 2, 3, 4, 5, 6, 7, 8]))).toEqual({ offset: 40, protocol: 50 });
    expect(find(withExtension(59, []))).toEqual({ offset: 40, protocol: 59 });
  });

  test("a fragment other than the first has no transport header", () => {
    for (const fragment of [0x0001, 0x2001, 0x1fff]) {
      expect(find(buildPacket({ version: 4, protocol: "tcp", fragment }))).toBeNull();
    }
    expect(find(buildPacket({ version: 4, protocol: "tcp", fragment: 0x2000 }))).toEqual({
      offset: 20,
      protocol: 6,
    });
    expect(find(withExtension(44, [6, 0, 0, 8, 0, 0, 0, 9]))).toBeNull();
  });

  test("an endless chain of extension headers is given up", () => {
    const chain = Array.from({ length: 100 }, () => [60, 0, 1, 4, 0, 0, 0, 0]).flat();
    expect(find(withExtension(60, chain))).toBeNull();
  });

  test("every truncated prefix: none, or inside the bytes", () => {
    const parts: PacketParts[] = [
      { version: 4, protocol: "tcp", ipOptions: new Uint8Array(8).fill(1) },
      {
        version: 6,
        protocol: "tcp",
        extension: { nextHeader: 60, bytes: Uint8Array.of(6, 0, 1, 4, 0, 0, 0, 0) },
      },
    ];
    for (const packet of parts.map(buildPacket)) {
      for (let end = 0; end < packet.length; end++) {
        const found = findTransport(packet, 0, end);
        if (found >= 0) expect(transportOffset(found)).toBeLessThanOrEqual(end);
      }
    }
  });

  test("random bytes never throw and never lead outside", () => {
    const near = bytes(20, 120).map((data) => {
      data[0] = (data[0]! & 15) | (data[1]! % 2 === 0 ? 0x40 : 0x60);
      data[6] = [0, 43, 44, 51, 60, 135][data[2]! % 6]!;
      return data;
    });
    check(
      fc.property(fc.oneof(bytes(0, 80), near), (data) => {
        const found = findTransport(data, 0, data.length);
        if (found < 0) return;
        expect(transportOffset(found)).toBeGreaterThanOrEqual(20);
        expect(transportOffset(found)).toBeLessThanOrEqual(data.length);
      }),
      2000,
    );
  });
});
