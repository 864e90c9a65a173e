/** The record limit: its rule, its estimate over simulated paths, and reports that lie. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { MAX_MTU_BYTES, recordLimitFor, TAG_BYTES } from "../../lib/limits.ts";
import { piecesFor } from "../../lib/protocol.ts";
import { recordDatagrams, RecordLimit } from "../../lib/record_limit.ts";
import {
  DATAGRAM_BYTES,
  datagramsOf,
  type PathOptions,
  type PathSample,
  runPath,
} from "../support/lossy_path.ts";
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

describe("RecordLimit.limit", () => {
  test("lies between one full datagram and the largest record, and fills its datagrams", () => {
    check(
      fc.property(
        fc.integer({ min: 608, max: MAX_MTU_BYTES + 32 }),
        fc.array(fc.tuple(fc.nat(300), fc.nat(300), fc.nat(2000)), { maxLength: 60 }),
        (maxDatagramBytes, steps) => {
          const limit = new RecordLimit(maxDatagramBytes);
          let [seen, expected, nowMs] = [0, 0, 0];
          for (const [arrived, lost, elapsedMs] of steps) {
            for (let i = 0; i < arrived + lost; i++) limit.recordSent(1 + (i % 45));
            limit.reported(
              { recordsSeen: (seen += arrived), recordsExpected: (expected += arrived + lost) },
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

  test("follows the size of a datagram at once", () => {
    const limit = new RecordLimit(1452);
    const before = limit.limit;
    limit.setMaxDatagramBytes(1232);
    expect((limit.limit + 16) / (1232 - 16)).toBe((before + 16) / (1452 - 16));
  });
});

/** The samples from one time to another, in seconds. */
const during = (samples: readonly PathSample[], from: number, to: number) =>
  samples.filter(({ atSeconds }) => atSeconds >= from && atSeconds < to).map(({ datagrams }) => datagrams);
const at = (samples: readonly PathSample[], seconds: number) => samples[Math.round(seconds * 100)]!.datagrams;
const median = (values: readonly number[]) => values.toSorted((a, b) => a - b)[values.length >> 1]!;

describe("RecordLimit over a path", () => {
  const SEEDS = [1, 2, 3, 4, 5];

  test.each([
    ["nothing else", {}],
    ["mostly small records", { smallShare: 0.8 }],
    ["all records small", { smallShare: 1 }],
    ["reordering and duplicates", { reorderShare: 0.1, reorderMs: 10, duplicateShare: 0.1 }],
    ["half of the reports lost", { reportLoss: 0.5 }],
    ["a long round trip", { roundTripMs: 300 }],
  ] satisfies [string, Partial<PathOptions>][])("0.1, 1 and 3 %% of random loss, %s", (_, options) => {
    for (const seed of SEEDS) {
      for (const [loss, least, most] of [
        [0.001, 7, 28],
        [0.01, 2, 6],
        [0.03, 1, 3],
      ] as const) {
        const samples = runPath({
          seconds: 6,
          datagramsPerSecond: 10_000,
          loss: () => loss,
          seed,
          ...options,
        });
        const settled = during(samples, 1.5, 6);
        expect(median(settled)).toBeGreaterThanOrEqual(least);
        expect(median(settled)).toBeLessThanOrEqual(most);
        for (const datagrams of settled) expect(datagrams * loss).toBeLessThan(0.15);
      }
    }
  });

  test("loss that begins: adapted within a second; that ends: recovered within ten", () => {
    for (const seed of SEEDS) {
      for (const datagramsPerSecond of [2000, 10_000, 50_000]) {
        const loss = (seconds: number) => (seconds >= 5 && seconds < 10 ? 0.03 : 0);
        const samples = runPath({ seconds: 21, datagramsPerSecond, loss, seed });
        expect(at(samples, 4.9)).toBeGreaterThan(30);
        expect(median(during(samples, 6, 10))).toBeLessThanOrEqual(3);
        expect(Math.max(...during(samples, 6, 10))).toBeLessThanOrEqual(5);
        expect(at(samples, 20)).toBeGreaterThan(30);
        // slowly: no leap at the first clean report
        expect(at(samples, 10.5)).toBeLessThanOrEqual(6);
      }
    }
  });

  test("loss that begins is half answered after the second report", () => {
    const loss = (seconds: number) => (seconds >= 5 ? 0.03 : 0);
    for (const seed of SEEDS) {
      expect(at(runPath({ seconds: 6, datagramsPerSecond: 10_000, loss, seed }), 5.25)).toBeLessThanOrEqual(
        5,
      );
    }
  });

  test("a clean path gets the largest records", () => {
    expect(at(runPath({ seconds: 4, datagramsPerSecond: 10_000 }), 3)).toBe(MOST);
    expect(at(runPath({ seconds: 3, datagramsPerSecond: 100_000 }), 2)).toBe(MOST);
  });

  test("a single lost record on a clean path takes a little of the limit, and for a second", () => {
    for (const [datagramsPerSecond, least] of [
      [10_000, 30],
      [50_000, MOST],
    ] as const) {
      let lost = false;
      const loss = (seconds: number) => {
        if (seconds < 4 || lost) return 0;
        lost = true;
        return 1;
      };
      const samples = runPath({ seconds: 6, datagramsPerSecond, loss });
      expect(Math.min(...during(samples, 4, 6))).toBeGreaterThanOrEqual(least);
      expect(at(samples, 5.5)).toBe(MOST);
    }
  });

  test("reordering alone is not loss for long", () => {
    const options = { seconds: 8, datagramsPerSecond: 10_000, reorderShare: 0.1, reorderMs: 10 };
    for (const seed of SEEDS) expect(median(during(runPath({ ...options, seed }), 3, 8))).toBeGreaterThan(30);
  });

  test("losses that come in bursts cost fewer records, so records may be larger", () => {
    const options = { seconds: 6, datagramsPerSecond: 10_000, loss: () => 0.01 };
    const settled = (burst: number) => median(during(runPath({ ...options, burst }), 2, 6));
    expect(settled(10)).toBeGreaterThanOrEqual(2 * settled(1));
  });

  test("a pause is no reason to forget what the path is like", () => {
    const limit = new RecordLimit(DATAGRAM_BYTES);
    const report = (seen: number, expected: number, nowMs: number) =>
      limit.reported({ recordsSeen: seen, recordsExpected: expected }, nowMs);
    for (let i = 0; i < 1010; i++) limit.recordSent(1);
    report(950, 1000, 1000);
    const before = datagramsOf(limit.limit);
    report(960, 1010, 61_000);
    expect(datagramsOf(limit.limit)).toBeLessThanOrEqual(before + 1);
  });

  test("the reports of an idle session, and of a busy one", () => {
    expect(runPath({ seconds: 3, datagramsPerSecond: 0 }).at(-1)!.reports).toBe(0);
    const busy = runPath({ seconds: 10, datagramsPerSecond: 50_000, loss: () => 0.01 });
    expect(busy.at(-1)!.reports).toBeLessThanOrEqual(100);
  });

  test("what a busy receiver dropped does not shrink the records", () => {
    const samples = runPath({ seconds: 4, datagramsPerSecond: 10_000, loss: () => 0.3, overloaded: true });
    expect(at(samples, 3.9)).toBe(at(samples, 0));
  });

  test("tells the loss of datagrams", () => {
    for (const loss of [0.01, 0.03]) {
      const samples = runPath({ seconds: 5, datagramsPerSecond: 10_000, loss: () => loss });
      expect(samples.at(-1)!.loss).toBeGreaterThan(loss * 0.6);
      expect(samples.at(-1)!.loss).toBeLessThan(loss * 1.4);
    }
  });
});

describe("RecordLimit.reported", () => {
  const report = (recordsSeen: number, recordsExpected: number) => ({ recordsSeen, recordsExpected });
  const sending = (records: number, datagrams = 1) => {
    const limit = new RecordLimit(DATAGRAM_BYTES);
    for (let i = 0; i < records; i++) limit.recordSent(datagrams);
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
        for (let n = 0; n < 100; n++) limit.recordSent(1);
        if (limit.reported(report(began + i * 50, began + i * 100), i * 100)) taken++;
      }
      expect(taken).toBeGreaterThan(20);
      expect(limit.loss).toBeGreaterThan(0.25);
    }
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
    for (let i = 0; i < 1000; i++) limit.recordSent(1);
    limit.reported(report(50, 100), 100);
    // 50 lost of 4,000 datagrams, not of 50 or of 100
    expect(limit.loss).toBeGreaterThan(50 / 4400);
    expect(limit.loss).toBeLessThan(50 / 2000);
  });

  test("any reports: the limit stays within its bounds", () => {
    const counts = fc.tuple(fc.oneof(fc.nat(3000), fc.maxSafeNat()), fc.oneof(fc.nat(3000), fc.maxSafeNat()));
    check(
      fc.property(fc.array(fc.tuple(counts, fc.boolean(), fc.integer()), { maxLength: 100 }), (reports) => {
        const limit = sending(2000, 7);
        for (const [[seen, expected], overloaded, nowMs] of reports) {
          limit.reported({ recordsSeen: seen, recordsExpected: expected, overloaded }, nowMs);
          limit.recordSent(3);
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
