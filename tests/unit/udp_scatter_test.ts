/** Received bytes laid out in advance: a record comes out whole when the guess was right, and in wire order when not. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HEADER_BYTES } from "../../lib/limits.ts";
import { pieceSize, RecordType, writeDatagrams, writeHeader } from "../../lib/protocol.ts";
import { RECEIVE_BYTES, ScatterLayout } from "../../lib/udp_scatter.ts";
import { check } from "../support/property.ts";

/** The datagrams of one record, back to back. */
function wire(length: number, pieces: number, sequence = 5): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(HEADER_BYTES);
  writeHeader(header, 0, RecordType.data, length, 9, 1, pieces, sequence);
  const body = new Uint8Array(length).map((_, i) => i * 7 + (i >> 8));
  const out = new Uint8Array(length + pieces * HEADER_BYTES);
  writeDatagrams(out, header, body, null, pieces);
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
  for (let i = 0; i < layout.headers.length / HEADER_BYTES; i++) {
    take(layout.headers, i * HEADER_BYTES, HEADER_BYTES);
    take(layout.pieces, i * layout.pieceBytes, layout.pieceBytes);
  }
  take(layout.pieces, (layout.headers.length / HEADER_BYTES) * layout.pieceBytes, RECEIVE_BYTES);
}

/** One receive, as `udp_poll.ts` does it. @returns the sealed bytes of a whole record, or null with the linear bytes */
function receive(layout: ScatterLayout, bytes: Uint8Array): { record: string | null; linear: string } {
  scatter(layout, bytes);
  if (layout.isRecord(bytes.length)) {
    const length = (layout.headers[2]! << 8) | layout.headers[3]!;
    return { record: layout.pieces.subarray(0, length).toHex(), linear: "" };
  }
  layout.linearize(bytes.length);
  const linear = layout.linear.subarray(0, bytes.length).toHex();
  layout.adapt(bytes.length);
  return { record: null, linear };
}

const sealedOf = (length: number) => new Uint8Array(length).map((_, i) => i * 7 + (i >> 8)).toHex();

describe("ScatterLayout", () => {
  test("learns the size of the pieces from one record, and has the next one whole", () => {
    const layout = new ScatterLayout();
    const bytes = wire(62_026, 44);
    expect(receive(layout, bytes)).toEqual({ record: null, linear: bytes.toHex() });
    expect(layout.pieceBytes).toBe(pieceSize(62_026, 44));
    expect(receive(layout, bytes).record).toBe(sealedOf(62_026));
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
      .map(([pieces, size]) => ({ pieces, length: pieces * size - (size % pieces) }));
    check(
      fc.property(fc.array(shape, { minLength: 1, maxLength: 3 }), fc.nat(40), (records, cut) => {
        const all = Buffer.concat(records.map(({ length, pieces }, i) => wire(length, pieces, i)));
        const bytes = all.subarray(0, Math.max(1, Math.min(RECEIVE_BYTES, all.length) - cut));
        const { record, linear } = receive(layout, bytes);
        if (record === null) expect(linear).toBe(bytes.toString("hex"));
        else {
          expect(records.length).toBe(1);
          expect(record).toBe(sealedOf(records[0]!.length));
        }
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
      expect(receive(layout, bytes)).toEqual({ record: null, linear: bytes.toString("hex") });
    }
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
