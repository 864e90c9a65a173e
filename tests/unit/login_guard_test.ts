import { describe, expect, test } from "bun:test";
import { isAllowed, makeAccessList } from "../../lib/access_list.ts";
import { UsageError } from "../../lib/errors.ts";
import { DEFAULT_HANDSHAKE_RATES, HandshakeLimiter, limitKey } from "../../lib/handshake_limiter.ts";
import {
  BAN_MAX_MS,
  BAN_MS,
  FAILURES_WINDOW_MS,
  HANDSHAKES_RESERVE_PER_SECOND,
  LIMITED_ADDRESSES,
  MAX_ADDRESS_FAILURES,
  MAX_USER_FAILURES,
} from "../../lib/limits.ts";
import { Lockout } from "../../lib/lockout.ts";
import { LoginGuard } from "../../lib/login_guard.ts";

const ALICE = "192.0.2.1";
const EVE = "198.51.100.9";

/** How many of `tries` handshakes from `address` pass, evenly over `seconds` from `fromMs`. */
function passed(
  limiter: HandshakeLimiter,
  address: string,
  tries: number,
  seconds: number,
  fromMs = 0,
): number {
  let count = 0;
  for (let i = 0; i < tries; i++) {
    if (limiter.take(address, false, fromMs + (i * seconds * 1000) / tries)) count++;
  }
  return count;
}

describe("HandshakeLimiter", () => {
  test("an address gets 5 at once and 20 a second", () => {
    const limiter = new HandshakeLimiter(DEFAULT_HANDSHAKE_RATES, 0);
    expect(passed(limiter, EVE, 100, 0)).toBe(5);
    expect(passed(limiter, EVE, 10_000, 10, 1)).toBeWithin(198, 202);
    expect(limiter.take(ALICE, false, 5_000)).toBe(true);
  });

  test("a /64 counts as one, the next one as another", () => {
    const limiter = new HandshakeLimiter(DEFAULT_HANDSHAKE_RATES, 0);
    const passes = Array.from({ length: 50 }, (_, i) =>
      limiter.take(`2001:db8::${i.toString(16)}`, false, 0),
    );
    expect(passes.filter(Boolean)).toHaveLength(5);
    expect(limiter.take("2001:db8:0:1::1", false, 0)).toBe(true);
    expect(limitKey("2001:db8::1")).toBe("2001:db8::/64");
    expect(limitKey("192.0.2.1")).toBe("192.0.2.1");
    expect(limitKey("fe80::1%eth0")).toBe("fe80::1%eth0");
  });

  test("a crowd that uses up the total leaves a place for newcomers and for the known", () => {
    const limiter = new HandshakeLimiter(DEFAULT_HANDSHAKE_RATES, 0);
    limiter.take("203.0.113.1", false, 0);
    limiter.proven("203.0.113.1");
    let admitted = 0;
    // 254 addresses, each far over its own rate, for 5 seconds
    for (let ms = 1_000; ms < 6_000; ms += 10) {
      for (let host = 1; host < 255; host++) if (limiter.take(`198.51.100.${host}`, false, ms)) admitted++;
    }
    const { total } = DEFAULT_HANDSHAKE_RATES;
    expect(admitted).toBeLessThanOrEqual(total * 6 + HANDSHAKES_RESERVE_PER_SECOND * 2);
    expect(limiter.take("203.0.113.1", false, 6_000)).toBe(true);
    expect(limiter.take("203.0.113.77", false, 6_000)).toBe(true);
  });

  test("remembers a bounded number of addresses", () => {
    const limiter = new HandshakeLimiter(DEFAULT_HANDSHAKE_RATES, 0);
    for (let i = 0; i < LIMITED_ADDRESSES + 1_000; i++) {
      limiter.take(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, false, i);
    }
    expect(limiter.size).toBe(LIMITED_ADDRESSES);
  });

  test("time that goes back does no harm", () => {
    const limiter = new HandshakeLimiter(DEFAULT_HANDSHAKE_RATES, 1_000_000);
    expect(limiter.take(EVE, false, 0)).toBe(true);
    expect(passed(limiter, EVE, 100, 0, 1_000)).toBeLessThanOrEqual(25);
  });
});

describe("Lockout", () => {
  test("an address is shut out after enough failures, for a time that doubles up to an hour", () => {
    const lockout = new Lockout();
    let nowMs = 0;
    for (const lengthMs of [BAN_MS, 2 * BAN_MS, 4 * BAN_MS, BAN_MAX_MS, BAN_MAX_MS]) {
      for (let i = 1; i < MAX_ADDRESS_FAILURES; i++)
        expect(lockout.failed(`user${i}`, EVE, nowMs)).toEqual([]);
      expect(lockout.isBanned(EVE, nowMs)).toBe(false);
      expect(lockout.failed("x", EVE, nowMs)).toMatchObject([{ subject: "address", value: EVE }]);
      expect(lockout.isBanned(EVE, nowMs + lengthMs - 1)).toBe(true);
      nowMs += lengthMs;
      expect(lockout.isBanned(EVE, nowMs)).toBe(false);
    }
    expect(lockout.isBanned(ALICE, 0)).toBe(false);
  });

  test("failures that lie far apart do not add up", () => {
    const lockout = new Lockout();
    for (let i = 0; i < 100; i++) {
      expect(
        lockout.failed("alice", ALICE, i * (FAILURES_WINDOW_MS / (MAX_ADDRESS_FAILURES - 1) + 1)),
      ).toEqual([]);
    }
  });

  test("a success forgives the user's own typing errors, not the guesses at others", () => {
    const lockout = new Lockout();
    for (let i = 0; i < MAX_ADDRESS_FAILURES - 1; i++) lockout.failed("mallory", EVE, 0);
    lockout.succeeded("mallory", EVE);
    for (let i = 0; i < MAX_ADDRESS_FAILURES - 1; i++) expect(lockout.failed("alice", EVE, 0)).toEqual([]);
    lockout.succeeded("mallory", EVE);
    expect(lockout.failed("alice", EVE, 0)).toHaveLength(1);
  });

  test("a user guessed at from many addresses is shut out, but not at home", () => {
    const lockout = new Lockout();
    lockout.succeeded("alice", ALICE);
    const bans = Array.from({ length: MAX_USER_FAILURES }, (_, i) =>
      lockout.failed("alice", `10.0.0.${i}`, 0),
    );
    expect(bans.flat()).toMatchObject([{ subject: "user", value: "alice" }]);
    expect(lockout.banFor("alice", EVE, 1)).toMatchObject({ subject: "user" });
    expect(lockout.banFor("alice", ALICE, 1)).toBeNull();
    expect(lockout.banFor("bob", EVE, 1)).toBeNull();
    expect(lockout.banFor("alice", EVE, BAN_MS)).toBeNull();
  });

  test("lift() lets in again, by any address of the /64", () => {
    const lockout = new Lockout();
    for (let i = 0; i < MAX_ADDRESS_FAILURES; i++) lockout.failed("alice", `2001:db8::${i}`, 0);
    expect(lockout.bans(1)).toMatchObject([{ subject: "address", value: "2001:db8::/64" }]);
    expect(lockout.lift("2001:db8::77", 1)).toHaveLength(1);
    expect(lockout.isBanned("2001:db8::1", 1)).toBe(false);
    expect(lockout.lift("2001:db8::77", 1)).toEqual([]);
  });
});

describe("LoginGuard", () => {
  test("lists come first: deny wins over allow", () => {
    const lists = makeAccessList(["192.0.2.0/24", "2001:db8::/32"], ["192.0.2.128/25"]);
    const guard = new LoginGuard(DEFAULT_HANDSHAKE_RATES, () => lists, 0);
    expect(guard.admit("192.0.2.1", 0)).toBeNull();
    expect(guard.admit("192.0.2.200", 0)).toBe("not-allowed");
    expect(guard.admit("198.51.100.1", 0)).toBe("not-allowed");
    expect(guard.admit("2001:db8::1", 0)).toBeNull();
    expect(guard.admit("", 0)).toBe("not-allowed");
    expect(isAllowed(makeAccessList([], []), "")).toBe(true);
    expect(isAllowed(makeAccessList([], ["10.0.0.0/8"]), "192.0.2.1")).toBe(true);
    expect(() => makeAccessList([], ["10.0.0.1/8"])).toThrow(UsageError);
  });

  test("who is shut out is told so, once a second, and when it ends", () => {
    const guard = new LoginGuard(DEFAULT_HANDSHAKE_RATES, () => makeAccessList([], []), 0);
    for (let i = 0; i < MAX_ADDRESS_FAILURES; i++) guard.failed("alice", EVE, 0);
    const knocks = Array.from({ length: 100 }, (_, i) => guard.admit(EVE, i * 100));
    expect(knocks.filter((refusal) => refusal === null).length).toBeLessThanOrEqual(12);
    expect(guard.refusalFor("alice", EVE, 0)).toEqual({
      code: "refused",
      reason: "Too many failed log-ins from this address: try again in 600 s",
    });
    expect(guard.refusalFor("nobody", EVE, 0)).toEqual(guard.refusalFor("alice", EVE, 0));
    expect(guard.refusalFor("alice", EVE, BAN_MS)).toBeNull();
  });
});
