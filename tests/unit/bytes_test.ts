/** Big-endian reads and writes, against DataView. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  concatBytes,
  copyBytes,
  equalBytes,
  readUint16,
  readUint32,
  writeUint16,
  writeUint32,
} from "../../lib/bytes.ts";
import { bytes, check } from "../support/property.ts";

describe("copyBytes", () => {
  test("copies the range and nothing else, at every alignment and over its own stretch length", () => {
    const from = Uint8Array.from({ length: 9000 }, (_, i) => i * 7);
    for (const length of [0, 1, 5, 2047, 2048, 2049, 4096, 6001]) {
      for (const [source, target] of [
        [0, 0],
        [3, 11],
        [7, 0],
        [1, 2],
      ] as const) {
        const to = new Uint8Array(9000).fill(0xee);
        const expected = to.slice();
        expected.set(from.subarray(source, source + length), target);
        copyBytes(from, source, to, target, length);
        expect(to.toHex()).toBe(expected.toHex());
      }
    }
  });
});

describe("readUint16, readUint32", () => {
  test("agree with DataView at every offset", () => {
    check(
      fc.property(bytes(4, 32), (data) => {
        const view = new DataView(data.buffer);
        for (let i = 0; i + 4 <= data.length; i++) {
          expect(readUint16(data, i)).toBe(view.getUint16(i));
          expect(readUint32(data, i)).toBe(view.getUint32(i));
        }
      }),
    );
  });

  test("readUint32 is never negative", () => {
    expect(readUint32(Uint8Array.of(255, 255, 255, 255), 0)).toBe(0xffff_ffff);
  });
});

describe("writeUint16, writeUint32", () => {
  test("write what is read back and touch nothing beside it", () => {
    check(
      fc.property(fc.nat(0xffff), fc.nat(0xffff_ffff), fc.nat(8), (short, long, offset) => {
        const data = new Uint8Array(16).fill(0xaa);
        writeUint32(data, offset, long);
        writeUint16(data, offset + 4, short);
        expect(readUint32(data, offset)).toBe(long);
        expect(readUint16(data, offset + 4)).toBe(short);
        const around = [...data.subarray(0, offset), ...data.subarray(offset + 6)];
        expect(around.every((byte) => byte === 0xaa)).toBe(true);
      }),
    );
  });

  test("keep the low bits of a value that is too large", () => {
    const data = new Uint8Array(6);
    writeUint32(data, 0, 2 ** 40 + 5);
    writeUint16(data, 4, 0x12345);
    expect([...data]).toEqual([0, 0, 0, 5, 0x23, 0x45]);
  });
});

describe("concatBytes", () => {
  test("joins in order, empty parts included", () => {
    const joined = concatBytes(Uint8Array.of(1), new Uint8Array(0), Uint8Array.of(2, 3));
    expect([...joined]).toEqual([1, 2, 3]);
    expect(concatBytes().length).toBe(0);
  });
});

describe("equalBytes", () => {
  test("agrees with a comparison of texts", () => {
    check(
      fc.property(bytes(0, 4), bytes(0, 4), (a, b) => {
        expect(equalBytes(a, b)).toBe(Buffer.from(a).toString("hex") === Buffer.from(b).toString("hex"));
        expect(equalBytes(a, a.slice())).toBe(true);
      }),
    );
  });

  test("sees a difference in any single bit", () => {
    const a = Uint8Array.of(1, 2, 3);
    for (let bit = 0; bit < 24; bit++) {
      const b = a.slice();
      b[bit >> 3]! ^= 1 << (bit & 7);
      expect(equalBytes(a, b)).toBe(false);
    }
  });
});
