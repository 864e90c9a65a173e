import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeServerConfig, readServerSettings, type ServerConfig } from "../../lib/config_server.ts";
import { UsageError } from "../../lib/errors.ts";
import { Secret } from "../../lib/secret.ts";
import { loadAddresses, loadCertificate, loadServerSecret } from "../../lib/server_identity.ts";

const stateDir = mkdtempSync(join(tmpdir(), "omail-identity-"));
afterAll(() => rmSync(stateDir, { recursive: true }));

function config(values: Record<string, unknown> = {}): ServerConfig {
  const layer = { values: { "state-dir": stateDir, ...values }, describe: () => "" };
  return makeServerConfig(readServerSettings([layer]).values, new Secret("x"));
}

describe("loadCertificate()", () => {
  test("makes a self-signed certificate once", async () => {
    const pair = await loadCertificate(config(), Date.now());
    expect(pair.certPem).toStartWith("-----BEGIN CERTIFICATE-----");
    expect(pair.keyPem).toStartWith("-----BEGIN PRIVATE KEY-----");
    expect(await loadCertificate(config(), Date.now())).toEqual(pair);
  });

  test("takes the operator's files, and names one that is missing", async () => {
    const pair = await loadCertificate(config(), Date.now());
    const cert = join(stateDir, "c.pem");
    const key = join(stateDir, "k.pem");
    writeFileSync(cert, pair.certPem);
    await expect(loadCertificate(config({ cert, key }), Date.now())).rejects.toThrow(
      /^--key: .*k\.pem" \(ENOENT\)/,
    );
    writeFileSync(key, pair.keyPem);
    expect(await loadCertificate(config({ cert, key }), Date.now())).toEqual(pair);
  });
});

test("loadServerSecret() keeps 32 random bytes, and refuses a damaged file", async () => {
  const secret = await loadServerSecret(stateDir);
  expect(secret).toHaveLength(32);
  expect(await loadServerSecret(stateDir)).toEqual(secret);
  writeFileSync(join(stateDir, "server.secret"), "abcd\n");
  await expect(loadServerSecret(stateDir)).rejects.toThrow(UsageError);
  writeFileSync(join(stateDir, "server.secret"), "not hexadecimal\n");
  await expect(loadServerSecret(stateDir)).rejects.toThrow(UsageError);
});

describe("loadAddresses()", () => {
  test("keeps a random unique local /64 for each interface (RFC 4193)", async () => {
    const first = await loadAddresses(config());
    expect(first[0]).toBe("10.8.0.1/24");
    expect(first[1]).toMatch(/^fd[0-9a-f]{2}:[0-9a-f:]+::1\/64$/);
    expect(await loadAddresses(config())).toEqual(first);
    expect((await loadAddresses(config({ tun: "omail1" })))[1]).not.toBe(first[1]);
  });

  test("takes the given address, or none", async () => {
    expect(await loadAddresses(config({ "tun-ip6": "fd00::1/64" }))).toEqual(["10.8.0.1/24", "fd00::1/64"]);
    expect(await loadAddresses(config({ "tun-ip6": "none" }))).toEqual(["10.8.0.1/24"]);
  });
});
