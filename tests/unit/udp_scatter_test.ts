/** Received bytes laid out in advance: a record comes out whole when the guess was right, and in wire order when not. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HEADER_BYTES } from "../../lib/limits.ts";
import { writeParity } from "../../lib/parity.ts";
import {
  MAX_PARITY_GROUPS,
  parityPiece,
  pieceSize,
  readLength,
  readPiece,
  RecordType,
  writeDatagrams,
  writeHeader,
  writePiece,
} from "../../lib/protocol.ts";
import { MAX_DATAGRAMS, RECEIVE_BYTES, ScatterLayout } from "../../lib/udp_scatter.ts";
import { check } from "../support/property.ts";

/** The datagrams of one record, back to back. */
function wire(length: number, pieces: number, sequence = 5, groups = 0): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_BYTES);
  writeHeader(header, 0, RecordType.data, length, 9, 1, pieces, sequence);
  const body = new Uint8Array(length).map((_, i) => i * 7 + (i >> 8));
  const parity = new Uint8Array(groups * pieceSize(length, pieces));
  writeParity(parity, body, null, pieces, groups);
  const out = new Uint8Array(length + parity.length + (pieces + groups) * HEADER_BYTES);
  writeDatagrams(out, header, body, null, groups === 0 ? null : parity, pieces);
  return out;
}

/** Puts `bytes` where the kernel would: header and piece in turn, the rest behind the last piece. */
function scatter(layout: ScatterLayout, bytes: Uint8Array): void {
  let at = 0;
  const take = (into: Uint8Array, offset: number, room: number): void => {
    const part = bytes.subarray(at, at + room);
    into.set(part, offset);
    at += part.length;
  };
  for (let i = 0; i < MAX_DATAGRAMS; i++) {
    take(layout.headers, i * HEADER_BYTES, HEADER_BYTES);
    take(layout.pieces, i * layout.pieceBytes, layout.pieceBytes);
  }
  take(layout.pieces, MAX_DATAGRAMS * layout.pieceBytes, RECEIVE_BYTES);
}

/** One receive, as `udp_receiver.ts` does it. */
interface Received {
  /** The sealed bytes of a whole record. */
  readonly record: string | null;
  /** It was in its places. */
  readonly inPlace: boolean;
  /** All that came, in wire order, if it was no whole record. */
  readonly linear: string;
}

function receive(layout: ScatterLayout, bytes: Uint8Array): Received {
  scatter(layout, bytes);
  const first = layout.recordAt(bytes.length);
  if (first >= 0) {
    const length = readLength(layout.headers, first * HEADER_BYTES);
    const start = first * layout.pieceBytes;
    const record = layout.pieces.subarray(start, start + length).toHex();
    return { record, inPlace: true, linear: "" };
  }
  if (layout.join(bytes.length)) {
    const header = layout.linear.slice(0, HEADER_BYTES);
    expect(readPiece(header, 0)).toBe(0);
    const record = layout.linear.subarray(HEADER_BYTES, HEADER_BYTES + readLength(header, 0)).toHex();
    layout.adapt(bytes.length);
    return { record, inPlace: false, linear: "" };
  }
  layout.linearize(bytes.length);
  const linear = layout.linear.subarray(0, bytes.length).toHex();
  layout.adapt(bytes.length);
  return { record: null, inPlace: false, linear };
}

const sealedOf = (length: number) => new Uint8Array(length).map((_, i) => i * 7 + (i >> 8)).toHex();

describe("ScatterLayout", () => {
  test("learns the size of the pieces from one record, and has the next one in its places", () => {
    const layout = new ScatterLayout();
    const bytes = wire(62_026, 44);
    const record = sealedOf(62_026);
    expect(receive(layout, bytes)).toEqual({ record, inPlace: false, linear: "" });
    expect(layout.pieceBytes).toBe(pieceSize(62_026, 44));
    expect(receive(layout, bytes)).toEqual({ record, inPlace: true, linear: "" });
  });

  test("keeps the size that holds for most bytes: a write of 128 KiB is two large records and a small one", () => {
    const layout = new ScatterLayout();
    const [large, small] = [wire(61_638, 43), wire(8_286, 6)];
    receive(layout, large);
    for (let i = 0; i < 5; i++) {
      for (let j = 0; j < 2; j++)
        expect(receive(layout, large)).toEqual({ record: sealedOf(61_638), inPlace: true, linear: "" });
      expect(receive(layout, small)).toEqual({ record: sealedOf(8_286), inPlace: false, linear: "" });
    }
  });

  test("takes the size of smaller records as soon as they were as many bytes as the last large one", () => {
    const layout = new ScatterLayout();
    const small = wire(8_286, 6);
    receive(layout, wire(61_638, 43));
    const misfits = Math.ceil((61_638 + 43 * HEADER_BYTES) / small.length);
    for (let i = 0; i < misfits; i++) expect(receive(layout, small).inPlace).toBe(false);
    expect(receive(layout, small)).toEqual({ record: sealedOf(8_286), inPlace: true, linear: "" });
  });

  test("a small record in one datagram is whole at any time, and does not spoil the guess", () => {
    const layout = new ScatterLayout();
    receive(layout, wire(62_026, 44));
    const guess = layout.pieceBytes;
    expect(receive(layout, wire(90, 1)).record).toBe(sealedOf(90));
    expect(layout.pieceBytes).toBe(guess);
  });

  test("whatever comes is a record as it was sent, or in wire order", () => {
    const layout = new ScatterLayout();
    const shape = fc
      .tuple(fc.integer({ min: 1, max: 44 }), fc.integer({ min: 256, max: 1400 }))
      .map(([pieces, size]) => ({ pieces, length: pieces * size - (size % pieces) }))
      .chain((record) =>
        fc
          .nat(Math.min(record.pieces === 1 ? 0 : record.pieces, MAX_PARITY_GROUPS))
          .map((groups) => ({ ...record, groups })),
      );
    check(
      fc.property(fc.array(shape, { minLength: 1, maxLength: 3 }), fc.nat(40), (records, cut) => {
        const all = Buffer.concat(
          records.map(({ length, pieces, groups }, i) => wire(length, pieces, i, groups)),
        );
        const bytes = all.subarray(0, Math.max(1, Math.min(RECEIVE_BYTES, all.length) - cut));
        const { record, linear } = receive(layout, bytes);
        const isWhole = records.length === 1 && bytes.length === all.length;
        if (isWhole) expect(record).toBe(sealedOf(records[0]!.length));
        else if (record === null) expect(linear).toBe(bytes.toString("hex"));
        // cut off where a record ends
        else expect(record).toBe(sealedOf(records[0]!.length));
      }),
      200,
    );
  });

  test("pieces of another record, out of order or twice are no record", () => {
    const layout = new ScatterLayout();
    receive(layout, wire(3_000, 3));
    const [a, b] = [wire(3_000, 3, 1), wire(3_000, 3, 2)];
    const size = HEADER_BYTES + 1_000;
    const part = (bytes: Uint8Array, piece: number) => bytes.subarray(piece * size, (piece + 1) * size);
    for (const parts of [
      [part(a, 0), part(b, 1), part(a, 2)],
      [part(a, 0), part(a, 2), part(a, 1)],
      [part(a, 0), part(a, 0), part(a, 0)],
      [part(a, 1), part(a, 2)],
      [part(a, 0), part(a, 1)],
    ]) {
      const bytes = Buffer.concat(parts);
      expect(receive(layout, bytes)).toEqual({ record: null, inPlace: false, linear: bytes.toString("hex") });
    }
  });

  test("a record behind its parities is whole, too, in its places or not", () => {
    for (let groups = 1; groups <= 3; groups++) {
      // 35 datagrams fill what one receive may give
      for (const [length, pieces] of [
        [3_000, 3],
        [40_000, 35],
      ] as const) {
        const layout = new ScatterLayout();
        const bytes = wire(length, pieces, 5, groups);
        for (const inPlace of [false, true])
          expect(receive(layout, bytes)).toEqual({ record: sealedOf(length), inPlace, linear: "" });
      }
    }
  });

  test("a parity lost, twice, of another number of groups or of another record: no record, but in wire order", () => {
    const layout = new ScatterLayout();
    const size = HEADER_BYTES + 1_000;
    const whole = wire(3_000, 3, 5, 2);
    receive(layout, whole);
    const part = (bytes: Uint8Array, place: number) => bytes.subarray(place * size, (place + 1) * size);
    const pieces = whole.subarray(2 * size);
    const [first, second] = [part(whole, 0), part(whole, 1)];
    const other = part(wire(3_000, 3, 6, 2), 1);
    const threefold = second.slice();
    writePiece(threefold, 0, parityPiece(3, 1));
    for (const parts of [
      [second, pieces],
      [first, pieces],
      [second, first, pieces],
      [first, first, pieces],
      [first, other, pieces],
      [first, threefold, pieces],
      [first, second, pieces.subarray(size)],
      [first, second, pieces.subarray(0, 2 * size)],
      [first, second],
      [pieces, first, second],
    ]) {
      const bytes = Buffer.concat(parts);
      expect(receive(layout, bytes)).toEqual({ record: null, inPlace: false, linear: bytes.toString("hex") });
    }
  });

  test("lone pieces of a record are handed on in wire order, and leave the places for a joined one as they are", () => {
    const layout = new ScatterLayout();
    const bytes = wire(3_000, 3, 5, 1);
    receive(layout, bytes);
    const lone = bytes.subarray(0, HEADER_BYTES + 1_000);
    for (let i = 0; i < 100; i++)
      expect(receive(layout, lone)).toEqual({ record: null, inPlace: false, linear: lone.toHex() });
    expect(receive(layout, wire(90, 1)).record).toBe(sealedOf(90));
    expect(receive(layout, bytes).record).toBe(sealedOf(3_000));
  });

  test("random bytes are never a record longer than what came", () => {
    const layout = new ScatterLayout();
    check(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 3_000, size: "max" }), (bytes) => {
        const { record, linear } = receive(layout, bytes);
        if (record === null) expect(linear).toBe(bytes.toHex());
        else expect(record.length / 2).toBeLessThan(bytes.length);
      }),
      200,
    );
  });
});
