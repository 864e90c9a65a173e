/** The datagram header: golden bytes, round trip, every truncated prefix, random bytes. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HEADER_BYTES, MAX_PIECES, MAX_RECORD_BYTES, MIN_PIECE_BYTES, TAG_BYTES } from "../../lib/limits.ts";
import {
  datagramSize,
  isHeader,
  isWholeRecord,
  MAX_PARITY_GROUPS,
  parityPiece,
  pieceSize,
  piecesFor,
  readEpoch,
  readLength,
  readParityGroup,
  readParityGroups,
  readPiece,
  readPieces,
  readSequence,
  readSessionId,
  readType,
  RecordType,
  writeDatagrams,
  writeHeader,
  writePiece,
} from "../../lib/protocol.ts";
import { bytes, check } from "../support/property.ts";

/** A header as bytes; pieces and length must fit each other to be well formed. */
function header(length: number, pieces: number, piece = 0, type: RecordType = RecordType.data): Uint8Array {
  const data = new Uint8Array(HEADER_BYTES);
  writeHeader(data, 0, type, length, 0x01020304, 5, pieces, 6);
  writePiece(data, 0, piece);
  return data;
}

/** The datagram of one piece, its payload zero. */
function datagram(length: number, pieces: number, piece = 0): Uint8Array {
  const size = Math.ceil(length / pieces);
  const payload = piece < pieces - 1 ? size : length - size * (pieces - 1);
  const data = new Uint8Array(HEADER_BYTES + payload);
  data.set(header(length, pieces, piece));
  return data;
}

const record = fc
  .tuple(fc.integer({ min: 1, max: MAX_PIECES }), fc.integer({ min: 17, max: MAX_RECORD_BYTES }))
  .filter(([pieces, length]) => pieces === 1 || Math.ceil(length / pieces) >= MIN_PIECE_BYTES);

describe("writeHeader", () => {
  test("golden bytes", () => {
    const data = new Uint8Array(HEADER_BYTES + 2).fill(0xee);
    writeHeader(data, 1, RecordType.offload, 0xf00d, 0xdeadbeef, 0xabcd, 44, 2 ** 40 - 2);
    writePiece(data, 1, 43);
    expect(data.toHex()).toBe("ee" + "032bf00d" + "deadbeef" + "abcd2cff" + "fffffffe" + "ee");
  });

  test("round trip of every field", () => {
    check(
      fc.property(
        fc.constantFrom(...Object.values(RecordType)),
        fc.nat(0xffff),
        fc.nat(0xffff_ffff),
        fc.nat(0xffff),
        fc.nat(255),
        fc.nat(255),
        fc.maxSafeNat().map((n) => n % 2 ** 40),
        fc.nat(20),
        (type, length, id, epoch, pieces, piece, sequence, offset) => {
          const data = new Uint8Array(offset + HEADER_BYTES);
          writeHeader(data, offset, type, length, id, epoch, pieces, sequence);
          expect(readPiece(data, offset)).toBe(0);
          writePiece(data, offset, piece);
          expect([readType(data, offset), readPiece(data, offset), readLength(data, offset)]).toEqual([
            type,
            piece,
            length,
          ]);
          expect(readSessionId(data, offset)).toBe(id);
          expect([readEpoch(data, offset), readPieces(data, offset)]).toEqual([epoch, pieces]);
          expect(readSequence(data, offset)).toBe(sequence);
        },
      ),
      500,
    );
  });

  test("counts across the 32-bit boundary", () => {
    for (const sequence of [2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 40 - 1]) {
      const data = new Uint8Array(HEADER_BYTES);
      writeHeader(data, 0, RecordType.data, 100, 1, 0, 1, sequence);
      expect(readSequence(data, 0)).toBe(sequence);
    }
  });
});

describe("pieceSize, piecesFor", () => {
  test("pieces fit their datagrams, need no more of them than necessary, and add up", () => {
    check(
      fc.property(
        fc.integer({ min: 17, max: MAX_RECORD_BYTES }),
        fc.integer({ min: 600, max: 9000 }),
        (length, max) => {
          const pieces = piecesFor(length, max);
          const size = pieceSize(length, pieces);
          const last = length - size * (pieces - 1);
          expect(size + HEADER_BYTES).toBeLessThanOrEqual(max);
          expect(last).toBeGreaterThan(0);
          expect(last).toBeLessThanOrEqual(size);
          expect((pieces - 1) * (max - HEADER_BYTES)).toBeLessThan(length);
          if (pieces > 1) expect(size).toBeGreaterThanOrEqual(MIN_PIECE_BYTES);
        },
      ),
      1000,
    );
  });
});

describe("datagramSize", () => {
  test("is header and payload for every piece of a record, alone or with more datagrams behind it", () => {
    check(
      fc.property(record, fc.nat(MAX_PIECES), fc.nat(64), ([pieces, length], n, extra) => {
        const piece = n % pieces;
        const one = datagram(length, pieces, piece);
        const buffer = new Uint8Array(one.length + extra);
        buffer.set(one);
        expect(datagramSize(buffer, 0, buffer.length)).toBe(one.length);
      }),
      500,
    );
  });

  test("walks a buffer in which the kernel joined all pieces of a record", () => {
    check(
      fc.property(record, ([pieces, length]) => {
        const parts = Array.from({ length: pieces }, (_, i) => datagram(length, pieces, i));
        const joined = Buffer.concat(parts);
        let offset = 0;
        for (const part of parts) {
          expect(datagramSize(joined, offset, joined.length)).toBe(part.length);
          offset += part.length;
        }
        expect(offset).toBe(length + pieces * HEADER_BYTES);
      }),
    );
  });

  test("refuses every truncated prefix", () => {
    for (const one of [datagram(17, 1), datagram(100, 1), datagram(600, 2, 0), datagram(601, 2, 1)]) {
      for (let end = 0; end < one.length; end++) expect(datagramSize(one, 0, end)).toBe(0);
      expect(datagramSize(one, 0, one.length)).toBe(one.length);
    }
  });

  test.each([
    ["an unknown type", { type: 0 }],
    ["another unknown type", { type: 5 }],
    ["a record of nothing but a tag", { length: TAG_BYTES }],
    ["a record longer than a sender makes", { length: MAX_RECORD_BYTES + 1, pieces: 2 }],
    ["no pieces", { pieces: 0 }],
    ["more pieces than a sender makes", { length: MAX_RECORD_BYTES, pieces: MAX_PIECES + 1 }],
    ["a piece behind the last", { pieces: 2, piece: 2 }],
    ["a piece index without pieces", { pieces: 1, piece: 1 }],
    ["pieces smaller than a sender makes", { length: 510, pieces: 2 }],
  ])("refuses %s", (_name, fields) => {
    const { type = 1, length = 600, pieces = 1, piece = 0 } = fields as Record<string, number>;
    const buffer = new Uint8Array(70_000);
    buffer.set(header(length, pieces, piece, type as RecordType));
    expect(datagramSize(buffer, 0, buffer.length)).toBe(0);
  });

  test("random bytes: never throws, never reaches past the end, always goes on", () => {
    check(
      fc.property(bytes(0, 200), fc.nat(200), (data, at) => {
        const offset = Math.min(at, data.length);
        const size = datagramSize(data, offset, data.length);
        expect(size === 0 || (size > HEADER_BYTES && offset + size <= data.length)).toBe(true);
      }),
      2000,
    );
  });
});

describe("parities", () => {
  test("golden bytes: the parity of group 2 of 3", () => {
    const data = new Uint8Array(HEADER_BYTES);
    writeHeader(data, 0, RecordType.offload, 0xf00d, 0xdeadbeef, 0xabcd, 44, 2 ** 40 - 2);
    writePiece(data, 0, parityPiece(3, 1));
    expect(data.toHex()).toBe("0391f00d" + "deadbeef" + "abcd2cff" + "fffffffe");
  });

  test("round trip of groups and group; no piece is taken for a parity", () => {
    const data = new Uint8Array(HEADER_BYTES + 3);
    for (let groups = 1; groups <= MAX_PARITY_GROUPS; groups++) {
      for (let group = 0; group < groups; group++) {
        writePiece(data, 3, parityPiece(groups, group));
        expect([readParityGroups(data, 3), readParityGroup(data, 3)]).toEqual([groups, group]);
      }
    }
    for (let piece = 0; piece < 128; piece++) {
      writePiece(data, 3, piece);
      expect(readParityGroups(data, 3)).toBe(0);
    }
  });

  test("of all 128 indices exactly those are taken that a record of so many pieces may have", () => {
    for (const pieces of [1, 2, 3, 7, 8, 9, MAX_PIECES]) {
      const own = new Set<number>();
      const most = pieces === 1 ? 0 : Math.min(pieces, MAX_PARITY_GROUPS);
      for (let groups = 1; groups <= most; groups++)
        for (let group = 0; group < groups; group++) own.add(parityPiece(groups, group));
      for (let index = pieces; index < 256; index++) {
        expect([index, isHeader(header(pieces * 300, pieces, index), 0)]).toEqual([index, own.has(index)]);
      }
    }
  });

  test("a parity is as long as every piece but the last; every truncated prefix is refused", () => {
    for (const [length, pieces] of [
      [900, 3],
      [899, 3],
      [62_026, 44],
    ] as const) {
      const size = HEADER_BYTES + Math.ceil(length / pieces);
      const data = new Uint8Array(size);
      data.set(header(length, pieces, parityPiece(2, 1)));
      expect(datagramSize(data, 0, size)).toBe(size);
      for (let end = 0; end < size; end++) expect(datagramSize(data, 0, end)).toBe(0);
      expect(isWholeRecord(data)).toBe(false);
    }
  });

  test("writeDatagrams: the parities ahead of the pieces, each behind its header", () => {
    check(
      fc.property(
        record,
        fc.integer({ min: 1, max: MAX_PARITY_GROUPS }),
        fc.boolean(),
        ([pieces, length], n, apart) => {
          if (pieces === 1) return;
          const groups = Math.min(n, pieces);
          const size = pieceSize(length, pieces);
          const sealed = new Uint8Array(length).map((_, i) => i * 7 + (i >> 8));
          const parity = new Uint8Array(groups * size).map((_, i) => i * 5);
          const [body, tag] = apart
            ? [sealed.slice(0, -TAG_BYTES), sealed.slice(-TAG_BYTES)]
            : [sealed, null];
          const out = new Uint8Array(length + groups * size + (pieces + groups) * HEADER_BYTES);
          expect(writeDatagrams(out, header(length, pieces), body, tag, parity, pieces)).toBe(out.length);
          let at = 0;
          for (let i = 0; i < groups + pieces; i++) {
            const bytes = datagramSize(out, at, out.length);
            const ahead = i < groups;
            expect(readPiece(out, at)).toBe(ahead ? parityPiece(groups, i) : i - groups);
            const from = ahead ? i * size : (i - groups) * size;
            const expected = (ahead ? parity : sealed).subarray(from, from + size);
            expect(Buffer.compare(out.subarray(at + HEADER_BYTES, at + bytes), expected)).toBe(0);
            at += bytes;
          }
          expect(at).toBe(out.length);
        },
      ),
      60,
    );
  });
});
