/** When parity is sent: it is tried where datagrams get lost, kept where it helps, and ended where it does not. */

import { describe, expect, test } from "bun:test";
import { ParityChoice } from "../../lib/parity_choice.ts";
import { randomSource } from "../support/property.ts";

const REPORT_MS = 100;

/** A choice that was told of so many reports alike. */
function after(
  choice: ParityChoice,
  reports: number,
  startMs: number,
  report: { lost: number; restored: number; share?: number; loss?: number },
): number {
  let nowMs = startMs;
  for (let i = 0; i < reports; i++) {
    nowMs += REPORT_MS;
    choice.reported(report.lost, report.restored, report.share ?? 1, report.loss ?? 0.01, REPORT_MS, nowMs);
  }
  return nowMs;
}

/** A choice that has it on, at the time 0. */
function on(): ParityChoice {
  const choice = new ParityChoice();
  choice.reported(1, 0, 0, 0.01, REPORT_MS, 0);
  expect(choice.on).toBe(true);
  return choice;
}

describe("ParityChoice", () => {
  test("is off at first, and on a path that loses less than four of ten thousand", () => {
    const choice = new ParityChoice();
    expect(choice.on).toBe(false);
    after(choice, 1000, 0, { lost: 0, restored: 0, share: 0, loss: 0.000_39 });
    expect(choice.on).toBe(false);
    after(choice, 1, 1000, { lost: 1, restored: 0, share: 0, loss: 0.000_41 });
    expect(choice.on).toBe(true);
  });

  test("random single losses keep it on: a record in five to twenty is lost all the same", () => {
    const random = randomSource();
    for (const lostShare of [0.05, 0.1, 0.2]) {
      const choice = on();
      for (let nowMs = 0; nowMs < 60_000; nowMs += REPORT_MS) {
        let lost = 0;
        for (let i = 0; i < 10; i++) if (random(1000) < lostShare * 1000) lost++;
        choice.reported(lost, 10 - lost, 1, 0.01, REPORT_MS, nowMs);
        expect(choice.on).toBe(true);
      }
    }
  });

  test("a single record that is lost ends nothing", () => {
    const choice = on();
    after(choice, 1, 0, { lost: 7, restored: 0 });
    expect(choice.on).toBe(true);
  });

  test("bursts end it, for one second, then for two, four, eight and always ten", () => {
    const choice = on();
    let nowMs = 0;
    for (const pauseSeconds of [1, 2, 4, 8, 10, 10]) {
      nowMs = after(choice, 1, nowMs, { lost: 20, restored: 5 });
      expect(choice.on).toBe(false);
      nowMs = after(choice, 10 * pauseSeconds - 1, nowMs, { lost: 20, restored: 0, share: 0 });
      expect(choice.on).toBe(false);
      nowMs = after(choice, 1, nowMs, { lost: 20, restored: 0, share: 0 });
      expect(choice.on).toBe(true);
    }
  });

  test("a help that lasted makes the next pause short again; one that has hardly begun does not", () => {
    const failTwice = (choice: ParityChoice) => {
      const nowMs = after(choice, 1, 0, { lost: 20, restored: 5 });
      return after(choice, 1, nowMs + 1_000, { lost: 1, restored: 0, share: 0 });
    };
    for (const [reports, pauseMs] of [
      [1, 2_000],
      [20, 1_000],
    ] as const) {
      const choice = on();
      const helpedMs = after(choice, reports, failTwice(choice), { lost: 0, restored: 10 });
      const endedMs = after(choice, 1, helpedMs, { lost: 500, restored: 0 });
      expect(choice.on).toBe(false);
      choice.reported(1, 0, 0, 0.01, REPORT_MS, endedMs + pauseMs - 1);
      expect(choice.on).toBe(false);
      choice.reported(1, 0, 0, 0.01, REPORT_MS, endedMs + pauseMs);
      expect(choice.on).toBe(true);
    }
  });

  test("an earlier failure is forgotten: it is judged anew each time", () => {
    const choice = on();
    const endedMs = after(choice, 1, 0, { lost: 100, restored: 0 });
    const againMs = after(choice, 100, endedMs, { lost: 5, restored: 0, share: 0 });
    expect(choice.on).toBe(true);
    after(choice, 50, againMs, { lost: 1, restored: 9 });
    expect(choice.on).toBe(true);
  });

  test("lost records of one datagram, which have no parity, do not end it", () => {
    const choice = on();
    // acknowledgements: one datagram in twenty is of a record with parity, and one loss in twenty is restored
    for (let i = 0; i < 300; i++) {
      after(choice, 1, i * REPORT_MS, { lost: 19, restored: 1, share: 0.05 });
      expect(choice.on).toBe(true);
    }
    after(choice, 300, 30_000, { lost: 50, restored: 0, share: 0 });
    expect(choice.on).toBe(true);
  });

  test("records that were only late are taken back", () => {
    const choice = on();
    after(choice, 1, 0, { lost: 7, restored: 0 });
    after(choice, 1, REPORT_MS, { lost: -7, restored: 0 });
    after(choice, 1, 2 * REPORT_MS, { lost: 4, restored: 4 });
    expect(choice.on).toBe(true);
  });

  test("a path that got well ends it, and may have it again at once", () => {
    const choice = on();
    after(choice, 1, 0, { lost: 0, restored: 0, loss: 0.000_21 });
    expect(choice.on).toBe(true);
    const wellMs = after(choice, 1, 0, { lost: 0, restored: 0, loss: 0.000_19 });
    expect(choice.on).toBe(false);
    after(choice, 1, wellMs, { lost: 1, restored: 0, share: 0 });
    expect(choice.on).toBe(true);
  });
});
