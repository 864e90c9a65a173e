import { describe, expect, test } from "bun:test";
import {
  checkFits,
  deviceRefusal,
  endingOf,
  monthOf,
  nextMonthDay,
  refusalOf,
} from "../../lib/user_rules.ts";
import { limitsOf, testUser } from "../support/user_records.ts";

const NOW = { wallMs: Date.UTC(2026, 11, 31, 23, 59, 59, 999), usedBytes: 0 };
const alice = testUser("alice");

test("a month is that of UTC and ends with it", () => {
  expect([monthOf(NOW.wallMs), monthOf(NOW.wallMs + 1)]).toEqual(["2026-12", "2027-01"]);
  expect([nextMonthDay(NOW.wallMs), nextMonthDay(NOW.wallMs + 1)]).toEqual(["2027-01-01", "2027-02-01"]);
});

describe("refusalOf()", () => {
  test("lets a user in against whom nothing speaks", () => {
    expect(refusalOf(alice, NOW)).toBeNull();
  });

  test("says why a user is not let in", () => {
    expect(refusalOf(testUser("bob", { enabled: false }), NOW)).toBe("This user is disabled");
    const expiring = testUser("bob", { expiresAtMs: NOW.wallMs });
    expect(refusalOf(expiring, NOW)).toBe("This user expired on 2026-12-31T23:59Z");
    expect(refusalOf(expiring, { ...NOW, wallMs: NOW.wallMs - 1 })).toBeNull();
    const limited = testUser("bob", { limits: limitsOf({ quotaBytes: 1e9 }) });
    expect(refusalOf(limited, { ...NOW, usedBytes: 1e9 - 1 })).toBeNull();
    expect(refusalOf(limited, { ...NOW, usedBytes: 1e9 })).toBe(
      "The quota of 1GB a month is used up: it starts again on 2027-01-01 (UTC)",
    );
  });
});

test("deviceRefusal() counts the sessions that stand", () => {
  const one = testUser("bob", { limits: limitsOf({ devices: 1 }) });
  expect(deviceRefusal(one, 0)).toBeNull();
  expect(deviceRefusal(one, 1)).toBe("This user may have 1 device at once, and has 1");
  expect(deviceRefusal(alice, 1000)).toBeNull();
});

describe("endingOf()", () => {
  test("lets a session go on through changes that it can take", () => {
    const after = testUser("alice", {
      groups: ["ops"],
      routes: ["10.0.0.0/8"],
      networks: ["192.168.9.0/24"],
      limits: limitsOf({ devices: 1, upBitsPerSecond: 1e6 }),
      totp: { secret: new Uint8Array(20), lastStep: -1 },
    });
    expect(endingOf(alice, after, NOW)).toBeNull();
  });

  test("ends it for good when the user may not have it any more", () => {
    const password = { ...alice.verifier, storedKey: new Uint8Array(32) };
    const endings = [
      endingOf(alice, undefined, NOW),
      endingOf(alice, testUser("alice", { enabled: false }), NOW),
      endingOf(alice, testUser("alice", { verifier: password }), NOW),
    ];
    expect(endings.map((ending) => ending?.code)).toEqual(["refused", "refused", "refused"]);
  });

  test("has the client come back for other addresses", () => {
    expect(endingOf(alice, testUser("alice", { addresses: ["10.8.0.9"] }), NOW)?.code).toBe("replaced");
  });
});

test("checkFits() refuses a one-time code where no password is asked for", () => {
  const totp = { secret: new Uint8Array(20), lastStep: -1 };
  expect(() => checkFits(testUser("carol", { auth: "cert", totp }), [])).toThrow('expected auth "both"');
  for (const auth of ["both", "any", "password", null] as const)
    checkFits(testUser("carol", { auth, totp }), []);
});

test("checkFits() refuses what another user has, by name", () => {
  const bob = testUser("bob", { addresses: ["10.8.0.9"], networks: ["192.168.50.0/24"] });
  expect(() => checkFits(testUser("carol", { addresses: ["10.8.0.9"] }), [bob])).toThrow(
    `Cannot give "10.8.0.9" to "carol": it is "bob"'s`,
  );
  expect(() => checkFits(testUser("carol", { networks: ["192.168.50.0/24"] }), [bob])).toThrow(
    "192.168.50.0/24",
  );
  expect(() => checkFits(testUser("carol", { addresses: ["10.8.0.8", "10.8.0.7"] }), [])).toThrow(
    "one of each family",
  );
  checkFits(testUser("carol", { addresses: ["10.8.0.8", "fd08:8::8"], networks: ["192.168.51.0/24"] }), [
    bob,
  ]);
});
