import { expect, test } from "bun:test";
import fc from "fast-check";
import type { SessionStats } from "../../lib/data_plane_message.ts";
import { UsageMeter } from "../../lib/usage_meter.ts";
import { check } from "../support/property.ts";

const NOVEMBER = Date.UTC(2026, 10, 30, 12);
const DECEMBER = Date.UTC(2026, 11, 1);

function stats(id: number, rxBytes: number, txBytes: number): SessionStats {
  return {
    id,
    endpoint: null,
    transport: "udp",
    epoch: 0,
    rxBytes,
    txBytes,
    rxPackets: 0,
    txPackets: 0,
    rxRecords: 0,
    txRecords: 0,
    silentMs: null,
    rttMs: null,
    lossPercent: 0,
    recordLimit: 0,
    datagramBytes: 1_452,
    pathMtu: 1_480,
  };
}

test("UsageMeter adds up both directions of all sessions of a user", () => {
  const meter = new UsageMeter();
  meter.track(1, "alice");
  meter.track(2, "alice");
  meter.count([stats(1, 10, 5), stats(2, 1, 1), stats(3, 99, 99)], NOVEMBER);
  meter.count([stats(1, 20, 5), stats(2, 1, 1)], NOVEMBER);
  expect(meter.used("alice", NOVEMBER)).toBe(27);
  expect(meter.pending).toEqual([{ name: "alice", month: "2026-11", bytes: 27 }]);
});

test("UsageMeter starts anew with the month, and still stores what belongs to the old one", () => {
  const meter = new UsageMeter();
  meter.load("2026-11", new Map([["alice", 1000]]));
  meter.track(1, "alice");
  meter.count([stats(1, 10, 0)], NOVEMBER);
  meter.count([stats(1, 15, 0)], DECEMBER);
  expect([meter.used("alice", NOVEMBER), meter.used("alice", DECEMBER)]).toEqual([1010, 5]);
  expect(meter.pending).toEqual([
    { name: "alice", month: "2026-11", bytes: 10 },
    { name: "alice", month: "2026-12", bytes: 5 },
  ]);
  meter.stored("2026-12", new Map([["alice", 5]]));
  expect([meter.used("alice", DECEMBER), meter.pending.length]).toEqual([5, 0]);
});

test("UsageMeter counts the last bytes of a session that has ended, once", () => {
  const meter = new UsageMeter();
  meter.track(1, "alice");
  meter.end(1);
  meter.count([stats(1, 7, 0)], NOVEMBER);
  meter.count([], NOVEMBER);
  meter.count([stats(1, 9, 0)], NOVEMBER);
  expect(meter.used("alice", NOVEMBER)).toBe(7);
});

test("UsageMeter loses and invents nothing, however reports and stores follow each other", () => {
  const steps = fc.array(fc.tuple(fc.nat(1e6), fc.boolean()), { maxLength: 30 });
  check(
    fc.property(steps, (list) => {
      const meter = new UsageMeter();
      meter.track(1, "alice");
      let total = 0;
      let stored = 0;
      for (const [bytes, store] of list) {
        total += bytes;
        meter.count([stats(1, total, 0)], NOVEMBER);
        if (!store) continue;
        stored += meter.pending.reduce((sum, entry) => sum + entry.bytes, 0);
        meter.stored("2026-11", new Map([["alice", stored]]));
      }
      expect(meter.used("alice", NOVEMBER)).toBe(total);
    }),
  );
});
