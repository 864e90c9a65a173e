/** The parity of a record: against a slow second implementation, and whatever one loss a group takes comes back. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HEADER_BYTES, MAX_PIECES, TAG_BYTES } from "../../lib/limits.ts";
import { restorePiece, writeParity } from "../../lib/parity.ts";
import { MAX_PARITY_GROUPS, pieceSize, writeDatagrams } from "../../lib/protocol.ts";
import { check, randomSource } from "../support/property.ts";
import vectors from "../vectors/record.json";

/** The same by the definition, byte by byte. */
function slowParity(sealed: Uint8Array, pieces: number, groups: number): Uint8Array {
  const size = Math.ceil(sealed.length / pieces);
  const out = new Uint8Array(groups * size);
  for (let piece = 0; piece < pieces; piece++) {
    for (let i = 0; i < size; i++) out[(piece % groups) * size + i]! ^= sealed[piece * size + i] ?? 0;
  }
  return out;
}

/** Any record that can be cut so, its content from a seed; also at an odd place of a larger buffer. */
const shape = fc
  .record({
    pieces: fc.integer({ min: 2, max: MAX_PIECES }),
    size: fc.integer({ min: 20, max: 300 }),
    less: fc.nat(300),
    groups: fc.integer({ min: 1, max: MAX_PARITY_GROUPS }),
    place: fc.nat(9),
    apart: fc.boolean(),
    seed: fc.nat(),
  })
  // the last piece may be short, the tag alone, or a part of it; it has at least one byte
  .map(({ pieces, size, less, groups, place, apart, seed }) => ({
    pieces,
    length: pieces * size - Math.min(less, size - 1, pieces - 1),
    groups: Math.min(groups, pieces),
    place,
    apart,
    seed,
  }));

function randomBytes(length: number, place: number, seed: number): Uint8Array<ArrayBuffer> {
  const random = randomSource(seed);
  return new Uint8Array(place + length + 3).map(() => random(256)).subarray(place, place + length);
}

describe("writeParity", () => {
  test("is the exclusive or of every group, tag apart or not, and nothing behind it is touched", () => {
    check(
      fc.property(shape, ({ pieces, length, groups, place, apart, seed }) => {
        const sealed = randomBytes(length, place, seed);
        const body = apart ? sealed.subarray(0, -TAG_BYTES) : sealed;
        const tag = apart ? sealed.slice(-TAG_BYTES) : null;
        const bytes = groups * pieceSize(length, pieces);
        const out = new Uint8Array(place + bytes + 5).fill(0xee).subarray(place);
        expect(writeParity(out, body, tag, pieces, groups)).toBe(bytes);
        expect(out.subarray(0, bytes).toHex()).toBe(slowParity(sealed, pieces, groups).toHex());
        expect(out.subarray(bytes).toHex()).toBe("ee".repeat(5));
      }),
      300,
    );
  });

  test("record.json: the datagrams of the parities", () => {
    for (const { header, sealed, pieces, parities, datagrams } of vectors.records) {
      const body = Uint8Array.fromHex(sealed);
      for (const [i, ahead] of parities.entries()) {
        const groups = i + 1;
        const parity = new Uint8Array(groups * pieceSize(body.length, pieces));
        writeParity(parity, body, null, pieces, groups);
        const out = new Uint8Array(body.length + parity.length + (pieces + groups) * HEADER_BYTES);
        writeDatagrams(out, Uint8Array.fromHex(header), body, null, parity, pieces);
        expect(out.toHex()).toBe([...ahead, ...datagrams].join(""));
      }
    }
  });
});

describe("restorePiece", () => {
  test("one lost piece of every group comes back, in its place and nowhere else", () => {
    check(
      fc.property(shape, ({ pieces, length, groups, place, seed }) => {
        const size = pieceSize(length, pieces);
        const sealed = randomBytes(length, 0, seed);
        const parity = slowParity(sealed, pieces, groups);
        const random = randomSource(seed);
        const buffer = new Uint8Array(place + length + 4).fill(0xee);
        buffer.set(sealed, place);
        const lost: number[] = [];
        for (let group = 0; group < groups; group++) {
          const members = Math.ceil((pieces - group) / groups);
          lost.push(group + groups * random(members));
        }
        // what stands in the place of a lost piece must not matter
        for (const piece of lost)
          buffer.fill(0x5a, place + piece * size, place + Math.min(length, (piece + 1) * size));
        for (const piece of lost) {
          const group = piece % groups;
          const own = parity.slice(group * size, (group + 1) * size);
          restorePiece(buffer, place, length, pieces, groups, piece, own);
        }
        expect(buffer.subarray(place, place + length).toHex()).toBe(sealed.toHex());
        expect(buffer.subarray(0, place).every((byte) => byte === 0xee)).toBe(true);
        expect(buffer.subarray(place + length).toHex()).toBe("ee".repeat(4));
      }),
      300,
    );
  });

  test("every single piece of records of the usual sizes", () => {
    for (const [length, pieces] of [
      [16_016, 12],
      [62_026, 44],
      [2_873, 3],
      [2_880, 2],
    ] as const) {
      const sealed = randomBytes(length, 0, length);
      const size = pieceSize(length, pieces);
      for (const groups of [1, 2]) {
        const parity = slowParity(sealed, pieces, groups);
        for (let piece = 0; piece < pieces; piece++) {
          const copy = sealed.slice();
          copy.fill(0, piece * size, (piece + 1) * size);
          const group = piece % groups;
          restorePiece(
            copy,
            0,
            length,
            pieces,
            groups,
            piece,
            parity.slice(group * size, (group + 1) * size),
          );
          expect(Buffer.compare(copy, sealed)).toBe(0);
        }
      }
    }
  });
});
