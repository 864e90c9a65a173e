import { expect, test } from "bun:test";
import { formatAuditLine, matches, parseSince } from "../../cli/audit_text.ts";
import type { AuditLine } from "../../lib/audit_chain.ts";
import { UsageError } from "../../lib/errors.ts";

const line: AuditLine = {
  seq: 3,
  time: "2026-11-25T20:00:00.000Z",
  type: "refused",
  prev: "",
  hash: "",
  fields: { user: 'eve x=1"', endpoint: "192.0.2.1:5", reason: "no" },
};

test("a stranger's name cannot pass for another field", () => {
  expect(formatAuditLine(line)).toBe(
    '     3 2026-11-25T20:00:00.000Z refused      user="eve x=1\\"" endpoint=192.0.2.1:5 reason=no',
  );
});

test("parseSince() reads ages and dates", () => {
  const now = Date.parse("2026-11-25T20:00:00Z");
  expect(parseSince("30m", now)).toBe(now - 1_800_000);
  expect(parseSince("7d", now)).toBe(now - 7 * 86_400_000);
  expect(parseSince("2026-11-24", now)).toBe(Date.parse("2026-11-24"));
  for (const wrong of ["yesterday", "", "5", "2026-13-45"]) {
    expect(() => parseSince(wrong, now)).toThrow(UsageError);
  }
});

test("matches() narrows by user, kind and time", () => {
  expect(matches(line, {})).toBe(true);
  expect(matches(line, { user: "alice" })).toBe(false);
  expect(matches({ ...line, type: "ban", fields: { value: "alice" } }, { user: "alice" })).toBe(true);
  expect(matches(line, { type: "login" })).toBe(false);
  expect(matches(line, { sinceMs: Date.parse(line.time) + 1 })).toBe(false);
});
