import { afterEach, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { initAuthority, openAuthority } from "../../lib/ca_authority.ts";
import { makeKey, makeRequest } from "../../lib/ca_issue.ts";
import { certificateFingerprint } from "../../lib/certificate.ts";
import { readClientTrust } from "../../lib/certificate_check.ts";
import type { AuditEvent, AuditSink } from "../../lib/audit_event.ts";
import { enrol } from "../../lib/enrol_client.ts";
import { enrolClient } from "../../lib/enrol_server.ts";
import { writeEnrolToken } from "../../lib/enrol_store.ts";
import type { EnrolUri } from "../../lib/enrol_uri.ts";
import { MAX_ADDRESS_FAILURES } from "../../lib/limits.ts";
import { RefusedError } from "../../lib/errors.ts";
import { encodeProfileLine } from "../../lib/profile.ts";
import { PASSWORD_ONLY } from "../../lib/server_certificates.ts";
import {
  ControlHarness,
  testCertificate,
  type TestServer,
  untilConnected,
} from "../support/control_harness.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratchDirectory = scratchDirectories();
const harness = new ControlHarness();
afterEach(() => harness.stop());

const DAY_MS = 86_400_000;
const profile = encodeProfileLine({
  name: "alice",
  server: ["127.0.0.1:51820"],
  user: "alice",
  auth: "cert",
});

/** A server with an authority that enrols clients. */
async function enrollingServer(audit?: AuditSink): Promise<{
  server: TestServer;
  stateDir: string;
  caPem: string;
  pin: string;
}> {
  const stateDir = scratchDirectory();
  const ca = await initAuthority(stateDir, { name: "ours", validDays: 10 }, Date.now());
  const request = { name: "vpn", use: "server", hosts: ["127.0.0.1"], validDays: 5 } as const;
  const own = await openAuthority(stateDir).issue(request, Date.now());
  const server = await harness.server({
    certificate: { certPem: own.certPem + ca.certPem, keyPem: own.keyPem! },
    auth: {
      ...PASSWORD_ONLY,
      mode: "any",
      trust: await readClientTrust({ ca: { pem: ca.certPem, what: "ca" }, crl: null }, Date.now()),
    },
    enrol: (token, csr) => enrolClient(stateDir, token, csr, Date.now()),
    ...(audit === undefined ? {} : { audit }),
  });
  return { server, stateDir, caPem: ca.certPem, pin: certificateFingerprint(ca.certPem) };
}

function tokenIn(stateDir: string, lifeMs = DAY_MS): Uint8Array<ArrayBuffer> {
  const token = crypto.getRandomValues(new Uint8Array(16));
  const nowMs = Date.now();
  writeEnrolToken(
    stateDir,
    token,
    { user: "alice", expiresMs: nowMs + lifeMs, validDays: 3, profile },
    nowMs,
  );
  return token;
}

const uriOf = ({ server }: TestServer, token: Uint8Array<ArrayBuffer>, pin: string): EnrolUri => ({
  server: { host: "127.0.0.1", port: server.port },
  token,
  pin,
});

test("a token brings a certificate for a key that was made on the client, and the client logs in with it", async () => {
  const { server, stateDir, caPem, pin } = await enrollingServer();
  const got = await enrol(uriOf(server, tokenIn(stateDir), pin));
  expect(got).toMatchObject({ name: "alice", user: "alice", auth: "cert" });
  const client = harness.client(server, {
    identity: { certPem: got.cert!, keyPem: got.key! },
    method: "certificate",
    trust: { caPem, pins: [] },
  });
  await untilConnected(client);
  expect(
    server.log.lines.filter((line) => line.startsWith("info client enrolled user=alice serial=")),
  ).toHaveLength(1);
  const [entry] = await openAuthority(stateDir).find("alice", Date.now());
  expect(entry).toMatchObject({ use: "client", state: "valid" });
});

test("a token works once; the second use is refused and logged with its user", async () => {
  const { server, stateDir, pin } = await enrollingServer();
  const uri = uriOf(server, tokenIn(stateDir), pin);
  const outcomes = await Promise.allSettled([enrol(uri), enrol(uri), enrol(uri)]);
  expect(outcomes.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  await expect(enrol(uri)).rejects.toThrow("Cannot enrol: the token was used before");
  expect(server.log.lines.some((line) => /^warn log-in refused user=alice .*used before/.test(line))).toBe(
    true,
  );
  expect(await openAuthority(stateDir).find("alice", Date.now())).toHaveLength(1);
});

test("wrong and expired tokens are refused, and a token for another server is not sent", async () => {
  const { server, stateDir, pin } = await enrollingServer();
  const token = tokenIn(stateDir, -1);
  await expect(enrol(uriOf(server, token, pin))).rejects.toThrow("the token has expired");
  await expect(enrol(uriOf(server, new Uint8Array(16), pin))).rejects.toThrow("the token is wrong");
  const good = tokenIn(stateDir);
  const other = pin.replace(/^../, pin.startsWith("00") ? "01" : "00");
  await expect(enrol(uriOf(server, good, other))).rejects.toBeInstanceOf(RefusedError);
  await enrol(uriOf(server, good, pin)); // so it is still good
});

test("guessing at tokens shuts the address out, and the audit log tells of it and of who enrolled", async () => {
  const events: AuditEvent[] = [];
  const audit = { record: (event: AuditEvent): void => void events.push(event), mayLogIn: true };
  const { server, stateDir, pin } = await enrollingServer(audit);
  const uri = uriOf(server, tokenIn(stateDir), pin);
  await enrol(uri);
  // a second use is no guess
  await expect(enrol(uri)).rejects.toThrow("used before");
  for (let i = 0; i < MAX_ADDRESS_FAILURES; i++)
    await expect(enrol(uriOf(server, new Uint8Array(16).fill(i), pin))).rejects.toThrow("the token is wrong");
  const good = uriOf(server, tokenIn(stateDir), pin);
  await expect(enrol(good)).rejects.toThrow("Too many failed log-ins from this address");
  const refused = { type: "refused", user: null, reason: "Cannot enrol: the token is wrong" };
  expect(events).toMatchObject([
    { type: "enrolled", user: "alice", serial: expect.stringMatching(/^[0-9a-f]+$/i) },
    { type: "refused", user: "alice" },
    ...Array.from({ length: MAX_ADDRESS_FAILURES }, () => refused),
    { type: "ban", subject: "address", value: "127.0.0.1" },
  ]);
  server.server.lift("127.0.0.1");
  await enrol(good);
});

test("while nothing can be recorded and nobody shall come in without a record, no token is used up", async () => {
  const audit = { record: (): void => undefined, mayLogIn: false };
  const { server, stateDir, pin } = await enrollingServer(audit);
  const uri = uriOf(server, tokenIn(stateDir), pin);
  expect(await enrol(uri).catch(String)).toContain("cannot record log-ins and enrolments at the moment");
  audit.mayLogIn = true;
  expect((await enrol(uri)).user).toBe("alice");
});

test("a client's certificate of the same authority does not pass for the server's", async () => {
  const { stateDir, caPem, pin } = await enrollingServer();
  const request = { name: "127.0.0.1", use: "client", hosts: ["127.0.0.1"], validDays: 5 } as const;
  const mallory = await openAuthority(stateDir).issue(request, Date.now());
  const impostor = await harness.server({
    certificate: { certPem: mallory.certPem + caPem, keyPem: mallory.keyPem! },
  });
  await expect(enrol(uriOf(impostor, tokenIn(stateDir), pin))).rejects.toBeInstanceOf(RefusedError);
  const trust = { caPem, pins: [] };
  await expect(harness.client(impostor, { trust }).client.done).rejects.toThrow(
    /Cannot trust the certificate/,
  );
});

test("a damaged request does not use the token up", async () => {
  const { stateDir } = await enrollingServer();
  const token = tokenIn(stateDir);
  const refused = await enrolClient(stateDir, token, Uint8Array.of(1, 2, 3), Date.now());
  expect(refused).toMatchObject({
    refusal: { reason: expect.stringMatching(/signing request/) },
    user: "alice",
  });
  const request = await makeRequest(await makeKey(), "root");
  expect(await enrolClient(stateDir, token, request, Date.now())).toMatchObject({ user: "alice" });
});

test("only the hash of a token is kept", async () => {
  const { stateDir } = await enrollingServer();
  const token = tokenIn(stateDir);
  const [name] = readdirSync(join(stateDir, "enrol"));
  expect(name).toMatch(/^[0-9a-f]{64}\.json$/);
  expect(await Bun.file(join(stateDir, "enrol", name!)).text()).not.toContain(token.toHex());
});

test("a server without enrolment says so", async () => {
  const server = await harness.server();
  const { certPem } = await testCertificate();
  const uri = uriOf(server, new Uint8Array(16), certificateFingerprint(certPem));
  await expect(enrol(uri)).rejects.toThrow("this server does not");
});
