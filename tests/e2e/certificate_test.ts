/** Log-in by certificate: alone, with a password, revoked while connected, and with a server certificate that changes. */

import { expect } from "bun:test";
import { X509Certificate } from "node:crypto";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { issueClient, makeAuthority, mustOnServer, onServer, serverState } from "./harness/certificates.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import {
  executable,
  INNER_SERVER,
  PASSWORD,
  runToEnd,
  SPLIT_TUNNEL,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { until, within } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";

const BY_CERTIFICATE = ["--auth", "cert"];

async function refusal(
  network: Network,
  args: readonly string[],
): Promise<{ status: number; stderr: string }> {
  const common = ["--server", SERVER_ADDRESS, "--split-tunnel", SPLIT_TUNNEL, "--tun", "omail9"];
  const { status, stderr } = await runToEnd(network, network.client(0), "client", {
    args: [...common, ...args],
  });
  return { status, stderr };
}

networkTest(
  "certificate: revoking ends the live session within 2 s; its client is told why and does not come back",
  {},
  async (network) => {
    await makeAuthority(network);
    const alice = await issueClient(network, "alice");
    const server = await startServer(network, { args: ["--auth", "any"] });
    const client = await startClient(network, 0, { args: [...alice, ...BY_CERTIFICATE] });
    expect((await server.status()).sessions.map(({ user }) => user)).toEqual(["alice"]);
    expect((await ping(network.client(0), INNER_SERVER, { count: 3 })).received).toBe(3);

    const startMs = performance.now();
    expect(await mustOnServer(network, "cert", "revoke", "alice")).toMatch(
      /has read its certificates again and ended 1/,
    );
    expect(await within("The client's end", 5_000, client.program.exited)).toBe(4);
    const tookMs = performance.now() - startMs;
    console.log(`From the command to the client's end: ${Math.round(tookMs)} ms`);
    expect(tookMs).toBeLessThan(2_000);
    expect(client.program.output).toMatch(
      /The server refused: Your certificate is no longer good: the certificate was revoked/,
    );
    expect((await server.status()).sessions).toEqual([]);
    const audit = await mustOnServer(network, "audit", "show", "--user", "alice");
    expect(audit).toMatch(/ login .*method=certificate/);
    expect(audit).toMatch(/ revoked .*name=alice reason="by uid 0/);
    // also for a new connection, and beside the right password
    for (const auth of ["cert", "both"]) {
      expect(await refusal(network, [...alice, "--auth", auth])).toEqual({
        status: 4,
        stderr: expect.stringMatching(/Your certificate was refused: the certificate was revoked/),
      });
    }
  },
);

networkTest("certificate: reload replaces the server's certificate and drops nobody", {}, async (network) => {
  await makeAuthority(network);
  const server = await startServer(network);
  const client = await startClient(network, 0, {
    args: [...(await issueClient(network, "alice")), ...BY_CERTIFICATE],
  });
  const shown = async (): Promise<string> => {
    const connect = ["openssl", "s_client", "-connect", `${SERVER_ADDRESS}:51820`, "-alpn", "omail/1"];
    const { stdout } = await network.client(0).tryRun(connect, { input: "" });
    return /-----BEGIN CERTIFICATE-----[^-]+/.exec(stdout)?.[0] ?? "";
  };
  const before = await shown();
  expect(before).not.toBe("");
  await mustOnServer(network, "cert", "issue", "vpn", "--server", "--host", SERVER_ADDRESS);
  expect((await server.control("reload")).status).toBe(0);
  expect(await shown()).not.toBe(before);
  expect((await ping(network.client(0), INNER_SERVER, { count: 10 })).received).toBeGreaterThan(0);
  // the control connection stands, with its old certificate: a rekey goes through
  expect((await server.status()).sessions.length).toBe(1);
  expect(client.program.output).not.toMatch(/trying again/);
  await client.stop();
});

networkTest("certificate: --auth both wants certificate and password of one user", {}, async (network) => {
  await makeAuthority(network);
  const [own, other] = [await issueClient(network, "default"), await issueClient(network, "bob")];
  await startServer(network, { args: ["--auth", "both"] });
  const client = await startClient(network, 0, { args: [...own, "--auth", "both"] });
  await client.stop();
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [[...own, ...BY_CERTIFICATE], /a password is needed besides the certificate/],
    [[], /a certificate is needed besides the password/],
    [[...other, "--auth", "both"], /the certificate names "bob"/],
  ];
  for (const [args, says] of cases) {
    expect(await refusal(network, args)).toEqual({ status: 4, stderr: expect.stringMatching(says) });
  }
});

networkTest(
  "certificate: what a user of the database must prove is changed while the user is connected",
  {},
  async (network) => {
    await makeAuthority(network);
    const own = await issueClient(network, "alice");
    const env = { OMAIL_PASSWORD: PASSWORD };
    const change = (...args: readonly string[]) =>
      network.server.run([executable("server"), ...args, "--state-dir", serverState(network)], { env });
    await change("user", "add", "alice");
    // nobody gives carol a password
    await mustOnServer(network, "user", "add", "carol", "--auth", "cert");
    expect(await mustOnServer(network, "user", "list")).toMatch(/^carol +enabled +cert /m);
    await startServer(network, { args: ["--auth", "password"] });
    const alice = await startClient(network, 0, { args: ["--user", "alice"] });
    const startMs = performance.now();
    await change("user", "set", "alice", "--auth", "both");
    expect(await within("The client's end", 5_000, alice.program.exited)).toBe(4);
    const tookMs = performance.now() - startMs;
    console.log(`From the command to the client's end: ${Math.round(tookMs)} ms`);
    expect(tookMs).toBeLessThan(2_000);
    expect(alice.program.output).toContain("a certificate is needed besides the password");
    await (await startClient(network, 0, { args: ["--user", "alice", ...own, "--auth", "both"] })).stop();
    const carol = await issueClient(network, "carol");
    await (await startClient(network, 0, { args: [...carol, ...BY_CERTIFICATE] })).stop();
    await change("user", "set", "alice", "--auth", "none");
    await (await startClient(network, 0, { args: ["--user", "alice"] })).stop();
  },
);

networkTest("certificate: bad files are named, on both sides", {}, async (network) => {
  await makeAuthority(network);
  const alice = await issueClient(network, "alice");
  const keyFile = join(network.directory, "alice.key");
  const crl = join(serverState(network), "ca/crl.pem");
  await chmod(keyFile, 0o644);
  expect(await refusal(network, [...alice, ...BY_CERTIFICATE])).toEqual({
    status: 2,
    stderr: expect.stringMatching(/alice.key": it holds a key and other users can reach it \(mode 0644\)/),
  });
  await chmod(keyFile, 0o600);
  expect(await refusal(network, [...alice.slice(0, 4), ...BY_CERTIFICATE])).toEqual({
    status: 2,
    stderr: expect.stringMatching(/nothing would prove the server, expected --ca FILE or --pin/),
  });
  const strangers = ["--state-dir", join(network.directory, "strangers")];
  const stranger = ["--name", network.server.namespace, ...strangers];
  await network.server.run([executable("server"), "cert", "init", ...stranger]);
  const issue = [executable("server"), "cert", "issue", "eve", "--out", network.directory, ...strangers];
  await network.server.run(issue);
  const server = await startServer(network, { args: ["--auth", "any"] });
  const ca = alice.slice(4);
  const file = (name: string): string => join(network.directory, name);
  const own = await readFile(join(serverState(network), "server.pem"), "utf8");
  await writeFile(file("own.pem"), own.slice(0, own.indexOf("-----BEGIN PRIVATE KEY")));
  await writeFile(file("own.key"), own.slice(own.indexOf("-----BEGIN PRIVATE KEY")), { mode: 0o600 });
  const shown: readonly (readonly [string, string, number, RegExp])[] = [
    ["eve.pem", "eve.key", 4, /issued by another certificate authority/],
    ["own.pem", "own.key", 4, /for another purpose, expected one for TLS clients/],
    ["eve.pem", "alice.key", 2, /the private key is another's/],
    ["alice.key", "alice.key", 2, /it holds "PRIVATE KEY", expected certificates only/],
  ];
  for (const [cert, key, status, says] of shown) {
    const flags = ["--cert", file(cert), "--key", file(key), ...ca, ...BY_CERTIFICATE];
    expect({ cert, ...(await refusal(network, flags)) }).toEqual({
      cert,
      status,
      stderr: expect.stringMatching(says),
    });
  }
  // a list that is damaged while the server runs: it says so and goes on
  const good = await readFile(crl, "utf8");
  await writeFile(crl, "-----BEGIN X509 CRL-----\ndamaged");
  await until("the error in the log", 5_000, async () =>
    server.program.output.includes("Cannot take over the revocation list, going on with the old one")
      ? true
      : undefined,
  );
  await writeFile(crl, good);
  await (await startClient(network, 0, { args: [...alice, ...BY_CERTIFICATE] })).stop();
  await server.stop();
  await writeFile(crl, "-----BEGIN X509 CRL-----\ndamaged");
  const started = await runToEnd(network, network.server, "server", {
    args: ["--state-dir", serverState(network)],
  });
  expect(started).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/ca\/crl.pem": block 1 of 1 is cut off/),
  });
  const revoke = await onServer(network, "cert", "revoke", "alice");
  expect(revoke).toMatchObject({ status: 2, stderr: expect.stringMatching(/crl.pem/) });
});

networkTest(
  "certificate: a company's authority by files, and its revocation list as soon as the file changes",
  {},
  async (network) => {
    const company = ["--state-dir", join(network.directory, "company")];
    const run = (...args: readonly string[]) =>
      network.server.run([executable("server"), ...args, ...company], { cwd: network.directory });
    const file = (name: string): string => join(network.directory, name);
    await run("cert", "init", "--name", "Company CA");
    await run("cert", "issue", "carol", "--out", network.directory);
    await run("cert", "issue", "default", "--out", network.directory);
    const trust = ["--ca", file("omail-ca.pem"), "--crl", join(company[1]!, "ca/crl.pem")];
    // the server's own certificate stays the self-signed one: clients pin it
    const server = await startServer(network, { args: [...trust, "--auth", "any"] });
    const own = await Bun.file(join(serverState(network), "server.pem")).text();
    const pin = ["--pin", new X509Certificate(own).fingerprint256, ...BY_CERTIFICATE];
    const login = (name: string) => ["--cert", file(`${name}.pem`), "--key", file(`${name}.key`), ...pin];
    expect(await refusal(network, login("carol"))).toEqual({
      status: 4,
      stderr: expect.stringMatching(/its user "carol" is not known here/),
    });
    const client = await startClient(network, 0, { args: login("default") });
    const startMs = performance.now();
    // no server runs with the company's state directory, so nobody is told
    await run("cert", "revoke", "default");
    expect(await within("The client's end", 5_000, client.program.exited)).toBe(4);
    const tookMs = performance.now() - startMs;
    console.log(`From the command, which tells nobody, to the client's end: ${Math.round(tookMs)} ms`);
    expect(tookMs).toBeLessThan(2_500);
    expect((await server.status()).sessions).toEqual([]);
  },
);
