/** The window of a TLS stream: bounded, and short in front of a slow one. */

import { describe, expect, test } from "bun:test";
import { STREAM_DELAY_MS, STREAM_SHORT_QUEUE_BYTES, STREAM_WINDOW_BYTES } from "../../lib/limits.ts";
import { StreamWindow } from "../../lib/stream_window.ts";

const RECORD = 16_384;

/** A stream that takes `bytesPerMs` for `ms`, always with enough to take; nothing waits before and after. */
function pour(window: StreamWindow, bytesPerMs: number, ms: number, fromMs: number): void {
  window.take(RECORD, fromMs);
  for (let i = 1; i <= ms; i++) {
    window.take(bytesPerMs, fromMs + i);
    window.drained(bytesPerMs, fromMs + i);
  }
  window.drained(RECORD, fromMs + ms);
}

/** How much fits before a packet is late. */
function room(window: StreamWindow, nowMs: number): number {
  let bytes = 0;
  while (!window.isLate(0) && window.take(1_024, nowMs)) bytes += 1_024;
  window.drained(bytes, nowMs);
  return bytes;
}

describe("StreamWindow", () => {
  test("is bounded, takes at least one record, and is whole again with a new stream", () => {
    const window = new StreamWindow();
    let taken = 0;
    while (window.take(60_000, 0)) taken += 60_000;
    expect(taken).toBeWithin(STREAM_WINDOW_BYTES - 60_000, STREAM_WINDOW_BYTES + 1);
    window.drained(60_000, 0);
    expect(window.take(60_000, 0)).toBe(true);
    expect(window.take(60_000, 0)).toBe(false);
    window.reset();
    expect(window.take(2 * STREAM_WINDOW_BYTES, 0)).toBe(true);
  });

  test("nothing is late while the speed is unknown", () => {
    expect(room(new StreamWindow(), 0)).toBeGreaterThan(STREAM_WINDOW_BYTES - 2_048);
  });

  test("in front of a slow stream no more waits than it takes in time, or one super-packet", () => {
    for (const [bytesPerMs, expected] of [
      [6_250, 6_250 * STREAM_DELAY_MS], // 50 Mbit/s
      [500, STREAM_SHORT_QUEUE_BYTES], // 4 Mbit/s
    ] as const) {
      const window = new StreamWindow();
      pour(window, bytesPerMs, 500, 0);
      expect(room(window, 500)).toBeWithin(expected * 0.97, expected * 1.05);
    }
  });

  test("a fast stream is held back by its window alone: nothing is late", () => {
    const window = new StreamWindow();
    pour(window, 100_000, 500, 0);
    while (window.take(RECORD, 500));
    expect(window.isLate(1_000_000)).toBe(false);
  });

  test("what is being sealed counts", () => {
    const window = new StreamWindow();
    pour(window, 500, 500, 0);
    expect(window.isLate(STREAM_SHORT_QUEUE_BYTES)).toBe(false);
    expect(window.isLate(STREAM_SHORT_QUEUE_BYTES + 1)).toBe(true);
  });

  test("a sender that is slow itself says nothing of the stream", () => {
    const window = new StreamWindow();
    for (let ms = 0; ms < 1_000; ms++) {
      window.take(1_000, ms);
      if (ms > 2) window.drained(1_000, ms);
    }
    expect(room(window, 1_000)).toBeGreaterThan(STREAM_WINDOW_BYTES - 10_000);
  });

  test("bursts that are gone at once show that a slow stream has become fast", () => {
    const window = new StreamWindow();
    pour(window, 500, 500, 0);
    for (let ms = 1_000; ms < 1_100; ms++) {
      const bytes = room(window, ms);
      window.take(bytes, ms);
      window.drained(bytes, ms + 1);
    }
    expect(room(window, 1_200)).toBeGreaterThan(2 * STREAM_SHORT_QUEUE_BYTES);
  });

  test("follows the stream when it gets faster or slower; rest does not count", () => {
    const window = new StreamWindow();
    pour(window, 500, 500, 0);
    pour(window, 100_000, 500, 600_000);
    expect(window.isLate(1_000_000)).toBe(false);
    pour(window, 6_250, 1_000, 700_000);
    expect(room(window, 701_000)).toBeWithin(6_250 * STREAM_DELAY_MS * 0.97, 6_250 * STREAM_DELAY_MS * 1.05);
  });
});
