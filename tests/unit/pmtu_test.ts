/** Path MTU discovery, step by step: what is sent, what follows from each answer, and that nonsense moves nothing. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  PMTU_BASE_BYTES,
  PMTU_CONFIRM_MS,
  PMTU_ERROR_RAISE_MS,
  PMTU_MIN_BYTES,
  PMTU_PROBES,
  PMTU_RAISE_MS,
} from "../../lib/limits.ts";
import { Pmtu, type PmtuProbe } from "../../lib/pmtu.ts";
import { check } from "../support/property.ts";

const MAX = 1452;

/** A machine on a path that carries up to `pathBytes` and answers 10 ms later; time runs only here. */
class Bench {
  readonly pmtu: Pmtu;
  nowMs = 1000;
  pathBytes: number;
  readonly sent: PmtuProbe[] = [];
  /** The path neither carries probes nor answers while it is down. */
  up = true;

  constructor(pathBytes: number, maxBytes = MAX) {
    this.pmtu = new Pmtu(maxBytes, this.nowMs);
    this.pathBytes = pathBytes;
  }

  /** Polls as if a tick came every 10 ms, and answers what arrives. */
  run(forMs: number, sending = false): this {
    const endMs = this.nowMs + forMs;
    while (this.nowMs < endMs) {
      if (sending) this.pmtu.sent(this.pmtu.maxDatagramBytes, this.nowMs);
      const probes = this.pmtu.poll(this.nowMs);
      this.sent.push(...probes);
      this.nowMs += 10;
      if (!this.up) continue;
      for (const probe of probes) {
        if (probe.datagramBytes <= this.pathBytes) this.pmtu.acked(probe.number, this.nowMs);
      }
    }
    return this;
  }

  /** Sizes of the probes sent since the last call. */
  takeSizes(): number[] {
    return this.sent.splice(0).map((probe) => probe.datagramBytes);
  }

  get view(): [string, number] {
    return [this.pmtu.state, this.pmtu.maxDatagramBytes];
  }
}

describe("the first search", () => {
  test("begins at the base size, and one round trip later the largest size holds", () => {
    const bench = new Bench(MAX);
    expect(bench.view).toEqual(["base", PMTU_BASE_BYTES]);
    bench.run(20);
    expect(bench.view).toEqual(["complete", MAX]);
    expect(bench.takeSizes()).toEqual([MAX, PMTU_BASE_BYTES]);
  });

  test("halves the range down to a few bytes, and doubts its end once", () => {
    const bench = new Bench(1272).run(60_000);
    expect(bench.pmtu.state).toBe("complete");
    expect(bench.pmtu.maxDatagramBytes).toBeWithin(1265, 1273);
    const counts = Map.groupBy(bench.takeSizes(), (size) => size);
    const refused = [...counts.keys()].filter((size) => size > 1272);
    const smallest = Math.min(...refused);
    for (const size of refused) {
      expect(counts.get(size)!.length).toBeWithin(
        PMTU_PROBES,
        (size === smallest ? 2 : 1) * (PMTU_PROBES + 2) + 1,
      );
    }
  });

  test("any path between the smallest and the largest size is found exactly enough, and stays found", () => {
    const sizes = fc.integer({ min: PMTU_MIN_BYTES, max: 9000 });
    check(
      fc.property(sizes, sizes, (a, b) => {
        const [path, max] = [Math.min(a, b), Math.max(a, b)];
        const bench = new Bench(path, max).run(30_000, true);
        expect(bench.pmtu.maxDatagramBytes).toBeWithin(
          Math.max(path - 8, Math.min(PMTU_MIN_BYTES, max)),
          path + 1,
        );
        expect(bench.pmtu.state).toBe(
          bench.pmtu.maxDatagramBytes < Math.min(PMTU_BASE_BYTES, max) ? "error" : "complete",
        );
      }),
      50,
    );
  });

  test("a path that carries not even the base size: state error, a smaller size, and soon another try", () => {
    const bench = new Bench(900).run(30_000);
    expect(bench.pmtu.state).toBe("error");
    expect(bench.pmtu.maxDatagramBytes).toBeWithin(892, 901);
    bench.pathBytes = MAX;
    bench.run(PMTU_ERROR_RAISE_MS);
    expect(bench.view).toEqual(["complete", MAX]);
  });

  test("largest sizes below the base or the smallest size", () => {
    for (const max of [200, PMTU_MIN_BYTES, 700, PMTU_BASE_BYTES]) {
      const bench = new Bench(max, max);
      expect(bench.pmtu.maxDatagramBytes).toBe(max);
      expect(bench.run(20).view).toEqual(["complete", max]);
    }
  });

  test("while nobody answers, the base size stays and probes become rare", () => {
    const bench = new Bench(MAX);
    bench.up = false;
    bench.run(5_000).takeSizes();
    bench.run(60_000);
    expect(bench.view).toEqual(["base", PMTU_BASE_BYTES]);
    expect(bench.takeSizes().length).toBeLessThanOrEqual(31 * 3);
    bench.up = true;
    expect(bench.run(2_100).view).toEqual(["complete", MAX]);
  });
});

describe("after the search", () => {
  test("an idle path is left alone for the raise time, then the largest size is tried again", () => {
    const bench = new Bench(1400).run(30_000);
    bench.takeSizes();
    expect(bench.pmtu.dueAt()).toBeGreaterThan(bench.nowMs + PMTU_RAISE_MS - 30_000);
    bench.pathBytes = MAX;
    bench.run(PMTU_RAISE_MS - 30_000);
    expect(bench.takeSizes()).toEqual([]);
    bench.run(30_000);
    expect(bench.view).toEqual(["complete", MAX]);
    expect(bench.takeSizes()).toEqual([MAX]);
  });

  test("while full-size datagrams leave, one probe a second confirms them; small ones need none", () => {
    const bench = new Bench(MAX).run(100);
    bench.takeSizes();
    bench.run(10 * PMTU_CONFIRM_MS, true);
    const sizes = bench.takeSizes();
    expect(sizes.length).toBeWithin(9, 11);
    expect(new Set(sizes)).toEqual(new Set([MAX]));
    bench.run(20);
    bench.takeSizes();
    bench.pmtu.sent(PMTU_BASE_BYTES, bench.nowMs);
    bench.run(10 * PMTU_CONFIRM_MS);
    expect(bench.takeSizes().length).toBeLessThanOrEqual(1);
  });

  test("a black hole is found, the new size searched, and its probes are not counted as congestion", () => {
    const bench = new Bench(MAX).run(5_000, true);
    bench.takeSizes();
    bench.pathBytes = 1272;
    const holeMs = bench.nowMs;
    while (bench.pmtu.maxDatagramBytes > 1272) bench.run(10, true);
    expect(bench.nowMs - holeMs).toBeLessThan(2_000);
    expect(bench.pmtu.maxDatagramBytes).toBe(PMTU_BASE_BYTES);
    expect(bench.pmtu.oversizedProbes).toBeWithin(PMTU_PROBES, PMTU_PROBES + 3);
    bench.run(10_000, true);
    expect(bench.pmtu.state).toBe("complete");
    expect(bench.pmtu.maxDatagramBytes).toBeWithin(1265, 1273);
    const lost = bench.sent.filter((probe) => probe.datagramBytes > 1272).length;
    expect(bench.pmtu.oversizedProbes).toBe(lost);
  });

  test("on a hint, a black hole is found without waiting for the next confirmation", () => {
    const bench = new Bench(MAX).run(5_000, true);
    bench.pathBytes = 1272;
    bench.run(300);
    const holeMs = bench.nowMs;
    bench.pmtu.suspect(bench.nowMs);
    while (bench.pmtu.maxDatagramBytes > 1272) bench.run(10);
    expect(bench.nowMs - holeMs).toBeLessThan(600);
  });

  test("hints without a black hole cost a few probes and change nothing", () => {
    const bench = new Bench(MAX).run(5_000);
    bench.takeSizes();
    for (let i = 0; i < 100; i++) {
      bench.pmtu.suspect(bench.nowMs);
      bench.run(10);
    }
    expect(bench.view).toEqual(["complete", MAX]);
    expect(bench.takeSizes().length).toBeLessThanOrEqual(10);
  });

  test("a hole below the base size is found, too", () => {
    const bench = new Bench(MAX).run(5_000, true);
    bench.pathBytes = 1000;
    const holeMs = bench.nowMs;
    while (bench.pmtu.maxDatagramBytes > 1000) bench.run(10, true);
    expect(bench.nowMs - holeMs).toBeLessThan(3_000);
    expect(bench.view).toEqual(["error", PMTU_MIN_BYTES]);
  });

  test("an outage changes nothing, however long", () => {
    const bench = new Bench(MAX).run(5_000, true);
    bench.up = false;
    bench.run(60_000, true);
    expect(bench.view).toEqual(["complete", MAX]);
    bench.up = true;
    bench.run(5_000, true);
    expect(bench.view).toEqual(["complete", MAX]);
    expect(bench.pmtu.oversizedProbes).toBe(0);
  });

  test("a wider path is not noticed before the raise time, a moved one at once", () => {
    const bench = new Bench(1272).run(30_000);
    bench.pathBytes = MAX;
    bench.run(30_000, true);
    expect(bench.pmtu.maxDatagramBytes).toBeLessThanOrEqual(1272);
    bench.pmtu.moved(bench.nowMs);
    expect(bench.view).toEqual(["base", PMTU_BASE_BYTES]);
    expect(bench.run(20).view).toEqual(["complete", MAX]);
  });
});

describe("moved", () => {
  test("answers from the old path do not count", () => {
    const bench = new Bench(MAX);
    const probes = bench.pmtu.poll(bench.nowMs);
    bench.pmtu.moved(bench.nowMs);
    for (const probe of probes) bench.pmtu.acked(probe.number, bench.nowMs);
    expect(bench.view).toEqual(["base", PMTU_BASE_BYTES]);
  });

  test("takes a new largest size", () => {
    const bench = new Bench(9000).run(20);
    bench.pmtu.moved(bench.nowMs, 1472);
    expect(bench.run(20).view).toEqual(["complete", 1472]);
  });
});

describe("tooBig", () => {
  test("the size in use falls at once, and what the kernel refused is not tried again", () => {
    const bench = new Bench(MAX).run(5_000);
    bench.takeSizes();
    bench.pathBytes = 1272;
    bench.pmtu.tooBig(MAX, bench.nowMs);
    expect(bench.view).toEqual(["search", PMTU_BASE_BYTES]);
    bench.run(30_000);
    expect(bench.pmtu.maxDatagramBytes).toBeWithin(1265, 1273);
    expect(bench.takeSizes()).not.toContain(MAX);
  });

  test("for every probe that the kernel refuses the next one is due at once", () => {
    const pmtu = new Pmtu(MAX, 0);
    let rounds = 0;
    for (; pmtu.state !== "complete" && rounds < 50; rounds++) {
      for (const probe of pmtu.poll(1)) {
        if (probe.datagramBytes > 1272) pmtu.tooBig(probe.datagramBytes, 1);
        else pmtu.acked(probe.number, 1);
      }
    }
    expect(rounds).toBeLessThan(20);
    expect(pmtu.maxDatagramBytes).toBeWithin(1265, 1273);
  });

  test("sizes above what is known, and the smallest size, change nothing", () => {
    const bench = new Bench(MAX).run(5_000);
    bench.pmtu.tooBig(MAX + 2, bench.nowMs);
    bench.pmtu.tooBig(PMTU_MIN_BYTES, bench.nowMs);
    bench.pmtu.tooBig(0, bench.nowMs);
    expect(bench.view).toEqual(["complete", MAX]);
  });
});

test("acked: an unknown number, a number twice and a number of a finished trial change nothing", () => {
  const bench = new Bench(MAX);
  const probes = bench.pmtu.poll(bench.nowMs);
  bench.pmtu.acked(probes[0]!.number + 100, bench.nowMs);
  expect(bench.view).toEqual(["base", PMTU_BASE_BYTES]);
  for (let i = 0; i < 10; i++) bench.pmtu.acked(probes[1]!.number, bench.nowMs);
  expect(bench.view).toEqual(["search", PMTU_BASE_BYTES]);
  bench.pmtu.acked(probes[0]!.number, bench.nowMs);
  expect(bench.view).toEqual(["search", MAX]);
  bench.pmtu.acked(probes[0]!.number, bench.nowMs);
  expect(bench.run(10).view).toEqual(["complete", MAX]);
});

test("whatever happens in whatever order, sizes stay in their bounds and probes in their rate", () => {
  const event = fc.oneof(
    fc.record({ kind: fc.constant("wait" as const), value: fc.nat(3000) }),
    fc.record({ kind: fc.constant("ack" as const), value: fc.nat(300) }),
    fc.record({ kind: fc.constantFrom("tooBig" as const, "sent" as const), value: fc.nat(2000) }),
    fc.record({ kind: fc.constantFrom("suspect" as const, "moved" as const), value: fc.constant(0) }),
  );
  check(
    fc.property(fc.integer({ min: 100, max: 9000 }), fc.array(event, { maxLength: 200 }), (max, events) => {
      let nowMs = 0;
      const pmtu = new Pmtu(max, nowMs);
      for (const { kind, value } of events) {
        if (kind === "wait") nowMs += value;
        else if (kind === "ack") pmtu.acked(value, nowMs);
        else if (kind === "moved") pmtu.moved(nowMs);
        else if (kind === "suspect") pmtu.suspect(nowMs);
        else pmtu[kind](value, nowMs);
        const probes = pmtu.poll(nowMs);
        expect(probes.length).toBeLessThanOrEqual(4);
        for (const probe of probes)
          expect(probe.datagramBytes).toBeWithin(Math.min(max, PMTU_MIN_BYTES), max + 1);
        expect(pmtu.maxDatagramBytes).toBeWithin(Math.min(max, PMTU_MIN_BYTES), max + 1);
      }
    }),
    300,
  );
});
