import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import type { RateLimit } from "../../lib/data_plane_message.ts";
import { RateShaper } from "../../lib/rate_limit.ts";
import { check, randomSource } from "../support/property.ts";

const MBIT20: RateLimit = { bitsPerSecond: 20e6, packetsPerSecond: null };
const PACKET = new Uint8Array(1420);

interface Run {
  readonly passedBytes: number;
  readonly dropped: number;
  /** Longest time in the queue. */
  readonly longestWaitMs: number;
}

/** Offers packets at times and takes out what is due, with a timer that is late by up to `lateMs`. */
function run(limit: RateLimit, offers: readonly number[], forMs: number, lateMs = 0): Run {
  const shaper = new RateShaper(limit);
  const random = randomSource();
  const times = new Map<Uint8Array, number>();
  let passedBytes = 0;
  let dropped = 0;
  let longestWaitMs = 0;
  let next = 0;
  let timerMs = Infinity;
  let offered: number[] = [];
  for (let nowMs = 0; nowMs < forMs;) {
    while (next < offers.length && offers[next]! <= nowMs) {
      const result = shaper.offer(PACKET, 0, PACKET.length, PACKET.length, 1, nowMs);
      if (result === "go") passedBytes += PACKET.length;
      else if (result === "drop") dropped++;
      else offered.push(nowMs);
      next++;
    }
    if (nowMs >= timerMs) {
      for (;;) {
        const packet = shaper.take(nowMs);
        const gone = shaper.takeDropped();
        dropped += gone;
        offered = offered.slice(gone);
        if (packet === null) break;
        passedBytes += packet.innerBytes;
        longestWaitMs = Math.max(longestWaitMs, nowMs - offered.shift()!);
      }
      timerMs = Infinity;
    }
    const due = shaper.dueInMs(nowMs);
    // as setTimeout does: whole milliseconds, at least one
    if (due !== null && timerMs === Infinity)
      timerMs = nowMs + Math.max(1, Math.ceil(due)) + random(lateMs + 1);
    nowMs = Math.min(timerMs, offers[next] ?? Infinity, forMs);
    times.clear();
  }
  return { passedBytes, dropped, longestWaitMs };
}

/** Packets of 1,420 bytes at a rate. */
function flood(megabits: number, forMs: number): number[] {
  const everyMs = (PACKET.length * 8) / (megabits * 1000);
  return Array.from({ length: Math.floor(forMs / everyMs) }, (_, i) => i * everyMs);
}

describe("RateShaper", () => {
  test.each([0, 5, 15, 60])(
    "holds 20 Mbit/s within 1 % over 10 s, with a timer late by up to %p ms",
    (lateMs) => {
      const { passedBytes, longestWaitMs } = run(MBIT20, flood(100, 10_000), 10_000, lateMs);
      const megabits = (passedBytes * 8) / 10_000 / 1000;
      // two percent are added for headers
      expect(Math.abs(megabits - 20.4)).toBeLessThan(0.2);
      expect(longestWaitMs).toBeLessThan(200);
    },
  );

  test("leaves traffic under its rate alone", () => {
    const { dropped, longestWaitMs } = run(MBIT20, flood(19, 5_000), 5_000);
    expect([dropped, longestWaitMs < 3]).toEqual([0, true]);
  });

  test("limits packets as well, whatever their size", () => {
    const limit = { bitsPerSecond: null, packetsPerSecond: 500 };
    const { passedBytes } = run(limit, flood(100, 10_000), 10_000);
    expect(Math.abs(passedBytes / PACKET.length / 10 - 500)).toBeLessThan(5);
  });

  test("counts the stricter of two limits", () => {
    const limit = { bitsPerSecond: 20e6, packetsPerSecond: 500 };
    expect(run(limit, flood(100, 4_000), 4_000).passedBytes / PACKET.length).toBeLessThan(2_030);
  });

  test("keeps order, copies what waits, and gives every packet that it did not drop once", () => {
    const steps = fc.array(fc.tuple(fc.integer({ min: 20, max: 9_000 }), fc.nat(5)), { maxLength: 200 });
    check(
      fc.property(steps, (list) => {
        const shaper = new RateShaper({ bitsPerSecond: 5e6, packetsPerSecond: null });
        const buffer = new Uint8Array(9_000);
        const sent: number[] = [];
        let kept = 0;
        let nowMs = 0;
        let dropped = 0;
        const drain = (): void => {
          for (let packet = shaper.take(nowMs); packet !== null; packet = shaper.take(nowMs))
            sent.push(packet.bytes[0]! * 256 + packet.bytes[1]!);
          dropped += shaper.takeDropped();
        };
        for (const [index, [length, waitMs]] of list.entries()) {
          buffer[0] = index >> 8;
          buffer[1] = index & 0xff;
          const result = shaper.offer(buffer, 0, length, length, 1, nowMs);
          if (result === "go") sent.push(index);
          if (result !== "drop") kept++;
          nowMs += waitMs;
          drain();
        }
        nowMs += 100_000;
        while (shaper.dueInMs(nowMs) !== null) {
          nowMs += 10;
          drain();
        }
        expect(sent).toEqual(sent.toSorted((a, b) => a - b));
        expect(new Set(sent).size).toBe(sent.length);
        expect(sent.length + dropped).toBe(kept);
      }),
    );
  });

  test("a queue that stays long loses packets before it is full (CoDel), so that TCP slows down early", () => {
    // a sender that is a little over the rate, as TCP is when it feels for more
    const { dropped, longestWaitMs } = run(MBIT20, flood(21, 3_000), 3_000);
    expect(dropped).toBeGreaterThan(5);
    expect(longestWaitMs).toBeLessThan(150);
  });

  test("a rate that was raised counts at once, for what waits as well", () => {
    const shaper = new RateShaper({ bitsPerSecond: 64_000, packetsPerSecond: null });
    for (let i = 0; i < 10; i++) shaper.offer(PACKET, 0, PACKET.length, PACKET.length, 1, 0);
    expect(shaper.dueInMs(0)).toBeGreaterThan(100);
    shaper.setLimit({ bitsPerSecond: 1e9, packetsPerSecond: null });
    expect(shaper.dueInMs(0)).toBe(0);
    expect(shaper.take(0)).not.toBeNull();
  });

  test("wants large packets in pieces where the line is slow", () => {
    const slow = new RateShaper(MBIT20);
    const fast = new RateShaper({ bitsPerSecond: 1e9, packetsPerSecond: null });
    expect([slow.wantsPieces(62_000, 45), slow.wantsPieces(1_420, 1), fast.wantsPieces(62_000, 45)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  test("is bounded for traffic that does not listen", () => {
    const shaper = new RateShaper(MBIT20);
    let waiting = 0;
    for (let i = 0; i < 10_000; i++) {
      if (shaper.offer(PACKET, 0, PACKET.length, PACKET.length, 1, 0) === "wait") waiting++;
    }
    // 150 ms of 20 Mbit/s, with the allowance for headers
    expect(waiting * PACKET.length).toBeLessThan(375_000 * 1.02 + 1_420);
  });
});
