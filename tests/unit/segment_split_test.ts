/** Splitting super-packets, against packets that are built one by one from their parts. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { VNET_HEADER_BYTES } from "../../lib/limits.ts";
import { packetLength } from "../../lib/packet.ts";
import { segmentedBytes, writeSegments } from "../../lib/segment.ts";
import { splitBytes, splitCount, writeSplit } from "../../lib/segment_split.ts";
import { admitOffload, GSO_ECN, GSO_NONE, GSO_TCPV4, vnetGsoType } from "../../lib/vnet_header.ts";
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
import { bytes, check, randomSource } from "../support/property.ts";

/** Random bytes whose lengths are spread evenly; fast-check by itself prefers a dozen. */
const payloads = (max: number) =>
  fc.record({ length: fc.integer({ min: 1, max }), seed: fc.nat() }).map(({ length, seed }) => {
    const random = randomSource(seed);
    return Uint8Array.from({ length }, () => random(256));
  });

const parts = packetShapes(payloads(5000));

/** A super-packet of these parts as the kernel hands it over; with CWR it announces ECN. */
function superPacket(value: PacketParts, gsoSize: number): Uint8Array<ArrayBuffer> {
  const vnet = kernelVnet(value, gsoSize);
  const ecn = value.protocol === "tcp" && gsoSize > 0 && ((value.flags ?? 0) & CWR) !== 0 ? GSO_ECN : 0;
  return withVnet(buildPacket({ ...value, checksum: "pseudo" }), { ...vnet, gsoType: vnet.gsoType | ecn });
}

/** Splits, checks every bound on the way, and returns the parts with their virtio headers. */
function split(input: Uint8Array, limit: number, finish: boolean): Uint8Array<ArrayBuffer>[] {
  const length = input.length - VNET_HEADER_BYTES;
  const shifted = Buffer.concat([new Uint8Array(3), input]);
  const before = shifted.toHex();
  const announced = splitBytes(shifted, 3, length, limit);
  const out = new Uint8Array(announced + 12).fill(0xee);
  const written = writeSplit(shifted, 3, length, limit, out, 5, finish);
  expect(shifted.toHex()).toBe(before);
  expect(written).toBe(announced);
  expect(out.subarray(0, 5).every((byte) => byte === 0xee)).toBe(true);
  expect(out.subarray(5 + written).every((byte) => byte === 0xee)).toBe(true);
  const found: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 5; at < 5 + written;) {
    const end = at + VNET_HEADER_BYTES + packetLength(out, at + VNET_HEADER_BYTES, 5 + written);
    found.push(out.slice(at, end));
    at = end;
  }
  expect(found.length).toBe(splitCount(shifted, 3, length, limit));
  return found;
}

/** What the receiver's kernel would make of the parts. */
function segmented(pairs: readonly Uint8Array[]): string {
  return pairs
    .map((pair) => {
      const length = pair.length - VNET_HEADER_BYTES;
      const out = new Uint8Array(segmentedBytes(pair, 0, length));
      writeSegments(pair, 0, length, out, 0);
      return out.toHex();
    })
    .join("");
}

function expectSplit(value: PacketParts, gsoSize: number, limit: number, finish: boolean): void {
  const pairs = split(superPacket(value, gsoSize), limit, finish);
  expect(segmented(pairs)).toBe(Buffer.concat(segmentsOf(value, gsoSize)).toString("hex"));
  for (const pair of pairs) {
    const ordinary = vnetGsoType(pair, 0) === GSO_NONE;
    expect(ordinary || pair.length <= limit).toBe(true);
    const admitted = pair.slice();
    expect(admitOffload(admitted, 0, pair.length - VNET_HEADER_BYTES)).toBe(true);
    // nothing that the receiver would have to put right
    expect(admitted.toHex()).toBe(pair.toHex());
  }
}

const ordinary = fc.tuple(
  parts,
  fc.integer({ min: 48, max: 1500 }),
  fc.integer({ min: 0, max: 3200 }),
  fc.boolean(),
);

describe("writeSplit", () => {
  test("segmenting the parts gives what segmenting the whole gives, and every part is admitted", () => {
    check(
      fc.property(ordinary, ([value, gsoSize, limit, finish]) => {
        // no more than 128 segments in a UDP super-packet, and the kernel makes none of a single segment
        const payload = value.payload!.subarray(0, gsoSize * 128);
        expectSplit({ ...value, payload }, gsoSize, limit, finish);
      }),
      1500,
    );
  });

  test("small segments of UDP", () => {
    check(
      fc.property(
        parts,
        fc.integer({ min: 1, max: 47 }),
        fc.integer({ min: 0, max: 900 }),
        (value, size, limit) =>
          expectSplit(
            { ...value, protocol: "udp", payload: value.payload!.subarray(0, size * 128) },
            size,
            limit,
            false,
          ),
      ),
      300,
    );
  });

  test("a full super-packet at every limit that changes anything", () => {
    const payload = new Uint8Array(61_560).map((_, i) => i * 31);
    const options = new Uint8Array(12).fill(1);
    for (const version of [4, 6] as const) {
      const value: PacketParts = {
        version,
        protocol: "tcp",
        payload,
        tcpOptions: options,
        flags: ACK | PSH | FIN,
      };
      for (const limit of [0, 1430, 2856, 4292, 9000, 14_344, 30_000, 61_000, 64_467]) {
        expectSplit(value, 1368, limit, true);
      }
    }
  });

  test("cuts evenly, into as few parts as the limit allows", () => {
    const value: PacketParts = { version: 4, protocol: "tcp", payload: new Uint8Array(1000 * 45) };
    const segments = (limit: number) =>
      split(superPacket(value, 1000), limit, false).map((pair) => (pair.length - 50) / 1000);
    expect(segments(50 + 45_000)).toEqual([45]);
    expect(segments(49 + 45_000)).toEqual([23, 22]);
    expect(segments(50 + 22_000)).toEqual([15, 15, 15]);
    expect(segments(50 + 4999)).toEqual([...Array.from({ length: 11 }, () => 4), 1]);
    expect(segments(50)).toEqual(Array.from({ length: 45 }, () => 1));
  });

  test("a short last segment is no reason to split what fits", () => {
    const value: PacketParts = { version: 4, protocol: "tcp", payload: new Uint8Array(2100) };
    expect(split(superPacket(value, 1000), 50 + 2100, false).length).toBe(1);
    expect(split(superPacket(value, 1000), 50 + 2099, false).length).toBe(2);
  });

  test("ECN is announced by the first part only, and never by an ordinary packet", () => {
    const value: PacketParts = {
      version: 4,
      protocol: "tcp",
      flags: ACK | CWR,
      payload: new Uint8Array(400),
    };
    const types = (limit: number) => split(superPacket(value, 100), limit, false).map((pair) => pair[1]);
    expect(types(250)).toEqual([GSO_TCPV4 | GSO_ECN, GSO_TCPV4]);
    expect(types(100)).toEqual([GSO_NONE, GSO_NONE, GSO_NONE, GSO_NONE]);
  });

  test("parts of one segment: checksum open or finished, as asked", () => {
    check(
      fc.property(parts, fc.boolean(), (value, finish) => {
        const pairs = split(superPacket(value, 100), 0, finish);
        const expected = segmentsOf(value, 100);
        expect(pairs.length).toBe(expected.length);
        for (const [i, pair] of pairs.entries()) {
          if (finish) expect(pair.toHex()).toBe("00".repeat(10) + expected[i]!.toHex());
          else expect(pair.subarray(0, 2).toHex()).toBe("0100");
        }
      }),
    );
  });

  test("an ordinary packet stays one, finished or left alone", () => {
    check(
      fc.property(parts, fc.boolean(), (value, finish) => {
        const input = superPacket(value, 0);
        const [only, ...others] = split(input, 0, finish);
        expect(others).toEqual([]);
        expect(only!.toHex()).toBe(finish ? "00".repeat(10) + buildPacket(value).toHex() : input.toHex());
      }),
    );
  });

  test("a finished packet is left alone, also one without a UDP checksum", () => {
    const packet = buildPacket({ version: 4, protocol: "udp", payload: Uint8Array.of(1, 2, 3) });
    packet.fill(0, 26, 28);
    expect(split(withVnet(packet), 0, true).map((pair) => pair.toHex())).toEqual([
      "00".repeat(10) + packet.toHex(),
    ]);
  });
});

describe("splitCount", () => {
  test("is at least one and finite, also for headers that make no sense and for any limit", () => {
    check(
      fc.property(bytes(10 + 40, 10 + 80), fc.integer({ min: -100, max: 70_000 }), (data, limit) => {
        const count = splitCount(data, 0, data.length - VNET_HEADER_BYTES, limit);
        expect(count).toBeGreaterThanOrEqual(1);
        expect(Number.isSafeInteger(count)).toBe(true);
      }),
    );
  });
});
