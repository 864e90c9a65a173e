/** ICMP errors: as the Linux kernel builds them, what must not be answered, every truncated prefix, random bytes. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { hostUnreachable, packetTooBig } from "../../lib/packet_icmp.ts";
import { addressBytes, buildPacket, onesComplementSum, type PacketParts } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";
import vectors from "../vectors/icmp_error.json";

const ROUTER4 = Uint8Array.from(addressBytes("10.8.0.1"));
const ROUTER6 = Uint8Array.from(addressBytes("fd00::1"));
const routerOf = (packet: Uint8Array) => (packet[0]! >> 4 === 4 ? ROUTER4 : ROUTER6);

function tooBig(packet: Uint8Array, mtuBytes = 1300): Uint8Array | null {
  return packetTooBig(packet, 0, packet.length, routerOf(packet), mtuBytes);
}

function unreachable(packet: Uint8Array): Uint8Array | null {
  return hostUnreachable(packet, 0, packet.length, routerOf(packet));
}

/** Both functions refuse. */
function expectSilence(packet: Uint8Array): void {
  expect(tooBig(packet)).toBeNull();
  expect(unreachable(packet)).toBeNull();
}

/** Puts `transport` behind an IP header made for it. */
function withTransport(version: 4 | 6, protocol: number, transport: readonly number[]): Uint8Array {
  const packet = buildPacket({
    version,
    protocol: "udp",
    payload: new Uint8Array(Math.max(0, transport.length - 8)),
  });
  packet[version === 4 ? 9 : 6] = protocol;
  packet.set(transport, version === 4 ? 20 : 40);
  return packet;
}

/** Without what may differ: IPv4 identification, flags and header checksum; IPv6 flow label. */
function comparable(error: Uint8Array): string {
  const copy = error.slice();
  if (copy[0]! >> 4 === 4) copy.fill(0, 4, 8).fill(0, 10, 12);
  else copy.fill(0, 1, 4);
  return copy.toHex();
}

test.each(vectors)("as the Linux kernel: $name", ({ packetBytes, mtuBytes, error }) => {
  const golden = Uint8Array.fromHex(error);
  const version = golden[0]! >> 4;
  const [headers, sourceAt, addressEnd] = version === 4 ? [28, 12, 16] : [48, 8, 24];
  const packet = new Uint8Array(packetBytes);
  packet.set(golden.subarray(headers));
  const from = golden.slice(sourceAt, addressEnd);
  const built =
    mtuBytes === null
      ? hostUnreachable(packet, 0, packet.length, from)
      : packetTooBig(packet, 0, packet.length, from, mtuBytes);
  expect(built).not.toBeNull();
  expect(comparable(built!)).toBe(comparable(golden));
});

describe("an error", () => {
  const parts: fc.Arbitrary<PacketParts> = fc.record({
    version: fc.constantFrom(4, 6),
    protocol: fc.constantFrom("tcp", "udp"),
    payload: bytes(0, 1600),
    ipOptions: fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1)),
  });

  test("goes to the source, quotes the packet from its start, has right checksums and a bounded length", () => {
    check(
      fc.property(parts, fc.integer({ min: 576, max: 9000 }), (value, mtuBytes) => {
        const packet = buildPacket(value);
        const input = Uint8Array.of(1, 2, 3, ...packet, 4);
        for (const error of [
          packetTooBig(input, 3, input.length, routerOf(packet), mtuBytes)!,
          hostUnreachable(input, 3, input.length, routerOf(packet))!,
        ]) {
          const v4 = value.version === 4;
          const headers = v4 ? 28 : 48;
          const source = packet.subarray(v4 ? 12 : 8, v4 ? 16 : 24);
          const quoted = Math.min(packet.length, (v4 ? 576 : 1280) - headers);
          expect(error.length).toBe(headers + quoted);
          expect(error.subarray(headers).toHex()).toBe(packet.subarray(0, quoted).toHex());
          expect(error.subarray(v4 ? 16 : 24, v4 ? 20 : 40).toHex()).toBe(source.toHex());
          const icmp = [...error.subarray(v4 ? 20 : 40)];
          const addresses = v4 ? [] : [...error.subarray(8, 40)];
          const pseudo = v4 ? [] : [...addresses, 0, 0, icmp.length >> 8, icmp.length & 255, 0, 0, 0, 58];
          expect(onesComplementSum([...pseudo, ...icmp])).toBe(0xffff);
          if (v4) expect(onesComplementSum([...error.subarray(0, 20)])).toBe(0xffff);
        }
      }),
    );
  });

  test("says the MTU", () => {
    expect(
      tooBig(buildPacket({ version: 4, protocol: "tcp" }), 1406)!
        .subarray(20, 28)
        .toHex(),
    ).toMatch(/^0304....0000057e$/);
    expect(
      tooBig(buildPacket({ version: 6, protocol: "tcp" }), 70_000)!
        .subarray(40, 48)
        .toHex(),
    ).toMatch(/^0200....00011170$/);
  });
});

describe("nothing is answered", () => {
  test("to an ICMP error, or an ICMP message whose type is cut off", () => {
    for (const type of [3, 4, 5, 11, 12]) expectSilence(withTransport(4, 1, [type, 0, 0, 0, 0, 0, 0, 0]));
    for (const type of [0, 1, 2, 3, 4, 100, 127, 137]) {
      expectSilence(withTransport(6, 58, [type, 0, 0, 0, 0, 0, 0, 0]));
    }
    const bare = withTransport(4, 1, []).subarray(0, 20);
    bare[3] = 20;
    expectSilence(bare);
  });

  test("but to an echo request or reply it is", () => {
    for (const type of [0, 8])
      expect(tooBig(withTransport(4, 1, [type, 0, 0, 0, 0, 0, 0, 0]))).not.toBeNull();
    for (const type of [128, 129]) {
      expect(tooBig(withTransport(6, 58, [type, 0, 0, 0, 0, 0, 0, 0]))).not.toBeNull();
    }
  });

  test("to an ICMPv6 error behind extension headers", () => {
    const packet = buildPacket({
      version: 6,
      protocol: "udp",
      extension: { nextHeader: 60, bytes: Uint8Array.of(58, 0, 1, 4, 0, 0, 0, 0) },
    });
    packet[48] = 1;
    expectSilence(packet);
    packet[48] = 128;
    expect(tooBig(packet)).not.toBeNull();
  });

  test("to a fragment other than the first", () => {
    const value: PacketParts = { version: 4, protocol: "udp" };
    expectSilence(buildPacket({ ...value, fragment: 0x4001 }));
    expect(unreachable(buildPacket({ ...value, fragment: 0x2000 }))).not.toBeNull();
    const fragment = (offset: number) =>
      buildPacket({
        version: 6,
        protocol: "udp",
        extension: { nextHeader: 44, bytes: Uint8Array.of(17, 0, offset >> 8, offset & 255, 0, 0, 0, 1) },
      });
    expectSilence(fragment(8));
    expect(tooBig(fragment(1))).not.toBeNull();
  });

  test.each([
    "0.0.0.0",
    "0.1.2.3",
    "127.0.0.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
  ])("to or about %s", (address) => {
    expectSilence(buildPacket({ version: 4, protocol: "udp", source: address }));
    expectSilence(buildPacket({ version: 4, protocol: "udp", destination: address }));
  });

  test.each(["::", "::1", "ff02::1"])("to %s", (source) => {
    expectSilence(buildPacket({ version: 6, protocol: "udp", source }));
  });

  test("about an IPv6 multicast destination, except that the packet is too big", () => {
    const packet = buildPacket({ version: 6, protocol: "udp", destination: "ff0e::1" });
    expect(unreachable(packet)).toBeNull();
    expect(tooBig(packet)).not.toBeNull();
  });

  test("about the size of an IPv4 packet that may be fragmented", () => {
    const packet = buildPacket({ version: 4, protocol: "udp", fragment: 0 });
    expect(tooBig(packet)).toBeNull();
    expect(unreachable(packet)).not.toBeNull();
  });

  test("to any truncated prefix", () => {
    for (const version of [4, 6] as const) {
      const packet = buildPacket({ version, protocol: "tcp", ipOptions: new Uint8Array(4) });
      for (let end = 0; end < packet.length; end++) {
        expect(packetTooBig(packet, 0, end, routerOf(packet), 1300)).toBeNull();
        expect(hostUnreachable(packet, 0, end, routerOf(packet))).toBeNull();
      }
    }
  });

  test("random bytes never throw, and no answer is longer than it may be", () => {
    const near = bytes(40, 700).map((data) => {
      data[0] = data[1]! % 2 === 0 ? 0x45 : 0x60;
      if (data[0] === 0x60) data.fill(0, 4, 6);
      else data.fill(0, 2, 4).fill(40, 3, 4);
      return data;
    });
    check(
      fc.property(fc.oneof(bytes(1, 80), near), (data) => {
        for (const error of [tooBig(data), unreachable(data)]) {
          if (error !== null) expect(error.length).toBeLessThanOrEqual(error[0]! >> 4 === 4 ? 576 : 1280);
        }
      }),
      2000,
    );
  });
});
