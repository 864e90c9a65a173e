/** The Internet checksum against RFC 1071's example and a second, slow implementation. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  addWords,
  checksumOf,
  completeChecksum,
  foldSum,
  pseudoHeaderSum,
  replaceWord,
} from "../../lib/checksum.ts";
import { buildPacket, ipBytesOf, onesComplementSum, type PacketParts } from "../support/inner_packet.ts";
import { bytes, check } from "../support/property.ts";

describe("addWords, foldSum, checksumOf", () => {
  test("RFC 1071, section 3: the sum of its example is ddf2", () => {
    const data = Uint8Array.fromHex("0001f203f4f5f6f7");
    expect(foldSum(addWords(data, 0, data.length, 0))).toBe(0xddf2);
    expect(checksumOf(addWords(data, 0, data.length, 0))).toBe(0x220d);
  });

  test("the IPv4 header of RFC 1071's kind in everybody's textbook: b861", () => {
    const header = Uint8Array.fromHex("450000730000400040110000c0a80001c0a800c7");
    expect(checksumOf(addWords(header, 0, header.length, 0))).toBe(0xb861);
  });

  test("agree with the slow sum over any range, odd lengths and odd offsets included", () => {
    check(
      fc.property(bytes(0, 70), fc.nat(70), fc.nat(70), (data, a, b) => {
        const start = Math.min(a, b, data.length);
        const end = Math.min(Math.max(a, b), data.length);
        const slow = onesComplementSum([...data.subarray(start, end)]);
        expect(foldSum(addWords(data, start, end, 0))).toBe(slow);
      }),
      500,
    );
  });

  test("a sum may be continued at every even length", () => {
    check(
      fc.property(bytes(0, 70), fc.nat(35), (data, words) => {
        const middle = Math.min(words * 2, data.length & ~1);
        const halves = addWords(data, middle, data.length, addWords(data, 0, middle, 0));
        expect(foldSum(halves)).toBe(foldSum(addWords(data, 0, data.length, 0)));
      }),
    );
  });

  test("64 KB of ones loses no carry", () => {
    const data = new Uint8Array(65_535).fill(255);
    expect(foldSum(addWords(data, 0, data.length, 0))).toBe(onesComplementSum([...data]));
  });

  test("foldSum leaves 16-bit values alone and folds twice where the first carry makes another", () => {
    expect(foldSum(0xffff)).toBe(0xffff);
    expect(foldSum(0x1_0000)).toBe(1);
    expect(foldSum(0x1_ffff)).toBe(1);
    expect(foldSum(2 ** 40)).toBe(onesComplementSum([0, 0, 1, 0]));
  });
});

const parts: fc.Arbitrary<PacketParts> = fc.record({
  version: fc.constantFrom(4, 6),
  protocol: fc.constantFrom("tcp", "udp"),
  ipOptions: fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1)),
  tcpOptions: fc.nat(10).map((words) => new Uint8Array(words * 4).fill(1)),
  payload: bytes(0, 61),
});

describe("completeChecksum", () => {
  test("finishes what the kernel left to the device, for TCP and UDP over IPv4 and IPv6", () => {
    check(
      fc.property(parts, (value) => {
        const finished = buildPacket({ ...value, checksum: "complete" });
        const packet = buildPacket({ ...value, checksum: "pseudo" });
        const start = ipBytesOf(value);
        completeChecksum(packet, start, start + (value.protocol === "tcp" ? 16 : 6), packet.length);
        expect(packet.toHex()).toBe(finished.toHex());
      }),
      500,
    );
  });

  test("a checksum of zero is sent as ffff (RFC 768)", () => {
    const packet = Uint8Array.of(0xff, 0xf0, 0, 0x0f);
    completeChecksum(packet, 0, 2, 4);
    expect(packet.toHex()).toBe("fff0" + "ffff");
  });
});

describe("pseudoHeaderSum", () => {
  test("folds to what the kernel puts into an unfinished packet", () => {
    check(
      fc.property(parts, (value) => {
        const packet = buildPacket({ ...value, checksum: "pseudo" });
        const start = ipBytesOf(value);
        const tcp = value.protocol === "tcp";
        const sum = pseudoHeaderSum(packet, 0, value.version, tcp ? 6 : 17, packet.length - start);
        const field = start + (tcp ? 16 : 6);
        expect(foldSum(sum)).toBe((packet[field]! << 8) | packet[field + 1]!);
      }),
    );
  });
});

describe("replaceWord", () => {
  test("RFC 1624, section 4: dd2f with 5555 replaced by 3285 is 0000, not ffff", () => {
    expect(replaceWord(0xdd2f, 0x5555, 0x3285)).toBe(0);
  });

  test("is the checksum of the changed bytes, also of two bytes that straddle two words", () => {
    check(
      fc.property(bytes(2, 60), fc.nat(), fc.nat(0xffff), (data, position, word) => {
        const at = position % (data.length - 1);
        const before = checksumOf(addWords(data, 0, data.length, 0));
        const swap = (value: number) => (at % 2 === 0 ? value : ((value & 255) << 8) | (value >> 8));
        const old = swap((data[at]! << 8) | data[at + 1]!);
        data[at] = word >> 8;
        data[at + 1] = word;
        const after = checksumOf(addWords(data, 0, data.length, 0));
        // all-zero data has a sum of +0, everything else -0: the two forms of one value
        expect(replaceWord(before, old, swap(word)) % 0xffff).toBe(after % 0xffff);
      }),
      500,
    );
  });
});
