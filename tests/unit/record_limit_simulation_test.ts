/** The record limit and parity over simulated paths: what they make of loss that begins, lasts, comes in bursts and ends. */

import { describe, expect, test } from "bun:test";
import { recordLimitFor } from "../../lib/limits.ts";
import { recordDatagrams, RecordLimit } from "../../lib/record_limit.ts";
import {
  DATAGRAM_BYTES,
  datagramsOf,
  type PathOptions,
  type PathSample,
  runPath,
} from "../support/lossy_path.ts";

const MOST = datagramsOf(recordLimitFor(DATAGRAM_BYTES));

/** The samples from one time to another, in seconds. */
const during = (samples: readonly PathSample[], from: number, to: number) =>
  samples.filter(({ atSeconds }) => atSeconds >= from && atSeconds < to).map(({ datagrams }) => datagrams);
const at = (samples: readonly PathSample[], seconds: number) => samples[Math.round(seconds * 100)]!.datagrams;
/** Of the pieces sent from then on, those that the receiver never had. */
function lostShare(samples: readonly PathSample[], fromSeconds: number): number {
  const [from, to] = [samples[Math.round(fromSeconds * 100)]!, samples.at(-1)!];
  return (to.lostPieces - from.lostPieces) / (to.pieces - from.pieces);
}
/** Of the time from then on, or to then, with parity. */
function shareWithParity(samples: readonly PathSample[], fromSeconds: number, toSeconds = Infinity): number {
  const rest = samples.filter(({ atSeconds }) => atSeconds >= fromSeconds && atSeconds < toSeconds);
  return rest.filter(({ parity }) => parity).length / rest.length;
}
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
        // with parity: two datagrams must be lost to lose a record
        [0.001, 34, 44],
        [0.01, 12, 20],
        [0.03, 6, 9],
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
        // fewer packets are lost than with records of a size that would suit without parity
        const plain = 1 - (1 - loss) ** recordDatagrams(loss, 10_000);
        expect(lostShare(samples, 1.5)).toBeLessThan(plain);
      }
    }
  });

  test("loss that begins: adapted within a second; that ends: recovered within ten", () => {
    for (const seed of SEEDS) {
      // what parityDatagrams says of 3 %, and a little above it, because of two losses of a record only one is seen
      for (const [datagramsPerSecond, most] of [
        [2000, 14],
        [10_000, 12],
        [50_000, 32],
      ] as const) {
        const loss = (seconds: number) => (seconds >= 5 && seconds < 10 ? 0.03 : 0);
        const samples = runPath({ seconds: 21, datagramsPerSecond, loss, seed });
        expect(at(samples, 4.9)).toBeGreaterThan(30);
        expect(median(during(samples, 6, 10))).toBeLessThanOrEqual(most);
        expect(Math.max(...during(samples, 6, 10))).toBeLessThanOrEqual(1.25 * most);
        expect(at(samples, 20)).toBeGreaterThan(30);
        // slowly: no leap at the first clean report
        expect(at(samples, 10.5)).toBeLessThanOrEqual(2 * at(samples, 9.9));
      }
    }
  });

  // rates as they were measured of Web Crypto and of node:crypto; a deep pipeline makes every report a tenth of a second late
  test.each([
    ["a record costs much", 160_000, 45_000, false],
    ["a record costs much, the fastest that was seen", 300_000, 50_000, false],
    ["a record costs little", 250_000, 80_000, true],
  ] as const)("loss that begins at full speed and slows TCP down: %s", (_, fast, slow, cheapRecords) => {
    for (const seed of SEEDS) {
      const lossy = (seconds: number) => seconds >= 4 && seconds < 8;
      const samples = runPath({
        seconds: 18,
        datagramsPerSecond: (seconds) => (lossy(seconds) ? slow : fast),
        loss: (seconds) => (lossy(seconds) ? 0.01 : 0),
        roundTripMs: 100,
        cheapRecords,
        seed,
      });
      expect(at(samples, 3.9)).toBe(MOST);
      // one record in twenty is lost, with parity, at 31 datagrams; before the report comes nobody can know
      expect(Math.max(...during(samples, 4.9, 8))).toBeLessThanOrEqual(31);
      expect(at(samples, 17.9)).toBeGreaterThanOrEqual(0.9 * MOST);
    }
  });

  test("loss that begins is half answered after the second report", () => {
    const loss = (seconds: number) => (seconds >= 5 ? 0.03 : 0);
    for (const seed of SEEDS) {
      const samples = runPath({ seconds: 6, datagramsPerSecond: 10_000, loss, seed });
      // parity, which is tried at the first report, is the other half
      expect(at(samples, 5.25)).toBeLessThanOrEqual(MOST / 2);
      expect(samples.slice(500, 525).some(({ parity }) => parity)).toBe(true);
    }
  });

  test("a clean path gets the largest records", () => {
    expect(at(runPath({ seconds: 4, datagramsPerSecond: 10_000 }), 3)).toBe(MOST);
    expect(at(runPath({ seconds: 3, datagramsPerSecond: 100_000 }), 2)).toBe(MOST);
  });

  test("a new tunnel has the largest records within half a second of its first traffic", () => {
    for (const cheapRecords of [false, true]) {
      for (const datagramsPerSecond of [100_000, 200_000])
        expect(at(runPath({ seconds: 1, datagramsPerSecond, cheapRecords }), 0.5)).toBe(MOST);
    }
  });

  test("a trickle without loss takes nothing of the limit; loss does", () => {
    const limit = new RecordLimit(DATAGRAM_BYTES, true);
    const before = limit.limit;
    let [seen, expected] = [0, 0];
    const trickle = (lost: number, nowMs: number) => {
      for (let i = 0; i < 10; i++) limit.recordSent(1, false);
      seen += 10 - lost;
      expected += 10;
      limit.reported({ recordsSeen: seen, recordsExpected: expected, recordsRestored: 0 }, nowMs);
    };
    for (let i = 0; i < 20; i++) trickle(0, i * 500);
    expect(limit.limit).toBeGreaterThanOrEqual(before);
    for (let i = 0; i < 5; i++) trickle(5, 10_000 + i * 100);
    expect(limit.limit).toBeLessThan(before);
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
    // than those for single losses, if these had no parity
    expect(settled(10)).toBeGreaterThanOrEqual(2 * recordDatagrams(0.01, 10_000));
  });

  test("a pause is no reason to forget what the path is like", () => {
    const limit = new RecordLimit(DATAGRAM_BYTES);
    const report = (seen: number, expected: number, nowMs: number) =>
      limit.reported({ recordsSeen: seen, recordsExpected: expected, recordsRestored: 0 }, nowMs);
    for (let i = 0; i < 1010; i++) limit.recordSent(1, false);
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

describe("RecordLimit.parity over a path", () => {
  const SEEDS = [1, 2, 3];

  test.each([20, 300])(
    "single losses: it is sent, at any rate, over a round trip of %i ms",
    (roundTripMs) => {
      for (const seed of SEEDS) {
        for (const datagramsPerSecond of [2000, 10_000, 50_000]) {
          for (const loss of [0.001, 0.01, 0.03]) {
            // two losses a second, as at the least of both, are none at times: so it goes on for longer
            const seconds = loss * datagramsPerSecond < 5 ? 40 : 8;
            const options = { seconds, datagramsPerSecond, loss: () => loss, roundTripMs, seed };
            expect(shareWithParity(runPath(options), 4)).toBeGreaterThan(0.9);
          }
        }
      }
    },
  );

  test("single losses: records larger than without, of which fewer are lost; a few per cent more datagrams", () => {
    for (const seed of SEEDS) {
      for (const datagramsPerSecond of [2000, 10_000]) {
        for (const [loss, overhead] of [
          [0.001, 0.03],
          [0.01, 0.08],
          [0.03, 0.13],
        ] as const) {
          const samples = runPath({ seconds: 12, datagramsPerSecond, loss: () => loss, seed });
          const plain = recordDatagrams(loss, datagramsPerSecond);
          expect(median(during(samples, 3, 12))).toBeGreaterThan(2 * plain);
          expect(lostShare(samples, 3)).toBeLessThan(0.7 * (1 - (1 - loss) ** plain));
          const [from, to] = [samples[300]!, samples.at(-1)!];
          expect(1 - (to.pieces - from.pieces) / (to.sent - from.sent)).toBeLessThan(overhead);
        }
      }
    }
  });

  test("bursts of ten, which it does not help: it is sent for a tenth of the time, a quarter before it is known", () => {
    for (const seed of SEEDS) {
      for (const loss of [0.01, 0.03]) {
        const options = { seconds: 60, datagramsPerSecond: 10_000, loss: () => loss, burst: 10, seed };
        const samples = runPath(options);
        expect(shareWithParity(samples, 0, 20)).toBeLessThan(0.25);
        expect(shareWithParity(samples, 20)).toBeLessThan(0.11);
      }
    }
  });

  test("loss of a full queue, one datagram in two thousand and fewer: mostly without", () => {
    for (const seed of SEEDS) {
      for (const loss of [0.000_05, 0.0001, 0.0002]) {
        const samples = runPath({ seconds: 20, datagramsPerSecond: 10_000, loss: () => loss, seed });
        expect(shareWithParity(samples, 3)).toBeLessThan(0.2);
      }
    }
  });

  test("a clean path: never; a path that got well: no more after some seconds", () => {
    expect(shareWithParity(runPath({ seconds: 5, datagramsPerSecond: 10_000 }), 0)).toBe(0);
    for (const seed of SEEDS) {
      const loss = (seconds: number) => (seconds < 5 ? 0.01 : 0);
      const samples = runPath({ seconds: 20, datagramsPerSecond: 10_000, loss, seed });
      expect(shareWithParity(samples.slice(0, 500), 2)).toBe(1);
      expect(shareWithParity(samples, 15)).toBe(0);
    }
  });
});
