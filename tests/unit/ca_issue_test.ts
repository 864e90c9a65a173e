import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { makeKey, makeRequest, publicKeyOf, readRequest } from "../../lib/ca_issue.ts";
import { checkCertificatePair } from "../../lib/certificate.ts";
import { UsageError } from "../../lib/errors.ts";
import { bytes, checkAsync } from "../support/property.ts";
import { DAY_MS, TestAuthority } from "../support/test_authority.ts";

const NOW_MS = Date.UTC(2026, 0, 15);
const authority = await TestAuthority.make("VPN, first", NOW_MS);

async function coordinates(key: CryptoKey): Promise<object> {
  const { x, y } = await crypto.subtle.exportKey("jwk", key);
  return { x, y };
}

test("makeAuthority() makes a certificate that OpenSSL reads as one of an authority", () => {
  const certificate = new X509Certificate(authority.certPem);
  expect(certificate.ca).toBe(true);
  expect(certificate.verify(certificate.publicKey)).toBe(true);
  checkCertificatePair(authority.pair, NOW_MS);
});

test("issueCertificate() makes certificates for one purpose each, signed by the authority", async () => {
  const issuer = new X509Certificate(authority.certPem);
  const client = await authority.issue("alice");
  const server = await authority.issue("vpn", { use: "server", hosts: ["vpn.example", "192.0.2.1"] });
  for (const [issued, purpose] of [
    [client, "1.3.6.1.5.5.7.3.2"],
    [server, "1.3.6.1.5.5.7.3.1"],
  ] as const) {
    const certificate = new X509Certificate(issued.certPem);
    expect(certificate.checkIssued(issuer)).toBe(true);
    expect(certificate.verify(issuer.publicKey)).toBe(true);
    expect(certificate.keyUsage).toEqual([purpose]);
    expect(certificate.ca).toBe(false);
    checkCertificatePair(issued, NOW_MS);
  }
  expect(new X509Certificate(server.certPem).checkHost("vpn.example")).toBe("vpn.example");
  expect(new X509Certificate(server.certPem).checkIP("192.0.2.1")).toBe("192.0.2.1");
  expect(client.serial).not.toBe(server.serial);
});

test("issueCertificate() never outlives the authority", async () => {
  const long = await authority.issue("alice", { validDays: 10_000 });
  const certificate = new X509Certificate(long.certPem);
  expect(certificate.validTo).toBe(new X509Certificate(authority.certPem).validTo);
});

test("issueCertificate() keeps a name with the signs of a distinguished name as one common name", async () => {
  const certificate = new X509Certificate((await authority.issue("a, CN=root + O=x")).certPem);
  expect(certificate.subject).toBe("CN=a\\, CN=root \\+ O=x");
});

test("a signing request carries its key, whoever it names", async () => {
  const key = await makeKey();
  const publicKey = await readRequest(await makeRequest(key, "root"));
  expect(await coordinates(publicKey)).toEqual(await coordinates(key.publicKey));
});

test("readRequest() refuses every truncated prefix, and gives no other key for any changed byte", async () => {
  const key = await makeKey();
  const request = await makeRequest(key, "alice");
  for (let length = 0; length < request.length; length += 3) {
    await expect(readRequest(request.slice(0, length))).rejects.toBeInstanceOf(UsageError);
  }
  await checkAsync(
    fc.asyncProperty(fc.nat(request.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const changed = request.slice();
      changed[at]! ^= change;
      const outcome = await readRequest(changed).catch((error: unknown) => error);
      // the bytes around what was signed may have more than one form
      if (outcome instanceof UsageError) return;
      expect(await coordinates(outcome as CryptoKey)).toEqual(await coordinates(key.publicKey));
    }),
    200,
  );
  await checkAsync(
    fc.asyncProperty(bytes(0, 300), async (hostile) => {
      await expect(readRequest(hostile)).rejects.toBeInstanceOf(UsageError);
    }),
  );
});

test("publicKeyOf() gives the key to issue a certificate again", async () => {
  const first = await authority.issue("alice", { validDays: 1 });
  const again = await publicKeyOf(first.certPem);
  expect((await crypto.subtle.exportKey("spki", again)).byteLength).toBe(91);
  expect(new X509Certificate(first.certPem).validFromDate.getTime()).toBe(NOW_MS - DAY_MS);
});
