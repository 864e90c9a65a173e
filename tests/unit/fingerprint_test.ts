import { expect, test } from "bun:test";
import fc from "fast-check";
import { UsageError } from "../../lib/errors.ts";
import { fingerprintBytes, formatFingerprint, parseFingerprint } from "../../lib/fingerprint.ts";
import { bytes, check } from "../support/property.ts";

test("a fingerprint is read with or without colons, in either case", () => {
  check(
    fc.property(bytes(32, 32), (raw) => {
      const text = formatFingerprint(raw);
      expect(fingerprintBytes(text)).toEqual(raw);
      for (const form of [text, text.toLowerCase(), text.replaceAll(":", ""), ` ${text}\n`]) {
        expect(parseFingerprint(form)).toBe(text);
      }
    }),
  );
});

test("parseFingerprint() refuses what is shorter, longer or no hexadecimal", () => {
  for (const text of ["", "ab", "0".repeat(63), "0".repeat(65), "g".repeat(64)]) {
    expect(() => parseFingerprint(text)).toThrow(UsageError);
  }
});
