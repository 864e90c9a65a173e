import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import {
  certificateFingerprint,
  checkCertificatePair,
  makeSelfSignedCertificate,
} from "../../lib/certificate.ts";
import { UsageError } from "../../lib/errors.ts";

const NOW_MS = Date.UTC(2026, 0, 15);
const DAY_MS = 86_400_000;
const options = {
  name: "vpn, first",
  hosts: ["vpn.example", "192.0.2.1", "2001:db8::1"],
  nowMs: NOW_MS,
  validDays: 10,
};
const pair = await makeSelfSignedCertificate(options);

test("makeSelfSignedCertificate() makes a certificate that OpenSSL reads and that names its hosts", () => {
  const certificate = new X509Certificate(pair.certPem);
  expect(certificate.subject).toContain("vpn");
  expect(certificate.ca).toBe(false);
  expect(certificate.verify(certificate.publicKey)).toBe(true);
  expect(certificate.checkHost("vpn.example")).toBe("vpn.example");
  expect(certificate.checkHost("other.example")).toBeUndefined();
  expect(certificate.checkIP("192.0.2.1")).toBe("192.0.2.1");
  expect(certificate.checkIP("2001:db8::1")).toBe("2001:db8::1");
});

test("makeSelfSignedCertificate() makes another key and serial each time", async () => {
  const other = await makeSelfSignedCertificate(options);
  expect(new X509Certificate(other.certPem).serialNumber).not.toBe(
    new X509Certificate(pair.certPem).serialNumber,
  );
  expect(certificateFingerprint(other.certPem)).not.toBe(certificateFingerprint(pair.certPem));
});

test("checkCertificatePair() accepts the pair in its time, and says when that is over", () => {
  checkCertificatePair(pair, NOW_MS);
  checkCertificatePair(pair, NOW_MS + 9 * DAY_MS);
  expect(() => checkCertificatePair(pair, NOW_MS + 11 * DAY_MS)).toThrow(/Jan 25/);
  expect(() => checkCertificatePair(pair, NOW_MS - 2 * DAY_MS)).toThrow(UsageError);
});

test("checkCertificatePair() refuses the key of another certificate and texts that are no PEM", async () => {
  const other = await makeSelfSignedCertificate(options);
  expect(() => checkCertificatePair({ ...pair, keyPem: other.keyPem }, NOW_MS)).toThrow(/another's/);
  expect(() => checkCertificatePair({ ...pair, keyPem: "secret" }, NOW_MS)).toThrow(
    /^Cannot read the private key: (?!.*secret)/,
  );
  expect(() => checkCertificatePair({ ...pair, certPem: "" }, NOW_MS)).toThrow(UsageError);
});

test("certificateFingerprint() is SHA-256 in upper-case bytes with colons", () => {
  expect(certificateFingerprint(pair.certPem)).toMatch(/^([0-9A-F]{2}:){31}[0-9A-F]{2}$/);
});
