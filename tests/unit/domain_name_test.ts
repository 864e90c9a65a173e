import { expect, test } from "bun:test";
import * as fc from "fast-check";
import { parseDomainName } from "../../lib/domain_name.ts";
import { UsageError } from "../../lib/errors.ts";
import { check } from "../support/property.ts";

test("parseDomainName: lower case, without the final dot", () => {
  expect(["Corp.Example.", "a", "_dns.x-1.org"].map(parseDomainName)).toEqual([
    "corp.example",
    "a",
    "_dns.x-1.org",
  ]);
});

const LONG_LABEL = "a".repeat(64);
for (const text of [
  "",
  ".",
  "a..b",
  "-a.b",
  "a-.b",
  "a b",
  "a\nnameserver 1.2.3.4",
  "~.",
  "ä.de",
  LONG_LABEL,
]) {
  test(`parseDomainName: refuses ${JSON.stringify(text)}`, () => {
    expect(() => parseDomainName(text)).toThrow(UsageError);
  });
}

test("parseDomainName: whatever it lets through is one word of a resolver's settings", () => {
  const property = fc.property(fc.string(), (text) => {
    try {
      expect(parseDomainName(text)).toMatch(/^[a-z0-9_.-]{1,253}$/);
    } catch (error) {
      expect(error).toBeInstanceOf(UsageError);
    }
  });
  check(property);
});
