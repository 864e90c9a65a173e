/** Reassembly: any order, duplicates, contradictions, bounds, time-out. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  HEADER_BYTES,
  REASSEMBLY_BYTES,
  REASSEMBLY_RECORDS,
  REASSEMBLY_TIMEOUT_MS,
} from "../../lib/limits.ts";
import { writeParity } from "../../lib/parity.ts";
import { MAX_PARITY_GROUPS, parityPiece, RecordType, writeHeader, writePiece } from "../../lib/protocol.ts";
import { Reassembly } from "../../lib/reassembly.ts";
import { check, randomSource } from "../support/property.ts";

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

/** The same, and the datagrams of the parities of so many groups. */
function recordWithParity(length: number, pieces: number, groups: number, fields: Fields = {}) {
  const { datagrams, whole } = record(length, pieces, fields);
  const size = Math.ceil(length / pieces);
  const parity = new Uint8Array(groups * size);
  writeParity(parity, whole.subarray(HEADER_BYTES), null, pieces, groups);
  const ahead = Array.from({ length: groups }, (_, group) => {
    const payload = parity.subarray(group * size, (group + 1) * size);
    const datagram = Uint8Array.of(...whole.subarray(0, HEADER_BYTES), ...payload);
    writePiece(datagram, 0, parityPiece(groups, group));
    return datagram;
  });
  return { datagrams, whole, ahead };
}

const FROM = { host: "192.0.2.7", port: 4711 };

const add = (reassembly: Reassembly, datagram: Uint8Array, nowMs = 0) =>
  reassembly.add(datagram, 0, datagram.length, FROM, nowMs);

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
        expect(add(reassembly, order.at(-1)!)?.bytes.toHex()).toBe(whole.toHex());
        expect([reassembly.records, reassembly.bytes]).toEqual([0, 0]);
      }),
      60,
    );
  });

  test("reads the piece at its offset, whatever stands around it", () => {
    const { datagrams, whole } = record(600, 2);
    const reassembly = new Reassembly();
    const around = (datagram: Uint8Array) => Uint8Array.of(9, 9, ...datagram, 9, 9);
    expect(reassembly.add(around(datagrams[1]!), 2, datagrams[1]!.length, FROM, 0)).toBeNull();
    const record0 = reassembly.add(around(datagrams[0]!), 2, datagrams[0]!.length, FROM, 0);
    expect(record0?.bytes.toHex()).toBe(whole.toHex());
  });

  test("records of the same number in different epochs, and interleaved ones, stay apart", () => {
    const all = [record(600, 2), record(600, 2, { epoch: 2, fill: 3 }), record(601, 2, { sequence: 6 })];
    const last = record(700, 2, { sequence: 2 ** 40 - 1, epoch: 0xffff });
    const reassembly = new Reassembly();
    for (const { datagrams } of [...all, last]) expect(add(reassembly, datagrams[0]!)).toBeNull();
    for (const { datagrams, whole } of [...all, last]) {
      expect(add(reassembly, datagrams[1]!)?.bytes.toHex()).toBe(whole.toHex());
    }
  });

  test("a piece that contradicts the first one changes nothing", () => {
    const genuine = record(600, 2);
    const reassembly = new Reassembly();
    add(reassembly, genuine.datagrams[0]!);
    const liars = [record(601, 2), record(900, 3), record(600, 2, { type: RecordType.offload })];
    for (const { datagrams } of liars) expect(add(reassembly, datagrams[1]!)).toBeNull();
    expect(add(reassembly, genuine.datagrams[1]!)?.bytes.toHex()).toBe(genuine.whole.toHex());
  });

  test("a second copy of a piece does not overwrite the first", () => {
    const genuine = record(600, 2);
    const forged = record(600, 2, { fill: 100 });
    const reassembly = new Reassembly();
    add(reassembly, genuine.datagrams[0]!);
    add(reassembly, forged.datagrams[0]!);
    expect(add(reassembly, genuine.datagrams[1]!)?.bytes.toHex()).toBe(genuine.whole.toHex());
  });

  test("what it returns is its own copy", () => {
    const { datagrams, whole } = record(600, 2);
    const reassembly = new Reassembly();
    add(reassembly, datagrams[0]!);
    datagrams[0]!.fill(0);
    expect(add(reassembly, datagrams[1]!)?.bytes.toHex()).toBe(whole.toHex());
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

describe("Reassembly: parity", () => {
  const NEWER = record(600, 2, { sequence: 9 }).datagrams[0]!;
  const nothing = (reassembly: Reassembly) =>
    [reassembly.records, reassembly.bytes, reassembly.isRestorable] as const;

  test("any order with duplicates, one piece of each group lost: the record comes out once, as it was", () => {
    const shape = fc.record({
      pieces: fc.integer({ min: 2, max: 64 }),
      size: fc.integer({ min: 300, max: 400 }),
      less: fc.nat(200),
      groups: fc.integer({ min: 1, max: MAX_PARITY_GROUPS }),
      seed: fc.nat(),
    });
    check(
      fc.property(shape, ({ pieces, size, less, groups: most, seed }) => {
        const groups = Math.min(most, pieces);
        const { datagrams, whole, ahead } = recordWithParity(
          pieces * size - Math.min(less, pieces - 1),
          pieces,
          groups,
        );
        const random = randomSource(seed);
        // of each group a piece, the parity or nothing is lost
        const lost = new Set<Uint8Array>();
        for (let group = 0; group < groups; group++) {
          const members = [ahead[group]!, ...datagrams.filter((_, piece) => piece % groups === group)];
          const at = random(members.length + 1);
          if (at < members.length) lost.add(members[at]!);
        }
        const order = [...ahead, ...datagrams]
          .filter((datagram) => !lost.has(datagram))
          .flatMap((datagram) => (random(3) === 0 ? [datagram, datagram] : [datagram]))
          .map((datagram) => ({ datagram, turn: random(1e9) }))
          .toSorted((a, b) => a.turn - b.turn);
        const reassembly = new Reassembly();
        const out = order
          .map(({ datagram }) => add(reassembly, datagram))
          .filter((result) => result !== null);
        for (;;) {
          const result = reassembly.restore(null, 0);
          if (result === null) break;
          out.push(result);
        }
        // a late copy of a whole record's datagram begins it anew; the replay window stands before that
        const [first] = out;
        expect(first?.bytes.toHex()).toBe(whole.toHex());
        const isPieceLost = datagrams.some((datagram) => lost.has(datagram));
        if (isPieceLost) expect([first!.restored, out.length]).toEqual([true, 1]);
      }),
      100,
    );
  });

  test("two lost pieces of a group are not restored; of two groups they are", () => {
    for (const [groups, lost, restored] of [
      [1, [1, 2], false],
      [2, [1, 3], false],
      [2, [1, 2], true],
      [3, [0, 1, 2], true],
    ] as const) {
      const { datagrams, whole, ahead } = recordWithParity(2_000, 5, groups);
      const reassembly = new Reassembly();
      const arrived = datagrams.filter((_, piece) => !(lost as readonly number[]).includes(piece));
      const results = [...ahead, ...arrived].map((datagram) => add(reassembly, datagram));
      expect(results.at(-1)?.bytes.toHex()).toBe(restored ? whole.toHex() : undefined);
      expect(reassembly.isRestorable).toBe(false);
    }
  });

  test("a lost piece is restored right after the last one, and not before", () => {
    const { datagrams, whole, ahead } = recordWithParity(1_199, 4, 1);
    const reassembly = new Reassembly();
    for (const datagram of [ahead[0]!, datagrams[0]!, datagrams[2]!])
      expect(add(reassembly, datagram)).toBeNull();
    expect(reassembly.isRestorable).toBe(false);
    expect(add(reassembly, datagrams[3]!)).toEqual({
      bytes: Uint8Array.from(whole),
      from: FROM,
      restored: true,
    });
    expect(nothing(reassembly)).toEqual([0, 0, false]);
  });

  test("a lost last piece is restored when a newer record begins, or when nothing more waits", () => {
    for (const newer of [NEWER, null]) {
      const { datagrams, whole, ahead } = recordWithParity(1_199, 4, 1);
      const reassembly = new Reassembly();
      for (const datagram of [...ahead, ...datagrams.slice(0, 3)])
        expect(add(reassembly, datagram)).toBeNull();
      expect(reassembly.isRestorable).toBe(true);
      // not while its own datagrams come
      expect(reassembly.restore(datagrams[3]!, 0)).toBeNull();
      const result = reassembly.restore(newer, 0);
      expect([result?.bytes.toHex(), result?.restored]).toEqual([whole.toHex(), true]);
      expect(reassembly.restore(newer, 0)).toBeNull();
      expect(nothing(reassembly)).toEqual([0, 0, false]);
    }
  });

  test("nothing is restored of a record whose last piece comes after all", () => {
    const { datagrams, whole, ahead } = recordWithParity(1_199, 4, 1);
    const reassembly = new Reassembly();
    for (const datagram of [...ahead, ...datagrams.slice(0, 3)]) add(reassembly, datagram);
    const result = add(reassembly, datagrams[3]!);
    expect([result?.bytes.toHex(), result?.restored]).toEqual([whole.toHex(), false]);
    expect(nothing(reassembly)).toEqual([0, 0, false]);
    expect(reassembly.restore(null, 0)).toBeNull();
  });

  test("several records that can be restored: the oldest first", () => {
    const reassembly = new Reassembly();
    const all = [1, 2, 3].map((sequence) => recordWithParity(1_200, 4, 1, { sequence, fill: sequence }));
    for (const { datagrams, ahead } of all)
      for (const datagram of [...ahead, ...datagrams.slice(0, 3)]) add(reassembly, datagram);
    for (const { whole } of all) expect(reassembly.restore(NEWER, 0)?.bytes.toHex()).toBe(whole.toHex());
  });

  test("late pieces of a restored record, and late parities, begin nothing", () => {
    const { datagrams, ahead } = recordWithParity(1_200, 4, 2);
    const reassembly = new Reassembly();
    for (const datagram of [ahead[0]!, datagrams[1]!, datagrams[2]!, datagrams[3]!])
      add(reassembly, datagram);
    expect(reassembly.records).toBe(0);
    for (const late of [datagrams[0]!, ahead[1]!, ahead[0]!]) expect(add(reassembly, late)).toBeNull();
    expect(nothing(reassembly)).toEqual([0, 0, false]);
  });

  test("a parity of another number of groups than the first, or a second copy, changes nothing", () => {
    const { datagrams, whole, ahead } = recordWithParity(1_200, 4, 1);
    const liars = [
      ...recordWithParity(1_200, 4, 2, { fill: 50 }).ahead,
      ...recordWithParity(1_200, 4, 1, { fill: 50 }).ahead,
    ];
    const reassembly = new Reassembly();
    for (const datagram of [...ahead, ...liars, datagrams[0]!, datagrams[1]!])
      expect(add(reassembly, datagram)).toBeNull();
    expect(add(reassembly, datagrams[3]!)?.bytes.toHex()).toBe(whole.toHex());
  });

  test("a parity that contradicts the record's first datagram is none of its", () => {
    const { datagrams, whole } = recordWithParity(1_200, 4, 1);
    const reassembly = new Reassembly();
    add(reassembly, datagrams[0]!);
    for (const lie of [recordWithParity(1_201, 4, 1), recordWithParity(1_200, 3, 1)])
      add(reassembly, lie.ahead[0]!);
    for (const datagram of datagrams.slice(2)) expect(add(reassembly, datagram)).toBeNull();
    expect(add(reassembly, datagrams[1]!)?.bytes.toHex()).toBe(whole.toHex());
  });

  test("it comes from where its first datagram came from", () => {
    const { datagrams, ahead } = recordWithParity(1_200, 4, 1);
    const other = { host: "203.0.113.9", port: 1 };
    const reassembly = new Reassembly();
    for (const datagram of [...ahead, ...datagrams.slice(0, 3)]) add(reassembly, datagram);
    reassembly.add(datagrams[0]!, 0, datagrams[0]!.length, other, 0);
    expect(reassembly.restore(null, 0)?.from).toBe(FROM);
  });

  test("a record that came whole by another way is forgotten, and only that", () => {
    const reassembly = new Reassembly();
    for (const sequence of [1, 2]) {
      const { datagrams, ahead } = recordWithParity(1_200, 4, 1, { sequence });
      for (const datagram of [...ahead, ...datagrams.slice(0, 3)]) add(reassembly, datagram);
    }
    reassembly.discard(1, 1);
    reassembly.discard(1, 3);
    reassembly.discard(2, 2);
    expect([reassembly.records, reassembly.bytes]).toEqual([1, HEADER_BYTES + 1_200]);
    expect(reassembly.restore(null, 0)).not.toBeNull();
    expect(nothing(reassembly)).toEqual([0, 0, false]);
  });

  test("the bounds hold with parities; what expired or made room is not restored", () => {
    const reassembly = new Reassembly();
    for (let sequence = 0; sequence < 200; sequence++) {
      const { datagrams, ahead } = recordWithParity(2_400, 8, 8, { sequence });
      for (const datagram of [...ahead.slice(0, 7), ...datagrams.slice(7, 8)].slice(0, 7))
        add(reassembly, datagram);
      expect(reassembly.records).toBeLessThanOrEqual(REASSEMBLY_RECORDS);
      expect(reassembly.bytes).toBe(reassembly.records * (HEADER_BYTES + 2_400));
    }
    expect(reassembly.takeOverflowed()).toBe(200 - REASSEMBLY_RECORDS);
    const { datagrams, ahead } = recordWithParity(1_200, 4, 1, { sequence: 500 });
    for (const datagram of [...ahead, ...datagrams.slice(0, 3)]) add(reassembly, datagram);
    expect(reassembly.isRestorable).toBe(true);
    reassembly.expire(REASSEMBLY_TIMEOUT_MS);
    expect(nothing(reassembly)).toEqual([0, 0, false]);
    expect(reassembly.restore(null, 0)).toBeNull();
  });
});
