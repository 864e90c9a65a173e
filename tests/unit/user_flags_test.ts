import { describe, expect, test } from "bun:test";
import { applySettingFlags, settingFlagsIn } from "../../cli/user_flags.ts";
import { formatUser, formatUserList, userJson } from "../../cli/user_text.ts";
import { DEFAULT_USER_SETTINGS } from "../../lib/user_record.ts";
import { limitsOf, testUser } from "../support/user_records.ts";

const NOW = Date.UTC(2026, 10, 25);

describe("applySettingFlags()", () => {
  test("reads every flag", () => {
    const flags = {
      auth: "cert",
      expires: "2027-01-31",
      address: ["10.8.0.9,fd08:8::9"],
      network: ["192.168.50.0/24", "192.168.51.0/24"],
      route: ["172.16.0.0/12"],
      group: ["staff,ops,staff"],
      devices: "2",
      "rate-up": "20mbit",
      "rate-down": "1gbit",
      "packet-rate": "5000",
      quota: "50GB",
    };
    expect(applySettingFlags(DEFAULT_USER_SETTINGS, flags, NOW)).toEqual({
      auth: "cert",
      expiresAtMs: Date.UTC(2027, 1, 1),
      addresses: ["10.8.0.9", "fd08:8::9"],
      networks: ["192.168.50.0/24", "192.168.51.0/24"],
      routes: ["172.16.0.0/12"],
      groups: ["staff", "ops"],
      limits: {
        devices: 2,
        upBitsPerSecond: 20e6,
        downBitsPerSecond: 1e9,
        packetsPerSecond: 5000,
        quotaBytes: 50e9,
      },
    });
  });

  test("leaves alone what was not given, and none takes away", () => {
    const before = {
      ...DEFAULT_USER_SETTINGS,
      auth: "both" as const,
      groups: ["ops"],
      limits: limitsOf({ devices: 2, quotaBytes: 5 }),
    };
    expect(applySettingFlags(before, {}, NOW)).toEqual(before);
    const after = applySettingFlags(before, { auth: "none", group: ["none"], devices: "none" }, NOW);
    expect(after).toEqual({ ...before, auth: null, groups: [], limits: limitsOf({ quotaBytes: 5 }) });
  });

  test("names the flag of a wrong value, and says what is right", () => {
    const wrong = (flags: Record<string, string | string[]>) => () =>
      applySettingFlags(DEFAULT_USER_SETTINGS, flags, NOW);
    expect(wrong({ quota: "much" })).toThrow('--quota: Cannot use "much" as an amount');
    expect(wrong({ quota: "much" })).toThrow("or none");
    expect(wrong({ auth: "certificate" })).toThrow(
      '--auth: Cannot use "certificate" as what a client must prove: expected password, cert, both, any, or none',
    );
    expect(wrong({ network: ["192.168.50.1/24"] })).toThrow("--network: ");
    expect(wrong({ address: ["10.8.0.9", ""] })).toThrow("--address: ");
  });

  test("settingFlagsIn() sees settings only", () => {
    expect(settingFlagsIn({ "state-dir": "x", quota: "1GB", auth: "none" })).toEqual(["auth", "quota"]);
  });
});

test("text and JSON of a user hold nothing secret", () => {
  const record = testUser("alice", { totp: { secret: new Uint8Array(20).fill(0x41), lastStep: 3 } });
  const moment = { wallMs: NOW, usedBytes: 1_500_000_000 };
  const texts = [
    formatUser(record, moment),
    formatUserList([{ record, moment }]),
    JSON.stringify(userJson(record, moment)),
  ].join("\n");
  expect(texts).toContain("alice");
  expect(texts).toContain("1.5GB");
  expect(texts).not.toMatch(/97,97|AAAA|4141|salt|verifier|storedKey|secret/i);
});
