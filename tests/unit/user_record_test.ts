import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../lib/errors.ts";
import {
  decodeSettings,
  DEFAULT_USER_SETTINGS,
  encodeSettings,
  formatRate,
  formatSize,
  readCount,
  readExpiry,
  readGroup,
  readRate,
  readSiteNetwork,
  readSize,
  readUserName,
} from "../../lib/user_record.ts";
import { check } from "../support/property.ts";
import { limitsOf } from "../support/user_records.ts";

const FULL = {
  auth: "both" as const,
  expiresAtMs: 1_800_000_000_000,
  addresses: ["10.8.0.9", "fd08:8::9"],
  networks: ["192.168.50.0/24"],
  routes: ["172.16.0.0/12"],
  groups: ["staff", "ops"],
  limits: limitsOf({ devices: 2, upBitsPerSecond: 20e6, quotaBytes: 50e9 }),
};

describe("settings as JSON", () => {
  test("come back as they were, and defaults take no room", () => {
    expect(decodeSettings(encodeSettings(FULL))).toEqual(FULL);
    expect(encodeSettings(DEFAULT_USER_SETTINGS)).toBe("{}");
    expect(decodeSettings("{}")).toEqual(DEFAULT_USER_SETTINGS);
  });

  test("are not read when truncated anywhere, or when anything in them is wrong", () => {
    const json = encodeSettings(FULL);
    for (let length = 0; length < json.length; length++) {
      expect(decodeSettings(json.slice(0, length))).toBeNull();
    }
    const wrong = [
      "null",
      '{"other":1}',
      '{"auth":"certificate"}',
      '{"groups":"staff"}',
      '{"groups":[""]}',
      '{"addresses":["10.8.0.9/24"]}',
      '{"networks":["0.0.0.0/0"]}',
      '{"routes":["10.0.0.1/8"]}',
      '{"limits":{"devices":0}}',
      '{"limits":{"devices":1.5}}',
      '{"limits":{"quotaBytes":1e300}}',
      '{"expiresAtMs":-1}',
    ];
    for (const text of wrong) expect([text, decodeSettings(text)]).toEqual([text, null]);
  });

  test("any text gives settings or null, and never an exception", () => {
    check(
      fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
        const settings = decodeSettings(text);
        if (settings !== null) expect(decodeSettings(encodeSettings(settings))).toEqual(settings);
      }),
      2_000,
    );
  });
});

describe("rates", () => {
  test.each([
    ["20mbit", 20e6],
    ["20Mbit", 20e6],
    ["512kbit", 512e3],
    ["1.5gbit", 1.5e9],
  ])("%s", (text, bits) => {
    expect(readRate(text)).toBe(bits);
    expect(readRate(formatRate(bits))).toBe(bits);
  });

  test.each(["20", "20mb", "20MB", "-1mbit", "0mbit", "1kbit", "mbit", "1e3mbit", "", " 20mbit"])(
    'refuses "%s" and says what is right',
    (text) => {
      expect(() => readRate(text)).toThrow(`"${text}"`);
      expect(() => readRate(text)).toThrow("20mbit");
    },
  );
});

describe("sizes", () => {
  test.each([
    ["50GB", 50e9],
    ["1TiB", 2 ** 40],
    ["0.5MB", 5e5],
  ])("%s", (text, bytes) => expect(readSize(text)).toBe(bytes));

  test.each(["50", "50gb", "50G", "0GB", "-1GB", ""])('refuses "%s"', (text) => {
    expect(() => readSize(text)).toThrow(UsageError);
  });

  test("are written exactly where a unit allows it, else rounded", () => {
    expect([0, 999, 1e6, 2 ** 30, 1_234_567_890, 50e9].map(formatSize)).toEqual([
      "0B",
      "999B",
      "1MB",
      "1GiB",
      "1.2GB",
      "50GB",
    ]);
  });
});

describe("expiry", () => {
  const NOW = Date.UTC(2026, 10, 25, 12);

  test("a day is good to its end, a moment to itself, a time counts from now", () => {
    expect(readExpiry("2027-01-31", NOW)).toBe(Date.UTC(2027, 1, 1));
    expect(readExpiry("2027-01-31T12:00:00Z", NOW)).toBe(Date.UTC(2027, 0, 31, 12));
    expect(readExpiry("90d", NOW)).toBe(NOW + 90 * 86_400_000);
    expect(readExpiry("20s", NOW)).toBe(NOW + 20_000);
    // in the past is allowed: it ends the user now
    expect(readExpiry("2020-01-01", NOW)).toBe(Date.UTC(2020, 0, 2));
  });

  test.each([
    "2027-02-30",
    "2027-13-01",
    "31.1.2027",
    "tomorrow",
    "90",
    "0d",
    "2027-01-31T12:00:00",
    "",
    "2027-01-31T25:00Z",
  ])('refuses "%s"', (text) =>
    expect(() => readExpiry(text, NOW)).toThrow("expected a day such as 2027-01-31"),
  );
});

test("names, groups, networks and counts refuse what would confuse somebody", () => {
  for (const name of ["alice", "Ärzte 7", "a@example.org", "x"]) expect(readUserName(name)).toBe(name);
  for (const name of ["", "-x", " a", "a ", "a/b", "../x", "x".repeat(65)])
    expect(() => readUserName(name)).toThrow(UsageError);
  for (const group of ["", "a b", "-a", "a,b", "x".repeat(65)])
    expect(() => readGroup(group)).toThrow(UsageError);
  expect(() => readSiteNetwork("::/0")).toThrow("length over 0");
  expect(() => readSiteNetwork("10.0.0.1/8")).toThrow("10.0.0.0/8");
  for (const count of ["0", "1.5", "-1", "x", "11"])
    expect(() => readCount(count, 10)).toThrow("from 1 to 10");
});
