import { expect, test } from "bun:test";
import { acceptTotp, totpCode, totpUri } from "../../lib/totp.ts";

/** The secret of RFC 6238, appendix B, for SHA-1. */
const SECRET = new TextEncoder().encode("12345678901234567890");

test("codes are those of RFC 6238, appendix B (last six of its eight digits)", () => {
  const vectors = [
    [59, "287082"],
    [1111111109, "081804"],
    [1111111111, "050471"],
    [1234567890, "005924"],
    [2000000000, "279037"],
    [20000000000, "353130"],
  ] as const;
  for (const [seconds, code] of vectors) expect(totpCode(SECRET, seconds * 1000)).toBe(code);
});

test("acceptTotp() takes a code once, and none of an older step after it", () => {
  const nowMs = 1_111_111_111_000;
  const step = Math.floor(nowMs / 30_000);
  const code = totpCode(SECRET, nowMs);
  expect(acceptTotp(SECRET, -1, code, nowMs)).toBe(step);
  expect(acceptTotp(SECRET, step, code, nowMs)).toBeNull();
  expect(acceptTotp(SECRET, step, totpCode(SECRET, nowMs - 30_000), nowMs)).toBeNull();
  expect(acceptTotp(SECRET, step, totpCode(SECRET, nowMs + 30_000), nowMs)).toBe(step + 1);
});

test("acceptTotp() allows for one step of difference between the clocks, no more", () => {
  const nowMs = 1_111_111_111_000;
  const accepted = [-60, -30, 0, 30, 60].map(
    (seconds) => acceptTotp(SECRET, -1, totpCode(SECRET, nowMs + seconds * 1000), nowMs) !== null,
  );
  expect(accepted).toEqual([false, true, true, true, false]);
});

test("acceptTotp() takes spaces and refuses everything that is not six digits", () => {
  expect(acceptTotp(SECRET, -1, " 287 082", 59_000)).toBe(1);
  for (const code of ["", "28708", "2870820", "-87082", "28708x", "٢٨٧٠٨٢", "287082\n0"])
    expect(acceptTotp(SECRET, -1, code, 59_000)).toBeNull();
});

test("totpUri() is what authenticator apps read", () => {
  const uri = new URL(totpUri(SECRET, "alice@example.org"));
  expect([uri.protocol, uri.host]).toEqual(["otpauth:", "totp"]);
  expect(decodeURIComponent(uri.pathname)).toBe("/OMail VPN:alice@example.org");
  expect(Object.fromEntries(uri.searchParams)).toMatchObject({
    secret: "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ",
    algorithm: "SHA1",
    digits: "6",
    period: "30",
  });
});
