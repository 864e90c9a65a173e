import { expect, test } from "bun:test";
import fc from "fast-check";
import { Presence } from "../../lib/presence.ts";
import { check } from "../support/property.ts";

const KEEPALIVE_MS = 10_000;

test("Presence says silent after exactly two keep-alives, and alive with the next record", () => {
  const presence = new Presence(KEEPALIVE_MS, 0);
  expect(presence.change(2 * KEEPALIVE_MS - 1)).toBeNull();
  expect(presence.change(2 * KEEPALIVE_MS)).toEqual({ alive: false, silentMs: 20_000 });
  expect(presence.change(3 * KEEPALIVE_MS)).toBeNull();
  presence.heard(40_000);
  expect(presence.change(40_050)).toEqual({ alive: true, silentMs: 50 });
  expect(presence.change(40_100)).toBeNull();
});

test("Presence asks a peer that was not heard for one keep-alive, five times in the second", () => {
  const presence = new Presence(KEEPALIVE_MS, 0);
  const asks: number[] = [];
  for (let nowMs = 0; nowMs < 2 * KEEPALIVE_MS; nowMs += 100) if (presence.takeAsk(nowMs)) asks.push(nowMs);
  expect(asks).toEqual([10_000, 12_000, 14_000, 16_000, 18_000]);
});

test("Presence never takes a peer for silent that was heard every keep-alive, nor one for alive that was not", () => {
  check(
    fc.property(fc.array(fc.integer({ min: 1, max: 45_000 }), { maxLength: 30 }), (gaps) => {
      const presence = new Presence(KEEPALIVE_MS, 0);
      let alive = true;
      let nowMs = 0;
      for (const gapMs of gaps) {
        nowMs += gapMs;
        alive = presence.change(nowMs)?.alive ?? alive;
        expect(alive).toBe(gapMs < 2 * KEEPALIVE_MS);
        presence.heard(nowMs);
        alive = presence.change(nowMs)?.alive ?? alive;
        expect(alive).toBe(true);
      }
    }),
  );
});
