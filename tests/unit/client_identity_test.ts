import { expect, test } from "bun:test";
import { endsSoon } from "../../lib/client_identity.ts";
import { DAY_MS } from "../support/test_authority.ts";

const NOW = Date.UTC(2026, 10, 26);

test("endsSoon() speaks of a certificate with less than 30 days, with the day and what to do", () => {
  expect([null, NOW + 31 * DAY_MS].map((endsMs) => endsSoon(endsMs, NOW))).toEqual([null, null]);
  expect(endsSoon(NOW + 2 * DAY_MS, NOW)).toBe(
    "Our certificate ends on 2026-11-28: ask the operator for a new profile or one-time token",
  );
  expect(endsSoon(NOW - DAY_MS, NOW)).toContain("ended on 2026-11-25");
});
