import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  certificateObjection,
  judgeClientCertificate,
  readClientTrust,
} from "../../lib/certificate_check.ts";
import { UsageError } from "../../lib/errors.ts";
import { CLIENT_AUTH } from "../../lib/x509.ts";
import { bytes, checkAsync } from "../support/property.ts";
import { DAY_MS, derOf, TestAuthority } from "../support/test_authority.ts";

const NOW_MS = Date.UTC(2026, 5, 1);
const authority = await TestAuthority.make("ours", NOW_MS);
const other = await TestAuthority.make("ours", NOW_MS);
const alice = await authority.issue("alice");

async function trustIn(caPem: string, crl: string | null = null, nowMs = NOW_MS) {
  const list = crl === null ? null : { content: new TextEncoder().encode(crl), what: '"crl.pem"' };
  return await readClientTrust({ ca: { pem: caPem, what: '"ca.pem"' }, crl: list }, nowMs);
}

const trust = await trustIn(authority.certPem, await authority.revocations());

async function problemOf(...chain: Uint8Array<ArrayBuffer>[]): Promise<string> {
  const verdict = await judgeClientCertificate(chain, trust, NOW_MS);
  return "problem" in verdict ? verdict.problem : `accepted as ${verdict.certificate.user}`;
}

test("judgeClientCertificate() accepts a client's certificate and says whose it is", async () => {
  const verdict = await judgeClientCertificate([alice.der], trust, NOW_MS);
  expect(verdict).toMatchObject({ certificate: { user: "alice", serial: alice.serial } });
});

test("judgeClientCertificate() names what is wrong: time, authority, purpose", async () => {
  const early = await authority.issue("bob", { nowMs: NOW_MS + 2 * DAY_MS });
  const late = await authority.issue("bob", { nowMs: NOW_MS - 40 * DAY_MS });
  const server = await authority.issue("vpn", { use: "server", hosts: ["vpn.example"] });
  expect(await problemOf(early.der)).toBe("the certificate is not valid before 2026-06-02T00:00:00Z");
  expect(await problemOf(late.der)).toBe("the certificate expired at 2026-05-22T00:00:00Z");
  expect(await problemOf((await other.issue("alice")).der)).toMatch(/another certificate authority/);
  expect(await problemOf(server.der)).toMatch(/another purpose, expected one for TLS clients/);
  expect(await problemOf(derOf(authority.certPem))).toMatch(/one of a certificate authority/);
  const anyPurpose = await authority.issueOdd({ subject: [{ CN: ["alice"] }] });
  expect(await problemOf(anyPurpose.der)).toMatch(/another purpose/);
  expect(await problemOf()).toMatch(/another certificate authority/);
});

test("judgeClientCertificate() refuses names that are paths, hold control characters, or are several", async () => {
  const purposes = [CLIENT_AUTH];
  const odd = async (...subject: Record<string, string[]>[]) =>
    problemOf((await authority.issueOdd({ subject, purposes })).der);
  expect(await odd({ CN: ["../../root"] })).toMatch(/is a path/);
  expect(await odd({ CN: ["a\u0000b"] })).toMatch(/control or invisible/);
  expect(await odd({ CN: ["\u001b]0;x\u0007"] })).toMatch(/control or invisible/);
  expect(await odd({ CN: ["a"] }, { CN: ["b"] })).toMatch(/2 common names/);
  expect(await odd({ O: ["only an organisation"] })).toMatch(/names nobody/);
  const mail = await authority.issueOdd({
    subject: [],
    purposes,
    names: [{ type: "email", value: "a@b.example" }],
  });
  expect(await problemOf(mail.der)).toBe("accepted as a@b.example");
});

test("judgeClientCertificate() follows intermediate authorities, but no client that issued another", async () => {
  const root = await authority.issueOdd({ subject: [{ CN: ["root"] }], isAuthority: true, serial: "77" });
  const rootTrust = await trustIn(root.certPem);
  const below = await authority.issueOdd({ subject: [{ CN: ["below"] }], isAuthority: true, issuer: root });
  const carol = await authority.issueOdd({
    subject: [{ CN: ["carol"] }],
    purposes: [CLIENT_AUTH],
    issuer: below,
  });
  const verdict = await judgeClientCertificate([carol.der, below.der], rootTrust, NOW_MS);
  expect(verdict).toMatchObject({ certificate: { user: "carol" } });
  // the way is broken
  expect(await judgeClientCertificate([carol.der], rootTrust, NOW_MS)).toHaveProperty("problem");
  const mallory = await authority.issueOdd({
    subject: [{ CN: ["admin"] }],
    purposes: [CLIENT_AUTH],
    issuer: alice,
  });
  expect(await problemOf(mallory.der, alice.der)).toMatch(/another certificate authority/);
});

test("judgeClientCertificate() holds authorities to their path length", async () => {
  // ours was made with a path length of 0: it issues no further authorities
  const below = await authority.issueOdd({ subject: [{ CN: ["below"] }], isAuthority: true });
  const eve = await authority.issueOdd({
    subject: [{ CN: ["eve"] }],
    purposes: [CLIENT_AUTH],
    issuer: below,
  });
  expect(await problemOf(eve.der, below.der)).toMatch(/so high above/);
});

test("judgeClientCertificate() and certificateObjection() honour the revocation list", async () => {
  const verdict = await judgeClientCertificate([alice.der], trust, NOW_MS);
  if (!("certificate" in verdict)) throw new Error("expected to be accepted");
  expect(certificateObjection(verdict.certificate, trust, NOW_MS)).toBeNull();
  const revoked = await trustIn(authority.certPem, await authority.revocations("0a", alice.serial));
  expect(await judgeClientCertificate([alice.der], revoked, NOW_MS)).toEqual({
    problem: "the certificate was revoked",
  });
  expect(certificateObjection(verdict.certificate, revoked, NOW_MS)).toBe("the certificate was revoked");
  expect(certificateObjection(verdict.certificate, trust, NOW_MS + 31 * DAY_MS)).toMatch(/expired at/);
});

test("judgeClientCertificate() refuses when the list has run out, or its issuer has none", async () => {
  const [list] = trust.revocations!;
  const ended = { ...trust, revocations: [{ ...list!, nextUpdateMs: NOW_MS - 1000 }] };
  expect(await judgeClientCertificate([alice.der], ended, NOW_MS)).toEqual({
    problem:
      'the revocation list of "CN=ours" is out of date since 2026-05-31T23:59:59.000Z, expected a newer one',
  });
  const noList = { ...trust, revocations: [] };
  expect(await judgeClientCertificate([alice.der], noList, NOW_MS)).toEqual({
    problem: "the server has no revocation list of the certificate's issuer",
  });
});

test("readClientTrust() names the file that is damaged, old or no authority", async () => {
  const crl = await authority.revocations();
  await expect(trustIn("garbage")).rejects.toThrow(/"ca.pem": expected PEM text/);
  await expect(trustIn(alice.certPem)).rejects.toThrow(/"ca.pem": "CN=alice" is no certificate authority/);
  await expect(trustIn(alice.keyPem)).rejects.toThrow(/"ca.pem": it holds "PRIVATE KEY"/);
  await expect(trustIn(authority.certPem, null, NOW_MS + 4000 * DAY_MS)).rejects.toThrow(
    /"ca.pem".*expired at 2036/,
  );
  await expect(trustIn(authority.certPem, authority.certPem)).rejects.toThrow(
    /"crl.pem": it holds "CERTIFICATE"/,
  );
  await expect(trustIn(authority.certPem, crl.slice(0, 200))).rejects.toThrow(
    /"crl.pem": block 1 of 1 is cut off/,
  );
  await expect(trustIn(authority.certPem, await other.revocations())).rejects.toThrow(
    /"crl.pem": it is damaged, or was not signed/,
  );
});

test("judgeClientCertificate() gives a verdict on every truncated prefix and every changed byte", async () => {
  for (let length = 0; length < alice.der.length; length++) {
    expect(await judgeClientCertificate([alice.der.slice(0, length)], trust, NOW_MS)).toHaveProperty(
      "problem",
    );
  }
  await checkAsync(
    fc.asyncProperty(fc.nat(alice.der.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const changed = alice.der.slice();
      changed[at]! ^= change;
      expect(await judgeClientCertificate([changed], trust, NOW_MS)).toHaveProperty("problem");
    }),
    500,
  );
  await checkAsync(
    fc.asyncProperty(fc.array(bytes(0, 400), { maxLength: 8 }), async (chain) => {
      expect(await judgeClientCertificate(chain, trust, NOW_MS)).toHaveProperty("problem");
    }),
    200,
  );
});

test("readClientTrust() never believes a changed revocation list", async () => {
  const der = derOf(await authority.revocations(alice.serial));
  const sources = (content: Uint8Array<ArrayBuffer>) => ({
    ca: { pem: authority.certPem, what: "ca" },
    crl: { content, what: "crl" },
  });
  const good = await readClientTrust(sources(der), NOW_MS);
  expect(good.revocations?.[0]?.revoked.has(alice.serial)).toBe(true);
  for (let length = 0; length < der.length; length += 5) {
    await expect(readClientTrust(sources(der.slice(0, length)), NOW_MS)).rejects.toBeInstanceOf(UsageError);
  }
  await checkAsync(
    fc.asyncProperty(fc.nat(der.length - 1), fc.integer({ min: 1, max: 255 }), async (at, change) => {
      const changed = der.slice();
      changed[at]! ^= change;
      const outcome = await readClientTrust(sources(changed), NOW_MS).catch((error: unknown) => error);
      // the bytes around what was signed may have more than one form
      if (outcome instanceof UsageError) return;
      expect(outcome).toMatchObject({ revocations: good.revocations! });
    }),
    200,
  );
});
