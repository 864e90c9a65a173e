import { expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../lib/errors.ts";
import { formatEnrolUri, isEnrolUri, MAX_ENROL_URI_LENGTH, parseEnrolUri } from "../../lib/enrol_uri.ts";
import { formatFingerprint } from "../../lib/fingerprint.ts";
import { bytes, check } from "../support/property.ts";

const uri = {
  server: { host: "vpn.example.org", port: 51820 },
  token: new Uint8Array(16).fill(0xfb),
  pin: formatFingerprint(new Uint8Array(32).fill(0xff)),
};
const text = formatEnrolUri(uri);

test("formatEnrolUri() makes a short text without a key in it", () => {
  expect(text).toBe(`omail://vpn.example.org:51820/1/${"-_v7".repeat(5)}-w/${"_".repeat(42)}8`);
  expect(text.length).toBeLessThan(110);
});

test("parseEnrolUri() reads what formatEnrolUri() wrote", () => {
  check(
    fc.property(
      fc.constantFrom("vpn.example.org", "192.0.2.1", "2001:db8::1"),
      fc.integer({ min: 1, max: 65_535 }),
      bytes(16, 16),
      bytes(32, 32),
      (host, port, token, pin) => {
        const one = { server: { host, port }, token, pin: formatFingerprint(pin) };
        expect(parseEnrolUri(` ${formatEnrolUri(one)}\n`)).toEqual(one);
      },
    ),
  );
});

test("parseEnrolUri() refuses every truncated prefix, and does not repeat the token", () => {
  for (let length = 0; length < text.length; length++) {
    expect(() => parseEnrolUri(text.slice(0, length))).toThrow(
      /^Cannot read the enrolment token: (?!.*-_v7)/,
    );
  }
});

test("parseEnrolUri() names another version, and refuses what is no token", () => {
  expect(() => parseEnrolUri(text.replace("/1/", "/2/"))).toThrow(/version "2", expected 1/);
  expect(() => parseEnrolUri(text.replace("omail:", "https:"))).toThrow(/expected omail:/);
  expect(() => parseEnrolUri(`${text}/more`)).toThrow(/damaged/);
  expect(() => parseEnrolUri(text.replace("vpn.example.org:51820", ""))).toThrow(UsageError);
  expect(() => parseEnrolUri(text.replace(":51820", ":99999"))).toThrow(UsageError);
  // the last digit has bits that no byte uses: one token, one text
  expect(() => parseEnrolUri(text.replace("-w/", "-x/"))).toThrow(/damaged/);
  expect(isEnrolUri("OMAIL://x")).toBe(true);
  expect(isEnrolUri("/etc/omail")).toBe(false);
});

test("parseEnrolUri() throws nothing but UsageError, whatever a character becomes", () => {
  check(
    fc.property(fc.nat(text.length - 1), fc.string({ unit: "binary", maxLength: 2 }), (at, change) => {
      try {
        parseEnrolUri(text.slice(0, at) + change + text.slice(at + 1));
      } catch (error) {
        expect(error).toBeInstanceOf(UsageError);
      }
    }),
    2000,
  );
});

test("formatEnrolUri() refuses a host that makes the code too large", () => {
  const host = `${"a".repeat(60)}.`.repeat(6);
  expect(() => formatEnrolUri({ ...uri, server: { host, port: 1 } })).toThrow(String(MAX_ENROL_URI_LENGTH));
});
