/** Reassembly: any order, duplicates, contradictions, bounds, time-out. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  HEADER_BYTES,
  REASSEMBLY_BYTES,
  REASSEMBLY_RECORDS,
  REASSEMBLY_TIMEOUT_MS,
} from "../../lib/limits.ts";
import { RecordType, writeHeader, writePiece } from "../../lib/protocol.ts";
import { Reassembly } from "../../lib/reassembly.ts";
import { check } from "../support/property.ts";

interface Fields {
  readonly sequence?: number;
  readonly epoch?: number;
  readonly type?: RecordType;
  readonly fill?: number;
}

/** The datagrams of one record, and the record as it must come out. */
function record(
  length: number,
  pieces: number,
  fields: Fields = {},
): { datagrams: Uint8Array[]; whole: Uint8Array } {
  const whole = new Uint8Array(HEADER_BYTES + length).map((_, i) => i * 7 + (fields.fill ?? 0));
  const { type = RecordType.data, epoch = 1, sequence = 5 } = fields;
  writeHeader(whole, 0, type, length, 99, epoch, pieces, sequence);
  const size = Math.ceil(length / pieces);
  const datagrams = Array.from({ length: pieces }, (_, i) => {
    const payload = whole.subarray(HEADER_BYTES + i * size, HEADER_BYTES + Math.min(length, (i + 1) * size));
    const datagram = Uint8Array.of(...whole.subarray(0, HEADER_BYTES), ...payload);
    writePiece(datagram, 0, i);
    return datagram;
  });
  return { datagrams, whole };
}

const add = (reassembly: Reassembly, datagram: Uint8Array, nowMs = 0) =>
  reassembly.add(datagram, 0, datagram.length, nowMs);

describe("Reassembly.add", () => {
  test("any order, with duplicates: the record comes out once, after its last piece, under the header of piece 0", () => {
    const shape = fc.tuple(fc.integer({ min: 2, max: 64 }), fc.integer({ min: 300, max: 400 }), fc.nat(200));
    check(
      fc.property(shape, fc.infiniteStream(fc.nat(0xffff)), ([pieces, size, less], random) => {
        const { datagrams, whole } = record(pieces * size - Math.min(less, size - 1, pieces), pieces);
        const order = datagrams
          .map((datagram) => ({ datagram, key: random.next().value }))
          .toSorted((a, b) => a.key - b.key)
          .map(({ datagram }) => datagram);
        const reassembly = new Reassembly();
        for (const datagram of order.slice(0, -1)) {
          expect(add(reassembly, datagram)).toBeNull();
          expect(add(reassembly, datagram)).toBeNull();
        }
        expect(add(reassembly, order.at(-1)!)?.toHex()).toBe(whole.toHex());
        expect([reassembly.records, reassembly.bytes]).toEqual([0, 0]);
      }),
      60,
    );
  });

  test("reads the piece at its offset, whatever stands around it", () => {
    const { datagrams, whole } = record(600, 2);
    const reassembly = new Reassembly();
    const around = (datagram: Uint8Array) => Uint8Array.of(9, 9, ...datagram, 9, 9);
    expect(reassembly.add(around(datagrams[1]!), 2, datagrams[1]!.length, 0)).toBeNull();
    expect(reassembly.add(around(datagrams[0]!), 2, datagrams[0]!.length, 0)?.toHex()).toBe(whole.toHex());
  });

  test("records of the same number in different epochs, and interleaved ones, stay apart", () => {
    const all = [record(600, 2), record(600, 2, { epoch: 2, fill: 3 }), record(601, 2, { sequence: 6 })];
    const last = record(700, 2, { sequence: 2 ** 40 - 1, epoch: 0xffff });
    const reassembly = new Reassembly();
    for (const { datagrams } of [...all, last]) expect(add(reassembly, datagrams[0]!)).toBeNull();
    for (const { datagrams, whole } of [...all, last]) {
      expect(add(reassembly, datagrams[1]!)?.toHex()).toBe(whole.toHex());
    }
  });

  test("a piece that contradicts the first one changes nothing", () => {
    const genuine = record(600, 2);
    const reassembly = new Reassembly();
    add(reassembly, genuine.datagrams[0]!);
    const liars = [record(601, 2), record(900, 3), record(600, 2, { type: RecordType.offload })];
    for (const { datagrams } of liars) expect(add(reassembly, datagrams[1]!)).toBeNull();
    expect(add(reassembly, genuine.datagrams[1]!)?.toHex()).toBe(genuine.whole.toHex());
  });

  test("a second copy of a piece does not overwrite the first", () => {
    const genuine = record(600, 2);
    const forged = record(600, 2, { fill: 100 });
    const reassembly = new Reassembly();
    add(reassembly, genuine.datagrams[0]!);
    add(reassembly, forged.datagrams[0]!);
    expect(add(reassembly, genuine.datagrams[1]!)?.toHex()).toBe(genuine.whole.toHex());
  });

  test("what it returns is its own copy", () => {
    const { datagrams, whole } = record(600, 2);
    const reassembly = new Reassembly();
    add(reassembly, datagrams[0]!);
    datagrams[0]!.fill(0);
    expect(add(reassembly, datagrams[1]!)?.toHex()).toBe(whole.toHex());
  });
});

describe("Reassembly: bounds", () => {
  test("small records: never more than the limit, the oldest make room and are counted", () => {
    const reassembly = new Reassembly();
    for (let sequence = 0; sequence < REASSEMBLY_RECORDS + 10; sequence++) {
      add(reassembly, record(600, 2, { sequence }).datagrams[0]!);
      expect(reassembly.records).toBeLessThanOrEqual(REASSEMBLY_RECORDS);
    }
    expect(reassembly.takeOverflowed()).toBe(10);
    expect(reassembly.takeOverflowed()).toBe(0);
    expect(add(reassembly, record(600, 2, { sequence: 9 }).datagrams[1]!)).toBeNull();
    expect(add(reassembly, record(600, 2, { sequence: 73 }).datagrams[1]!)).not.toBeNull();
  });

  test("large records: never more bytes than the limit", () => {
    const reassembly = new Reassembly();
    const datagram = record(64_000, 50).datagrams[0]!;
    let begun = 0;
    for (let sequence = 0; sequence < 100; sequence++) {
      writeHeader(datagram, 0, RecordType.data, 64_000, 99, 1, 50, sequence);
      add(reassembly, datagram);
      begun++;
      expect(reassembly.bytes).toBeLessThanOrEqual(REASSEMBLY_BYTES);
    }
    expect(reassembly.bytes).toBe(reassembly.records * (HEADER_BYTES + 64_000));
    expect(reassembly.takeOverflowed()).toBe(begun - reassembly.records);
  });
});

describe("Reassembly.expire", () => {
  test("gives up what stays incomplete, and only that", () => {
    const reassembly = new Reassembly();
    add(reassembly, record(600, 2, { sequence: 1 }).datagrams[0]!, 0);
    add(reassembly, record(600, 2, { sequence: 2 }).datagrams[0]!, 500);
    expect(reassembly.expire(REASSEMBLY_TIMEOUT_MS - 1)).toBe(0);
    expect(reassembly.expire(REASSEMBLY_TIMEOUT_MS)).toBe(1);
    expect(reassembly.records).toBe(1);
    expect(add(reassembly, record(600, 2, { sequence: 2 }).datagrams[1]!, 1200)).not.toBeNull();
    expect(reassembly.expire(10_000)).toBe(0);
    expect(reassembly.bytes).toBe(0);
  });

  test("later pieces do not lengthen a record's life", () => {
    const { datagrams } = record(900, 3);
    const reassembly = new Reassembly();
    add(reassembly, datagrams[0]!, 0);
    add(reassembly, datagrams[1]!, 900);
    expect(reassembly.expire(1000)).toBe(1);
    expect(add(reassembly, datagrams[2]!, 1001)).toBeNull();
  });
});
