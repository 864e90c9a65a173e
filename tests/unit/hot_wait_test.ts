/** Waiting hot: only for a lone small record, never for long, and never in the way of the thread that is waited for. */

import { expect, test } from "bun:test";
import { BUSY_WAIT_MS } from "../../lib/busy_wait.ts";
import { HotWait } from "../../lib/hot_wait.ts";

const TURN_MS = 0.01;

/** An event loop whose turns take {@link TURN_MS} each. */
class Loop {
  turns = 0;
  yields = 0;
  #nowMs = 1;
  #next: (() => void) | null = null;
  readonly wait = new HotWait({
    nowMs: () => this.#nowMs,
    nextTurn: (turn) => (this.#next = turn),
    yieldProcessor: () => this.yields++,
  });

  /** @returns whether the wait had asked for the turn */
  turn(): boolean {
    const turn = this.#next;
    if (turn === null) return false;
    this.#next = null;
    this.#nowMs += TURN_MS;
    this.turns++;
    turn();
    return true;
  }

  runToEnd(): this {
    while (this.turn());
    return this;
  }

  pass(ms: number): void {
    this.#nowMs += ms;
  }
}

test("HotWait: a lone small record keeps the loop turning, but not after its time", () => {
  const loop = new Loop();
  loop.wait.started(100);
  loop.runToEnd();
  expect(loop.turns * TURN_MS).toBeGreaterThan(BUSY_WAIT_MS - TURN_MS);
  expect(loop.turns * TURN_MS).toBeLessThan(BUSY_WAIT_MS + 2 * TURN_MS);
});

test("HotWait: each turn lets the thread that is waited for use the processor, but the one that ends the wait", () => {
  const loop = new Loop();
  loop.wait.started(100);
  loop.runToEnd();
  expect(loop.yields).toBe(loop.turns - 1);
});

test("HotWait: once the record is back nobody is let by: its answer may be there already", () => {
  const loop = new Loop();
  loop.wait.started(100);
  loop.turn();
  expect(loop.yields).toBe(1);
  loop.wait.finished();
  loop.runToEnd();
  expect(loop.turns).toBe(2);
  expect(loop.yields).toBe(1);
});

test("HotWait: stops when the record is back, and waits for the next one again", () => {
  const loop = new Loop();
  for (let record = 1; record <= 3; record++) {
    loop.wait.started(100);
    loop.turn();
    loop.wait.finished();
    loop.runToEnd();
    expect(loop.turns).toBe(record * 2);
  }
});

test("HotWait: one wait at a time, however the records come", () => {
  const loop = new Loop();
  loop.wait.started(100);
  loop.wait.finished();
  loop.wait.started(100);
  loop.wait.finished();
  loop.runToEnd();
  expect(loop.turns).toBe(1);
});

test("HotWait: leaves large records and crowds alone", () => {
  const loop = new Loop();
  loop.wait.started(60_000);
  expect(loop.turn()).toBe(false);
  loop.wait.finished();
  loop.wait.started(100);
  loop.wait.started(100);
  expect(loop.runToEnd().turns).toBe(1);
});

test("HotWait: waits beside a slow flow's large records, not beside a fast one's", () => {
  for (const [everyMs, waits] of [
    [3, true],
    [0.5, false],
  ] as const) {
    const loop = new Loop();
    for (let record = 0; record < 20; record++) {
      loop.wait.started(60_000);
      loop.wait.finished();
      loop.pass(everyMs);
    }
    loop.wait.started(100);
    expect(loop.turn()).toBe(waits);
    loop.wait.finished();
    loop.runToEnd();
    // once it has ended
    loop.pass(10);
    loop.wait.started(100);
    expect(loop.turn()).toBe(true);
  }
});

test("HotWait: gives up where no answer comes in its time, and tries now and then", () => {
  const loop = new Loop();
  let waits = 0;
  for (let record = 0; record < 200; record++) {
    loop.wait.started(100);
    if (loop.turn()) waits++;
    loop.runToEnd();
    loop.wait.finished();
  }
  expect(waits).toBeLessThan(20);
  expect(waits).toBeGreaterThan(6);
});
