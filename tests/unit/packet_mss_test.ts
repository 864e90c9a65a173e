/** Clamping the MSS: against packets that are built anew with the lower value. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { clampMss } from "../../lib/packet_mss.ts";
import { ACK, buildPacket, FIN, type PacketParts, PSH, SYN } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";

/** TCP options: `before` no-operations, the MSS, more options, padded to whole words. */
function options(mss: number, before: number, tail: readonly number[] = []): Uint8Array {
  const all = [...new Uint8Array(before).fill(1), 2, 4, mss >> 8, mss & 255, ...tail];
  return Uint8Array.from([...all, ...new Uint8Array((4 - (all.length % 4)) % 4)]);
}

const headersOf = (version: 4 | 6) => (version === 4 ? 40 : 60);
const SACK_AND_SCALE = [4, 2, 3, 3, 7];

const parts = fc.record({
  version: fc.constantFrom(4 as const, 6 as const),
  protocol: fc.constant("tcp" as const),
  flags: fc.constantFrom(SYN, SYN | ACK, SYN | 0xc0),
  payload: bytes(0, 50),
  ipOptions: fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1)),
  sequence: fc.nat(0xffff_ffff),
});

describe("clampMss", () => {
  test("makes the packet that its sender would have sent with the lower MSS, checksum included", () => {
    const numbers = fc.record({
      mss: fc.nat(0xffff),
      before: fc.nat(5),
      mtu: fc.integer({ min: 576, max: 9000 }),
      tail: fc.constantFrom([], SACK_AND_SCALE),
      checksum: fc.constantFrom("complete" as const, "pseudo" as const),
    });
    check(
      fc.property(parts, numbers, (value, { mss, before, mtu, tail, checksum }) => {
        const limit = mtu - headersOf(value.version);
        const build = (size: number) =>
          buildPacket({ ...value, checksum, tcpOptions: options(size, before, tail) });
        const packet = Uint8Array.of(9, 9, 9, ...build(mss), 9);
        const changed = clampMss(packet, 3, packet.length - 1, mtu, checksum === "pseudo");
        expect(changed).toBe(mss > limit);
        expect(equivalent(packet.subarray(3, -1))).toBe(equivalent(build(Math.min(mss, limit))));
        expect([...packet.subarray(0, 3), packet.at(-1)]).toEqual([9, 9, 9, 9]);
      }),
      2000,
    );
  });

  test("behind an IPv6 extension header", () => {
    const value: PacketParts = {
      version: 6,
      protocol: "tcp",
      flags: SYN,
      extension: { nextHeader: 60, bytes: Uint8Array.of(6, 0, 1, 4, 0, 0, 0, 0) },
    };
    const packet = buildPacket({ ...value, tcpOptions: options(1440, 0) });
    expect(clampMss(packet, 0, packet.length, 1300, false)).toBe(true);
    expect(packet.toHex()).toBe(buildPacket({ ...value, tcpOptions: options(1240, 0) }).toHex());
  });

  test("never raises, and leaves alone what is no SYN, no TCP, a later fragment or has no MSS", () => {
    const untouched: PacketParts[] = [
      { version: 4, protocol: "tcp", flags: SYN, tcpOptions: options(1260, 0) },
      { version: 4, protocol: "tcp", flags: ACK | PSH | FIN, tcpOptions: options(1460, 0) },
      { version: 4, protocol: "udp", payload: new Uint8Array(40).fill(2) },
      { version: 4, protocol: "tcp", flags: SYN, tcpOptions: options(1460, 0), fragment: 3 },
      { version: 6, protocol: "tcp", flags: SYN, tcpOptions: Uint8Array.of(1, 1, 4, 2) },
      { version: 4, protocol: "tcp", flags: SYN, tcpOptions: Uint8Array.of(0, 2, 4, 5, 0xb4, 0, 0, 0) },
    ];
    for (const packet of untouched.map(buildPacket)) {
      const copy = packet.toHex();
      expect(clampMss(packet, 0, packet.length, 1300, false)).toBe(false);
      expect(packet.toHex()).toBe(copy);
    }
  });

  test("stops at a malformed option", () => {
    const mss = [2, 4, 5, 0xb4];
    const malformed = [
      [8, 0, ...mss, 0, 0],
      [8, 1, ...mss, 0, 0],
      [8, 9, ...mss, 0, 0],
      [2, 3, 5, ...mss, 0],
      [1, 1, 1, 2],
      [1, 1, 2, 4],
      [1, 2, 4, 5],
    ];
    for (const tcpOptions of malformed.slice(0, 3).concat(malformed.slice(4))) {
      const packet = buildPacket({
        version: 4,
        protocol: "tcp",
        flags: SYN,
        tcpOptions: Uint8Array.from(tcpOptions),
      });
      const copy = packet.toHex();
      expect(clampMss(packet, 0, packet.length, 1300, false)).toBe(false);
      expect(packet.toHex()).toBe(copy);
    }
    // an MSS of the wrong length is skipped like an unknown option; the right one behind it counts
    const packet = buildPacket({
      version: 4,
      protocol: "tcp",
      flags: SYN,
      tcpOptions: Uint8Array.from(malformed[3]!),
    });
    expect(clampMss(packet, 0, packet.length, 1300, false)).toBe(true);
  });

  test("every truncated prefix stays as it is", () => {
    const whole = buildPacket({ version: 4, protocol: "tcp", flags: SYN, tcpOptions: options(1460, 0) });
    for (let end = 0; end < whole.length; end++) {
      const packet = whole.slice();
      expect(clampMss(packet, 0, end, 1300, false)).toBe(false);
      expect(packet.toHex()).toBe(whole.toHex());
    }
  });

  test("random bytes never throw, and only what an option and a checksum hold changes", () => {
    const near = bytes(60, 120).map((data) => {
      data[0] = 0x45;
      data.fill(0, 6, 8);
      data[9] = 6;
      data[33] = SYN;
      return data;
    });
    check(
      fc.property(fc.oneof(bytes(0, 100), near), fc.integer({ min: -10, max: 2000 }), (data, mtu) => {
        const copy = data.slice();
        const changed = clampMss(data, 0, data.length, mtu, false);
        if (!changed) expect(data.toHex()).toBe(copy.toHex());
        expect(data.subarray(0, 34).toHex()).toBe(copy.subarray(0, 34).toHex());
      }),
      2000,
    );
  });
});

/** The two forms of zero in one's complement stand for the same checksum. */
function equivalent(packet: Uint8Array): string {
  const ip = packet[0]! >> 4 === 4 ? (packet[0]! & 15) * 4 : 40;
  const normal = packet.slice();
  if (normal[ip + 16] === 0 && normal[ip + 17] === 0) normal.fill(0xff, ip + 16, ip + 18);
  return normal.toHex();
}
