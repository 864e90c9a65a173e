/** Segmentation against packets that are built one by one from their parts. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { segmentCount, segmentedBytes, writeSegments } from "../../lib/segment.ts";
import {
  ACK,
  buildPacket,
  CWR,
  FIN,
  kernelVnet,
  type PacketParts,
  PSH,
  segmentsOf,
  withVnet,
} from "../support/inner_packet.ts";
import { packetShapes } from "../support/inner_packet_shapes.ts";
import { bytes, check } from "../support/property.ts";

const parts = packetShapes(bytes(1, 700));

/** What `lib/segment.ts` makes of a super-packet of these parts. */
function segmented(value: PacketParts, gsoSize: number): { hex: string; count: number; announced: number } {
  const packet = buildPacket({ ...value, checksum: "pseudo" });
  const before = 3;
  const input = Buffer.concat([new Uint8Array(before), withVnet(packet, kernelVnet(value, gsoSize))]);
  const announced = segmentedBytes(input, before, packet.length);
  const out = new Uint8Array(announced + 10).fill(0xee);
  const written = writeSegments(input, before, packet.length, out, 5);
  expect(out.subarray(0, 5).every((byte) => byte === 0xee)).toBe(true);
  expect(out.subarray(5 + written).every((byte) => byte === 0xee)).toBe(true);
  const count = segmentCount(input, before, packet.length);
  return { hex: out.subarray(5, 5 + written).toHex(), count, announced };
}

function expectSegments(value: PacketParts, gsoSize: number): void {
  const expected = segmentsOf(value, gsoSize);
  const result = segmented(value, gsoSize);
  expect(result.count).toBe(expected.length);
  expect(result.hex).toBe(Buffer.concat(expected).toString("hex"));
  expect(result.announced).toBe(result.hex.length / 2);
}

describe("writeSegments", () => {
  test("any super-packet becomes the packets that a network card would send", () => {
    check(
      fc.property(parts, fc.integer({ min: 1, max: 800 }), (value, gsoSize) =>
        expectSegments(value, gsoSize),
      ),
      400,
    );
  });

  test.each([1, 2, 3, 4, 5])(
    "payload of %i times the size, less, exactly and more than it by one",
    (times) => {
      for (const version of [4, 6] as const) {
        for (const protocol of ["tcp", "udp"] as const) {
          for (const difference of [-1, 0, 1]) {
            const payload = new Uint8Array(times * 101 + difference).map((_, i) => i);
            expectSegments({ version, protocol, payload, flags: ACK | FIN | PSH | CWR }, 101);
          }
        }
      }
    },
  );

  test("TCP: sequence number and identification wrap around", () => {
    const payload = new Uint8Array(500).fill(7);
    expectSegments(
      { version: 4, protocol: "tcp", payload, sequence: 2 ** 32 - 100, identification: 0xffff },
      100,
    );
  });

  test("TCP: FIN and PSH stay with the last segment, CWR with the first, all with an only one", () => {
    const value: PacketParts = { version: 4, protocol: "tcp", flags: ACK | FIN | PSH | CWR };
    const flagsAt = (count: number) => {
      const hex = segmented({ ...value, payload: new Uint8Array(count * 100) }, 100).hex;
      return Array.from({ length: count }, (_, i) => Buffer.from(hex, "hex")[i * 140 + 33]);
    };
    expect(flagsAt(3)).toEqual([ACK | CWR, ACK, ACK | FIN | PSH]);
    expect(flagsAt(1)).toEqual([ACK | FIN | PSH | CWR]);
  });

  test("a full super-packet of 62,000 bytes", () => {
    const payload = new Uint8Array(61_900).map((_, i) => i * 31);
    expectSegments({ version: 4, protocol: "tcp", payload, tcpOptions: new Uint8Array(12).fill(1) }, 1368);
  });

  test("TCP behind an IPv6 extension header is still TCP", () => {
    const value: PacketParts = {
      version: 6,
      protocol: "tcp",
      extension: { nextHeader: 60, bytes: Uint8Array.of(6, 0, 1, 4, 0, 0, 0, 0) },
      payload: new Uint8Array(250).map((_, i) => i),
      flags: ACK | PSH,
    };
    expectSegments(value, 100);
  });

  test("an ordinary packet is only finished", () => {
    check(
      fc.property(parts, (value) => {
        const packet = buildPacket({ ...value, checksum: "pseudo" });
        const input = withVnet(packet, kernelVnet(value));
        const out = new Uint8Array(packet.length);
        expect(segmentCount(input, 0, packet.length)).toBe(1);
        expect(segmentedBytes(input, 0, packet.length)).toBe(packet.length);
        expect(writeSegments(input, 0, packet.length, out, 0)).toBe(packet.length);
        expect(out.toHex()).toBe(buildPacket(value).toHex());
      }),
    );
  });

  test("a finished packet is left alone, also one without a UDP checksum", () => {
    const packet = buildPacket({ version: 4, protocol: "udp", payload: Uint8Array.of(1, 2, 3) });
    packet.fill(0, 26, 28);
    const out = new Uint8Array(packet.length);
    writeSegments(withVnet(packet), 0, packet.length, out, 0);
    expect(out.toHex()).toBe(packet.toHex());
  });

  test("does not change the super-packet", () => {
    const value: PacketParts = { version: 4, protocol: "tcp", payload: new Uint8Array(300) };
    const input = withVnet(buildPacket({ ...value, checksum: "pseudo" }), kernelVnet(value, 100));
    const copy = input.slice();
    writeSegments(input, 0, input.length - VNET_HEADER_BYTES, new Uint8Array(1000), 0);
    expect(input.toHex()).toBe(copy.toHex());
  });
});

describe("segmentCount", () => {
  test("is at least one, also for headers that make no sense", () => {
    check(
      fc.property(bytes(10 + 40, 10 + 80), (data) => {
        expect(segmentCount(data, 0, data.length - VNET_HEADER_BYTES)).toBeGreaterThanOrEqual(1);
      }),
    );
  });
});
