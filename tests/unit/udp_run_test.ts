/** Joining runs of UDP packets: what is joined is exactly what a segmentation gives back. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { packetLength } from "../../lib/packet.ts";
import { writeSegments } from "../../lib/segment.ts";
import { UdpRun } from "../../lib/udp_run.ts";
import { admitOffload } from "../../lib/vnet_header.ts";
import { buildPacket, kernelVnet, type PacketParts, segmentsOf, withVnet } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";

const VNET = 10;

function udp(fields: Partial<PacketParts> = {}): PacketParts {
  const version = fields.version ?? 4;
  const [source, destination] = version === 4 ? ["10.8.0.2", "10.8.0.1"] : ["fd00::2", "fd00::1"];
  return { protocol: "udp", source, destination, payload: new Uint8Array(64), ...fields, version };
}

/** A packet as a kernel hands it over: checksum still open. */
function open(value: PacketParts): Uint8Array<ArrayBuffer> {
  return withVnet(buildPacket({ ...value, checksum: "pseudo" }), kernelVnet(value));
}

/** A packet as it came from elsewhere: checksum complete. */
function complete(value: PacketParts): Uint8Array<ArrayBuffer> {
  return withVnet(buildPacket(value));
}

/** Joins from the start of `packets`; what the run says, and the buffer. */
function join(packets: readonly Uint8Array[]) {
  const buffer = Uint8Array.from(Buffer.concat(packets));
  const run = new UdpRun();
  const joined = run.join(buffer, 0, packets[0]!.length - VNET, buffer.length);
  return { buffer, run, joined };
}

describe("UdpRun", () => {
  test("any run: a segmentation of the super-packet gives the packets back, and the kernel would admit it", () => {
    const fields = fc.record({
      version: fc.constantFrom(4 as const, 6 as const),
      identification: fc.nat(0xff00),
      isOpen: fc.boolean(),
      payload: bytes(2, 3000),
      size: fc.integer({ min: 1, max: 1400 }),
    });
    check(
      fc.property(fields, ({ version, identification, isOpen, payload, size }) => {
        const parts = udp({ version, identification, payload: payload.subarray(0, size * 64) });
        const wanted = segmentsOf(parts, size);
        fc.pre(wanted.length > 1);
        const singles = wanted.map((_, i) => {
          const part = parts.payload!.slice(i * size, (i + 1) * size);
          const single = { ...parts, identification: identification + i, payload: part };
          return isOpen ? open(single) : complete(single);
        });
        const { buffer, run, joined } = join(singles);
        expect(joined).toBe(true);
        expect([run.packets, run.consumed]).toEqual([wanted.length, buffer.length]);
        const length = run.size - VNET;
        expect(packetLength(buffer, VNET, run.size)).toBe(length);
        expect(admitOffload(buffer, 0, length)).toBe(true);
        const out = new Uint8Array(buffer.length);
        const written = writeSegments(buffer, 0, length, out, 0);
        expect(out.subarray(0, written).toHex()).toBe(Buffer.concat(wanted).toString("hex"));
      }),
    );
  });

  const tooDifferent: readonly [string, Uint8Array, Uint8Array][] = [
    ["another source", open(udp()), open(udp({ source: "10.8.0.3" }))],
    ["another destination", open(udp()), open(udp({ destination: "10.8.0.9" }))],
    ["a longer payload", open(udp()), open(udp({ payload: new Uint8Array(65) }))],
    ["another family", open(udp()), open(udp({ version: 6 }))],
    ["TCP behind it", open(udp()), open(udp({ protocol: "tcp" }))],
    ["TCP in front", open(udp({ protocol: "tcp" })), open(udp({ protocol: "tcp" }))],
    [
      "IP options",
      open(udp({ ipOptions: new Uint8Array(4).fill(1) })),
      open(udp({ ipOptions: new Uint8Array(4).fill(1) })),
    ],
    [
      "an empty payload",
      open(udp({ payload: new Uint8Array(0) })),
      open(udp({ payload: new Uint8Array(0) })),
    ],
    ["a wrong checksum", complete(udp()), spoiled(complete(udp()), 60)],
    ["no checksum", spoiled(complete(udp()), VNET + 26, 0, 0), complete(udp())],
    [
      "a super-packet",
      open(udp()),
      withVnet(buildPacket(udp({ checksum: "pseudo" })), kernelVnet(udp(), 32)),
    ],
  ];
  test.each(tooDifferent)("leaves %s alone, and the bytes unchanged", (_what, first, second) => {
    const { buffer, joined } = join([first, second]);
    expect(joined).toBe(false);
    expect(buffer.toHex()).toBe(Buffer.concat([first, second]).toString("hex"));
  });

  const DONT_FRAGMENT = 0x4000;
  const MORE_FRAGMENTS = 0x2000;
  const numbered = (identification: number, fragment = 0) => open(udp({ identification, fragment }));

  test("identifications count up by one, or nobody looks at them", () => {
    expect(join([numbered(0xffff), numbered(0), numbered(1)]).run.packets).toBe(3);
    expect(join([numbered(7), numbered(8), numbered(8)]).run.packets).toBe(2);
    expect(join([numbered(7), numbered(7)]).joined).toBe(false);
    expect(join([numbered(7, DONT_FRAGMENT), numbered(7, DONT_FRAGMENT)]).joined).toBe(true);
    expect(join([numbered(7, DONT_FRAGMENT), numbered(8)]).joined).toBe(false);
  });

  test("fragments are left alone", () => {
    expect(join([numbered(7, MORE_FRAGMENTS), numbered(8, MORE_FRAGMENTS)]).joined).toBe(false);
    expect(join([numbered(7, 20), numbered(8, 20)]).joined).toBe(false);
  });

  test("stops behind a shorter packet and at 64 packets", () => {
    const short = open(udp({ identification: 1, fragment: 0, payload: new Uint8Array(10) }));
    expect(join([numbered(0), short, numbered(2), numbered(3)]).run.packets).toBe(2);
    expect(join(Array.from({ length: 70 }, (_, i) => numbered(i))).run.packets).toBe(64);
  });

  test("random bytes behind an admitted packet never throw, and are never read past the end", () => {
    const first = open(udp());
    check(
      fc.property(bytes(0, 300), (tail) => void join([first, tail])),
      2000,
    );
  });
});

/** The packet with bytes from `at` on replaced, or with one byte flipped. */
function spoiled(packet: Uint8Array, at: number, ...bytesThere: number[]): Uint8Array {
  const copy = Uint8Array.from(packet);
  if (bytesThere.length === 0) copy[at]! ^= 1;
  else copy.set(bytesThere, at);
  return copy;
}
