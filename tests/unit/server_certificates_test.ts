import { afterEach, expect, test } from "bun:test";
import type { AuditEvent } from "../../lib/audit_event.ts";
import { dirname } from "node:path";
import { AUTH_MODES, type AuthMode } from "../../lib/auth_mode.ts";
import { readClientTrust } from "../../lib/certificate_check.ts";
import type { ClientOptions } from "../../lib/client.ts";
import { systemClock } from "../../lib/clock.ts";
import { MAX_ADDRESS_FAILURES } from "../../lib/limits.ts";
import { RefusedError } from "../../lib/errors.ts";
import {
  PASSWORD_ONLY,
  proofRefusal,
  type ServerAuth,
  proofsProblem,
} from "../../lib/server_certificates.ts";
import { makeVerifier } from "../../lib/password.ts";
import { UserFollower } from "../../lib/user_follower.ts";
import { UserStore } from "../../lib/user_store.ts";
import { certificateFingerprint } from "../../lib/certificate.ts";
import {
  ControlHarness,
  PASSWORD,
  testCertificate,
  type TestClient,
  until,
  untilConnected,
} from "../support/control_harness.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";
import { testUser } from "../support/user_records.ts";
import { DAY_MS, TestAuthority, type TestCertificate } from "../support/test_authority.ts";

const scratch = scratchDirectories();
const harness = new ControlHarness();
afterEach(() => harness.stop());

const authority = await TestAuthority.make();
const serverPair = await authority.issue("vpn", { use: "server", hosts: ["127.0.0.1"] });
const serverChain = { certPem: serverPair.certPem + authority.certPem, keyPem: serverPair.keyPem };
const alice = await authority.issue("alice");

async function authOf(mode: AuthMode, ...revoked: string[]): Promise<ServerAuth> {
  const crl = { content: new TextEncoder().encode(await authority.revocations(...revoked)), what: "crl" };
  const trust = await readClientTrust({ ca: { pem: authority.certPem, what: "ca" }, crl }, Date.now());
  return { ...PASSWORD_ONLY, mode, trust };
}

const startServer = async (mode: AuthMode, options: object = {}) =>
  harness.server({ certificate: serverChain, auth: await authOf(mode), ...options });

/** A client with a certificate that trusts our authority. */
function withCertificate(
  identity: TestCertificate,
  more: Partial<ClientOptions> = {},
): Partial<ClientOptions> {
  return { identity, method: "certificate", trust: { caPem: authority.certPem, pins: [] }, ...more };
}

async function refusalOf(client: TestClient): Promise<string> {
  const outcome: unknown = await client.client.done.catch((error: unknown) => error);
  expect(outcome).toBeInstanceOf(RefusedError);
  return (outcome as RefusedError).message;
}

test("a certificate logs in as the user it names, without any password", async () => {
  const server = await startServer("cert", { users: [] });
  const client = harness.client(server, withCertificate(alice));
  await untilConnected(client);
  expect((await server.server.status()).sessions.map(({ user }) => user)).toEqual(["alice"]);
});

test("the audit log tells how each log-in was proved; who is shut out does not get in by certificate either", async () => {
  const methods: string[] = [];
  const record = (event: AuditEvent): void => void (event.type === "login" && methods.push(event.method));
  const server = await startServer("any", { audit: { record, mayLogIn: true } });
  for (const more of [withCertificate(alice), withCertificate(alice, { method: "password" }), {}]) {
    const client = harness.client(server, more);
    await untilConnected(client);
    await client.client.stop();
  }
  expect(methods).toEqual(["certificate", "password+certificate", "password"]);
  const wrong = { user: "bob", password: () => Promise.resolve("wrong") };
  for (let i = 0; i < MAX_ADDRESS_FAILURES; i++) await refusalOf(harness.client(server, wrong));
  expect(await refusalOf(harness.client(server, withCertificate(alice)))).toMatch(/Too many failed log-ins/);
}, 30_000);

test("networks and groups of a user without a password count", async () => {
  const user = { name: "alice", password: null, groups: ["staff"] };
  const server = await startServer("cert", { users: [{ ...user, denyFrom: ["127.0.0.0/8"] }] });
  expect(server.server.groupsOf("alice")).toEqual(["staff"]);
  expect(await refusalOf(harness.client(server, withCertificate(alice)))).toMatch(
    /may not log in from this address/,
  );
  await server.server.reload({ users: [user] });
  await untilConnected(harness.client(server, withCertificate(alice)));
});

test("a certificate comes back with its resume token after the connection was lost", async () => {
  const server = await startServer("any");
  const relay = await harness.relay(server.server.port);
  const client = harness.clientOf(relay.port, server.data, withCertificate(alice));
  await untilConnected(client);
  relay.cut();
  await untilConnected(client, 2);
  expect(client.log.lines.some((line) => line.startsWith("info session resumed"))).toBe(true);
});

test("refused certificates say why: other authority, purpose, time, revocation", async () => {
  const server = await startServer("any");
  await server.server.reload({ auth: await authOf("any", alice.serial) });
  const other = await TestAuthority.make();
  const reasons: readonly (readonly [TestCertificate, RegExp])[] = [
    [alice, /the certificate was revoked/],
    [await other.issue("alice"), /another certificate authority/],
    [await authority.issue("alice", { use: "server", hosts: ["127.0.0.1"] }), /another purpose/],
    [await authority.issue("alice", { nowMs: Date.now() - 40 * DAY_MS }), /expired at/],
    [await authority.issue("alice", { nowMs: Date.now() + 2 * DAY_MS }), /not valid before/],
  ];
  for (const [identity, reason] of reasons) {
    expect(await refusalOf(harness.client(server, withCertificate(identity)))).toMatch(reason);
  }
  // the right password does not help whoever shows a revoked certificate
  expect(await refusalOf(harness.client(server, withCertificate(alice, { method: "password" })))).toMatch(
    /revoked/,
  );
});

test("both: neither password nor certificate alone is enough, and they must name one user", async () => {
  const server = await startServer("both");
  await untilConnected(harness.client(server, withCertificate(alice, { method: "password" })));
  expect(await refusalOf(harness.client(server))).toMatch(/a certificate is needed besides the password/);
  expect(await refusalOf(harness.client(server, withCertificate(alice)))).toMatch(
    /a password is needed besides/,
  );
  const bob = await authority.issue("bob");
  const mixed = harness.client(server, withCertificate(bob, { method: "password" }));
  expect(await refusalOf(mixed)).toMatch(/the certificate names "bob"/);
});

test("a mode of one user's own wins over the server's", async () => {
  const auth: ServerAuth = { ...(await authOf("any")), userModes: new Map([["alice", "both"]]) };
  const server = await startServer("any", { auth });
  expect(await refusalOf(harness.client(server, withCertificate(alice)))).toMatch(
    /a password is needed besides/,
  );
  await untilConnected(harness.client(server, withCertificate(await authority.issue("bob"))));
});

test("a company's certificate needs a user who is known", async () => {
  const auth: ServerAuth = { ...(await authOf("any")), knownUsersOnly: true, knownUsers: new Set(["carol"]) };
  const server = await startServer("any", { auth });
  await untilConnected(harness.client(server, withCertificate(alice))); // has a password
  await untilConnected(harness.client(server, withCertificate(await authority.issue("carol"))));
  expect(await refusalOf(harness.client(server, withCertificate(await authority.issue("bob"))))).toMatch(
    /its user "bob" is not known here/,
  );
});

test("revoking ends a live session at once; its client gives up", async () => {
  const server = await startServer("any");
  const clients = [harness.client(server, withCertificate(alice)), harness.client(server)];
  await Promise.all(clients.map((client) => untilConnected(client)));
  await server.server.reload({ auth: await authOf("any", alice.serial) });
  expect(await refusalOf(clients[0]!)).toMatch(/no longer good: the certificate was revoked/);
  // the same user's session by password goes on
  expect((await server.server.status()).sessions.length).toBe(1);
});

test("a session ends when its certificate expires", async () => {
  let aheadMs = 0;
  const clock = { ...systemClock, wallMs: () => systemClock.wallMs() + aheadMs };
  const server = await startServer("any", { timings: { sweepMs: 50 }, clock });
  const client = harness.client(server, withCertificate(alice));
  await untilConnected(client);
  aheadMs = 31 * DAY_MS;
  expect(await refusalOf(client)).toMatch(/no longer good: the certificate expired at/);
});

test("reload replaces the server's certificate and drops nobody", async () => {
  const server = await startServer("any");
  const client = harness.client(server, withCertificate(alice));
  await untilConnected(client);
  const next = await authority.issue("vpn", { use: "server", hosts: ["127.0.0.1"] });
  await server.server.reload({
    certificate: { certPem: next.certPem + authority.certPem, keyPem: next.keyPem },
  });
  const late = harness.client(server, withCertificate(await authority.issue("bob")));
  await untilConnected(late);
  expect(client.client.rekey()).toBe(true);
  await until(() => client.data.of("set-epoch").length === 2);
  expect((await server.server.status()).sessions.length).toBe(2);
});

test("a pin accepts the server's certificate or its authority, and nothing else", async () => {
  const server = await startServer("any");
  const pinned = (pem: string) =>
    withCertificate(alice, { trust: { caPem: null, pins: [certificateFingerprint(pem)] } });
  await untilConnected(harness.client(server, pinned(authority.certPem)));
  await untilConnected(harness.client(server, pinned(serverPair.certPem)));
  const other = await testCertificate();
  expect(await refusalOf(harness.client(server, pinned(other.certPem)))).toMatch(
    /its fingerprint is [0-9A-F:]{95}; expected/,
  );
});

test("a pinned authority that the server only shows, and that did not issue its certificate, is not enough", async () => {
  const own = await testCertificate();
  const forged = { certPem: own.certPem + authority.certPem, keyPem: own.keyPem };
  const server = await startServer("any", { certificate: forged });
  const pins = [certificateFingerprint(authority.certPem)];
  const client = harness.client(server, withCertificate(alice, { trust: { caPem: null, pins } }));
  expect(await refusalOf(client)).toMatch(/Cannot trust/);
});

test("proofRefusal() refuses before the user is known only what nobody could log in with", () => {
  const nothing = { password: true, certificate: false };
  const auth: ServerAuth = { ...PASSWORD_ONLY, mode: "both" };
  expect(proofRefusal(null, nothing, auth)).not.toBeNull();
  expect(proofRefusal(null, nothing, { ...auth, userModes: new Map([["bob", "any"]]) })).toBeNull();
  expect(proofRefusal("bob", nothing, { ...auth, userModes: new Map([["bob", "any"]]) })).toBeNull();
});

test("proofsProblem() ends sessions of users who are gone, where their mode or a company wants them known", async () => {
  const auth = await authOf("any");
  const certificate = { user: "a", serial: "1", fingerprint: "", issuer: "", notAfterMs: Date.now() + 1000 };
  const session = { user: "a", certificate, byPassword: true };
  const gone = () => false;
  const problem = (changed: Partial<ServerAuth>) =>
    proofsProblem(session, { ...auth, ...changed }, gone, Date.now());
  expect(problem({})).toBeNull();
  expect(problem({ mode: "both" })).toMatch(/removed/);
  expect(problem({ knownUsersOnly: true })).toMatch(/removed/);
  expect(problem(PASSWORD_ONLY)).toMatch(/no longer accepted/);
});

test("proofsProblem() ends sessions that were opened with less than is needed now", async () => {
  const auth = await authOf("any");
  const certificate = { user: "a", serial: "1", fingerprint: "", issuer: "", notAfterMs: Date.now() + 1000 };
  const table = AUTH_MODES.map((mode) => {
    const userModes = new Map([["a", mode]]);
    const goesOn = (shown: typeof certificate | null, byPassword: boolean): boolean => {
      const session = { user: "a", certificate: shown, byPassword };
      return proofsProblem(session, { ...auth, userModes }, () => true, Date.now()) === null;
    };
    return [mode, goesOn(null, true), goesOn(certificate, false), goesOn(certificate, true)];
  });
  expect(table).toEqual([
    ["password", true, false, true],
    ["cert", false, true, true],
    ["both", false, false, true],
    ["any", true, true, true],
  ]);
});

test("what a user of the database must prove wins over the server's, and changes while sessions stand", async () => {
  const store = new UserStore(scratch(), 1_000);
  const verifier = await makeVerifier(PASSWORD, new Uint8Array(16).fill(5), 4096);
  const nothing = (): void => undefined;
  for (const name of ["alice", "bob"]) store.add({ ...testUser(name), verifier }, nothing);
  const follower = new UserFollower(dirname(store.path));
  // only the database will want certificates: the server must be able to ask for them nevertheless
  const server = await startServer("password", { users: [], follower });
  const set = (auth: AuthMode | null): number => {
    store.update("alice", (record) => ({ ...record, auth }));
    return server.server.refreshUsers();
  };
  const both = withCertificate(alice, { method: "password" });
  const [first, bob] = [harness.client(server, both), harness.client(server, { user: "bob" })];
  await Promise.all([first, bob].map((client) => untilConnected(client)));
  expect(set("both")).toBe(1);
  expect(await refusalOf(first)).toMatch(/What you must prove was changed: a certificate is needed besides/);
  expect(await refusalOf(harness.client(server))).toMatch(/a certificate is needed besides the password/);
  const second = harness.client(server, both);
  await untilConnected(second);
  // both proofs are enough for anything
  expect([set("cert"), set("any"), set("password")]).toEqual([0, 0, 0]);
  expect(await refusalOf(harness.client(server, withCertificate(alice)))).toMatch(
    /Cannot log in by certificate/,
  );
  expect(set("cert")).toBe(0);
  await untilConnected(harness.client(server, withCertificate(alice)));
  expect(set(null)).toBe(1);
  const users = (await server.server.status()).sessions.map(({ user }) => user);
  expect(users.toSorted()).toEqual(["alice", "bob"]);
  store.close();
});

test("a user who needs a certificate where none is accepted is told of in the log, once", async () => {
  const store = new UserStore(scratch(), 1_000);
  store.add(testUser("alice", { auth: "both" }), () => undefined);
  const server = await harness.server({ follower: new UserFollower(dirname(store.path)) });
  store.update("alice", (record) => ({ ...record, groups: ["staff"] }));
  server.server.refreshUsers();
  const told = server.log.lines.filter((line) => line.includes(`User "alice" cannot log in`));
  expect(told).toEqual([expect.stringContaining("it needs a certificate, and we accept none")]);
  store.close();
});
