/** The record limit: its rule, and reports that lie; see record_limit_simulation_test.ts for its estimate. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_MTU_BYTES, MAX_PIECES, recordLimitFor, TAG_BYTES } from "../../lib/limits.ts";
import { MAX_PARITY_GROUPS, piecesFor } from "../../lib/protocol.ts";
import { parityDatagrams, parityGroups, recordDatagrams, RecordLimit } from "../../lib/record_limit.ts";
import { DATAGRAM_BYTES, datagramsOf } from "../support/lossy_path.ts";
import { check } from "../support/property.ts";
import { goodput } from "../support/tcp_rounds.ts";

const MOST = datagramsOf(recordLimitFor(DATAGRAM_BYTES));

describe("recordDatagrams", () => {
  const loss = fc.double({ min: 0, max: 1, noNaN: true });
  const rate = fc.double({ min: 0, max: 1e7, noNaN: true });

  test("is at least 1, and more only where less than a tenth of the records is lost", () => {
    check(
      fc.property(loss, rate, (p, perSecond) => {
        const datagrams = Math.floor(recordDatagrams(p, perSecond));
        expect(datagrams).toBeGreaterThanOrEqual(1);
        if (datagrams > 1 && p > 0) expect(datagrams * p).toBeLessThanOrEqual(0.1 + 1e-9);
      }),
      2000,
    );
  });

  test("never grows with the loss, never shrinks with the rate", () => {
    check(
      fc.property(loss, loss, rate, rate, (p, q, r, s) => {
        const [low, high] = [Math.min(p, q), Math.max(p, q)];
        expect(recordDatagrams(low, r)).toBeGreaterThanOrEqual(recordDatagrams(high, r));
        expect(recordDatagrams(p, Math.min(r, s))).toBeLessThanOrEqual(recordDatagrams(p, Math.max(r, s)));
      }),
    );
  });

  // Of the best record size the rule gets 0.84 to 1.0, n * p = 0.1 gets 0.63 to 1.0, the largest records 0.44 to 0.9.
  test.each([
    [1, 300, 0.01],
    [1, 300, 0.03],
    [8, 2000, 0.003],
    [8, 2000, 0.01],
    [8, 20_000, 0.003],
  ] as const)(
    "gives TCP most of what the best record size would: %i flows, %i us, loss %f",
    (flows, roundTripUs, loss) => {
      const mean = (datagrams: number) =>
        [1, 2].reduce(
          (sum, seed) => sum + goodput({ loss, roundTripUs, flows, datagrams, seconds: 1, seed }) / 2,
          0,
        );
      const best = Math.max(...[1, 2, 4, 8, 16, MOST].map(mean));
      let reached = 0;
      for (let i = 0; i < 2; i++) reached = mean(Math.min(MOST, Math.floor(recordDatagrams(loss, reached))));
      expect(reached / best).toBeGreaterThan(0.8);
    },
  );
});

describe("parityDatagrams, parityGroups", () => {
  const loss = fc.double({ min: 1e-9, max: 1, noNaN: true });
  const rate = fc.double({ min: 0, max: 1e7, noNaN: true });

  test("never grows with the loss, never shrinks with the rate, is at least 1", () => {
    check(
      fc.property(loss, loss, rate, rate, (p, q, r, s) => {
        const [low, high] = [Math.min(p, q), Math.max(p, q)];
        expect(parityDatagrams(low, r)).toBeGreaterThanOrEqual(parityDatagrams(high, r));
        expect(parityDatagrams(p, Math.min(r, s))).toBeLessThanOrEqual(parityDatagrams(p, Math.max(r, s)));
        expect(parityDatagrams(p, r)).toBeGreaterThanOrEqual(1);
      }),
    );
  });

  test("where calls do not count, fewer records are lost than without parity, though they are larger", () => {
    for (const p of [0.001, 0.003, 0.01, 0.03]) {
      const [plain, datagrams] = [recordDatagrams(p, 0), Math.min(MOST, Math.floor(parityDatagrams(p, 0)))];
      const kept = (1 - p) ** (datagrams + 1) + (datagrams + 1) * p * (1 - p) ** datagrams;
      expect(datagrams).toBeGreaterThan(plain);
      expect(1 - kept).toBeLessThan(1 - (1 - p) ** plain);
    }
  });

  test("no group or one to eight, never more than pieces, never fewer with more loss", () => {
    check(
      fc.property(loss, loss, fc.integer({ min: 1, max: MAX_PIECES }), (p, q, pieces) => {
        const groups = parityGroups(Math.min(p, q), pieces);
        expect(groups).toBeWithin(0, Math.min(MAX_PARITY_GROUPS, pieces) + 1);
        expect(parityGroups(Math.max(p, q), pieces)).toBeGreaterThanOrEqual(groups);
      }),
    );
  });

  test("none where one datagram of the record is more than twice the root of loss", () => {
    // the full queue of a narrow path loses one datagram in two thousand, a bad radio link one in a hundred
    expect(parityGroups(0.0005, 22)).toBe(0);
    expect(parityGroups(0.0005, 23)).toBe(1);
    expect(parityGroups(0.01, 4)).toBe(0);
    expect(parityGroups(0.01, 6)).toBe(1);
    expect(parityGroups(0, MAX_PIECES)).toBe(0);
  });

  test("records as large as parity allows have it, at any loss and rate", () => {
    check(
      fc.property(fc.double({ min: 4e-4, max: 0.2, noNaN: true }), rate, (p, perSecond) => {
        const pieces = Math.min(MOST, Math.floor(parityDatagrams(p, perSecond)));
        if (pieces > 1) expect(parityGroups(p, pieces)).toBeGreaterThan(0);
      }),
    );
  });
});

describe("RecordLimit.limit", () => {
  test("lies between one full datagram and the largest record, and fills its datagrams", () => {
    check(
      fc.property(
        fc.integer({ min: 608, max: MAX_MTU_BYTES + 32 }),
        fc.array(fc.tuple(fc.nat(300), fc.nat(300), fc.nat(300), fc.nat(2000)), { maxLength: 60 }),
        (maxDatagramBytes, steps) => {
          const limit = new RecordLimit(maxDatagramBytes);
          let [seen, expected, restored, nowMs] = [0, 0, 0, 0];
          for (const [arrived, lost, hit, elapsedMs] of steps) {
            for (let i = 0; i < arrived + lost; i++) limit.recordSent(1 + (i % 45), limit.parity);
            limit.reported(
              {
                recordsSeen: (seen += arrived),
                recordsExpected: (expected += arrived + lost),
                recordsRestored: (restored += Math.min(hit, arrived)),
              },
              (nowMs += elapsedMs),
            );
            expect(limit.limit).toBeGreaterThanOrEqual(maxDatagramBytes - 32);
            expect(limit.limit).toBeLessThanOrEqual(recordLimitFor(maxDatagramBytes));
            const pieces = piecesFor(limit.limit + TAG_BYTES, maxDatagramBytes);
            const fills = limit.limit + TAG_BYTES === pieces * (maxDatagramBytes - 16);
            expect(fills || limit.limit === recordLimitFor(maxDatagramBytes)).toBe(true);
          }
        },
      ),
    );
  });

  test("is a full datagram at least, also where few datagrams fit one send and the parities would fill it", () => {
    for (const maxDatagramBytes of [1452, 4000, 8_188, 9_032]) {
      const limit = new RecordLimit(maxDatagramBytes);
      let [seen, expected] = [0, 0];
      for (let i = 1; i <= 100; i++) {
        for (let n = 0; n < 100; n++) limit.recordSent(2, limit.parity);
        limit.reported(
          { recordsSeen: (seen += 100), recordsExpected: (expected += 100), recordsRestored: seen },
          i * 100,
        );
        expect(limit.limit).toBeGreaterThanOrEqual(maxDatagramBytes - 32);
      }
      expect(limit.parity).toBe(true);
    }
  });

  test("follows the size of a datagram at once", () => {
    const limit = new RecordLimit(1452);
    const before = limit.limit;
    limit.setMaxDatagramBytes(1232);
    expect((limit.limit + 16) / (1232 - 16)).toBe((before + 16) / (1452 - 16));
  });
});

describe("RecordLimit.reported", () => {
  const report = (recordsSeen: number, recordsExpected: number, recordsRestored = 0) => ({
    recordsSeen,
    recordsExpected,
    recordsRestored,
  });
  const sending = (records: number, datagrams = 1) => {
    const limit = new RecordLimit(DATAGRAM_BYTES);
    for (let i = 0; i < records; i++) limit.recordSent(datagrams, false);
    return limit;
  };

  test("a peer that reports everything lost gets single datagrams, not nothing", () => {
    const limit = sending(100_000);
    for (let i = 1; i <= 100; i++) expect(limit.reported(report(0, i * 1000), i * 100)).toBe(true);
    expect(limit.limit).toBe(DATAGRAM_BYTES - 32);
  });

  test("ignores a report of what was not sent yet", () => {
    const limit = sending(100);
    const before = limit.limit;
    expect(limit.reported(report(1, 101), 0)).toBe(false);
    expect(limit.reported(report(0, 2 ** 53 - 1), 0)).toBe(false);
    expect(limit.limit).toBe(before);
    expect(limit.reported(report(100, 100), 0)).toBe(true);
  });

  test("ignores a report that goes backwards, and one that saw more than was sent", () => {
    const limit = sending(1000);
    limit.reported(report(500, 510), 0);
    const before = limit.limit;
    expect(limit.reported(report(400, 509), 100)).toBe(false);
    expect(limit.reported(report(499, 600), 100)).toBe(false);
    expect(limit.reported(report(0, 0), 100)).toBe(false);
    expect(limit.reported(report(601, 600), 100)).toBe(false);
    expect(limit.limit).toBe(before);
    expect(limit.reported(report(600, 610), 200)).toBe(true);
  });

  test("a receiver that began to count anew is understood after a while", () => {
    for (const began of [0, 1e6]) {
      const limit = sending(5000);
      limit.reported(report(5000, 5000), 0);
      let taken = 0;
      for (let i = 1; i <= 40; i++) {
        for (let n = 0; n < 100; n++) limit.recordSent(1, false);
        if (limit.reported(report(began + i * 50, began + i * 100), i * 100)) taken++;
      }
      expect(taken).toBeGreaterThan(20);
      expect(limit.loss).toBeGreaterThan(0.25);
    }
  });

  test("refuses more restored than seen, fewer than before, and more new ones than newly seen", () => {
    const limit = sending(1000);
    expect(limit.reported(report(100, 100, 101), 0)).toBe(false);
    expect(limit.reported(report(100, 100, 20), 0)).toBe(true);
    expect(limit.reported(report(200, 200, 19), 100)).toBe(false);
    expect(limit.reported(report(200, 200, 121), 100)).toBe(false);
    expect(limit.loss).toBe(0.2);
    expect(limit.reported(report(200, 200, 120), 100)).toBe(true);
  });

  test("a peer that reports everything restored costs no more than small records and their parity", () => {
    const limit = sending(100_000);
    for (let i = 1; i <= 100; i++)
      expect(limit.reported(report(i * 1000, i * 1000, i * 1000), i * 100)).toBe(true);
    expect(limit.parity).toBe(true);
    expect(limit.loss).toBe(1);
    expect(datagramsOf(limit.limit)).toBe(1);
    // and it is believed no longer than it says so
    for (let n = 0; n < 200_000; n++) limit.recordSent(1, false);
    for (let i = 1; i <= 100; i++) limit.reported(report(1e5 + i * 2000, 1e5 + i * 2000, 1e5), 1e4 + i * 200);
    expect(limit.parity).toBe(false);
    expect(datagramsOf(limit.limit)).toBe(MOST);
  });

  test("a peer that restores nothing of what had parity gets none for a while", () => {
    const limit = sending(1000);
    limit.reported(report(900, 1000), 0);
    expect(limit.parity).toBe(true);
    for (let i = 0; i < 1000; i++) limit.recordSent(5, true);
    limit.reported(report(1800, 2000), 100);
    expect(limit.parity).toBe(false);
    for (let i = 0; i < 1000; i++) limit.recordSent(5, false);
    limit.reported(report(2700, 3000), 1_000);
    expect(limit.parity).toBe(false);
  });

  test("what was lost of records without parity is not held against it, however late the report", () => {
    const limit = sending(1000);
    limit.reported(report(90, 100), 0);
    expect(limit.parity).toBe(true);
    for (let i = 0; i < 1000; i++) limit.recordSent(5, true);
    for (let i = 2; i <= 10; i++) limit.reported(report(i * 90, i * 100), i * 100);
    expect(limit.parity).toBe(true);
  });

  test("takes back what was only late", () => {
    const limit = sending(2000);
    limit.reported(report(900, 1000), 0);
    expect(limit.loss).toBeCloseTo(0.1);
    limit.reported(report(2000, 2000), 10);
    expect(limit.loss).toBe(0);
  });

  test("knows how many datagrams the lost records had after the records became smaller", () => {
    const limit = sending(100, 40);
    limit.reported(report(50, 50), 0);
    for (let i = 0; i < 1000; i++) limit.recordSent(1, false);
    limit.reported(report(90, 100), 100);
    // 10 lost of 4,000 datagrams, and one for a record that lost two, not of 50 or of 100
    expect(limit.loss).toBeGreaterThan(10 / 4400);
    expect(limit.loss).toBeLessThan(12 / 4000 + 1e-4);
  });

  test("of records of many datagrams some lost several, of single datagrams none", () => {
    // at 3 % of loss 46 % of the records of 20 lose something, and their 2,000 datagrams are 60 short
    const large = sending(100, 20);
    large.reported(report(54, 100), 0);
    expect(large.loss).toBeCloseTo(0.03, 2);
    const single = sending(100);
    single.reported(report(54, 100), 0);
    expect(single.loss).toBe(0.46);
    // nothing arrives: how much is lost cannot be told from so few records, but it is no more than all
    const dead = sending(100, 20);
    dead.reported(report(0, 100), 0);
    expect(dead.loss).toBeWithin(0.1, 1.01);
  });

  test("any reports: the limit stays within its bounds", () => {
    const count = fc.oneof(fc.nat(3000), fc.maxSafeNat());
    const counts = fc.tuple(count, count, fc.oneof(fc.nat(10), count));
    check(
      fc.property(fc.array(fc.tuple(counts, fc.boolean(), fc.integer()), { maxLength: 100 }), (reports) => {
        const limit = sending(2000, 7);
        for (const [[seen, expected, restored], overloaded, nowMs] of reports) {
          limit.reported({ ...report(seen, expected, restored), overloaded }, nowMs);
          limit.recordSent(3, limit.parity);
          expect(limit.limit).toBeGreaterThanOrEqual(DATAGRAM_BYTES - 32);
          expect(limit.limit).toBeLessThanOrEqual(recordLimitFor(DATAGRAM_BYTES));
          expect(limit.loss).toBeGreaterThanOrEqual(0);
          expect(limit.loss).toBeLessThanOrEqual(1);
        }
      }),
      500,
    );
  });
});

test("loss that begins at full speed is seen at once, though TCP slows down to a hundredth of the datagrams", () => {
  const limit = new RecordLimit(DATAGRAM_BYTES);
  let [nowMs, recordsSeen, recordsExpected] = [0, 0, 0];
  /** 100 ms of records of one datagram, of which so many are lost. */
  const tenth = (records: number, lost: number): void => {
    for (let i = 0; i < records; i++) limit.recordSent(1, false);
    recordsExpected += records;
    recordsSeen += records - lost;
    nowMs += 100;
    expect(limit.reported({ recordsSeen, recordsExpected, recordsRestored: 0 }, nowMs)).toBe(true);
  };
  for (let i = 0; i < 50; i++) tenth(25_000, 0);
  expect(limit.lossNow).toBeLessThan(1e-5);
  tenth(250, 4);
  tenth(250, 4);
  tenth(250, 4);
  // of what was sent in the last second hardly one in ten thousand is lost, of what is sent now one in sixty
  expect(limit.loss).toBeLessThan(2e-4);
  expect(limit.lossNow).toBeGreaterThan(0.005);
  expect(limit.parity).toBe(true);
  for (let i = 0; i < 8; i++) tenth(25_000, 0);
  expect(limit.lossNow).toBeLessThan(2e-4);
});
