import { Database } from "bun:sqlite";
import { afterEach, describe, expect, test } from "bun:test";
import { renameSync } from "node:fs";
import { join } from "node:path";
import type { ClientGrant } from "../../lib/handshake.ts";
import type { SessionStats } from "../../lib/data_plane_message.ts";
import type { AuditEvent } from "../../lib/audit_event.ts";
import { systemClock } from "../../lib/clock.ts";
import type { ServerOptions } from "../../lib/server.ts";
import { makeVerifier } from "../../lib/password.ts";
import { totpCode } from "../../lib/totp.ts";
import { UserFollower } from "../../lib/user_follower.ts";
import type { UserRecord } from "../../lib/user_record.ts";
import { monthOf } from "../../lib/user_rules.ts";
import { USERS_FILE, UserStore } from "../../lib/user_store.ts";
import { ControlHarness, PASSWORD, type TestServer, until } from "../support/control_harness.ts";
import { logInOn, next, RawClients } from "../support/raw_client.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";
import { limitsOf, testUser } from "../support/user_records.ts";

const scratch = scratchDirectories();
const harness = new ControlHarness();
const clients = new RawClients();
afterEach(async () => {
  clients.destroyAll();
  await harness.stop();
});

const verifier = await makeVerifier(PASSWORD, new Uint8Array(16).fill(5), 4096);
const SECRET = new Uint8Array(20).fill(3);
const nothing = (): void => undefined;

/** A server whose users are those of a database, and the database as a command has it open. */
async function serverWith(records: readonly UserRecord[], more: Partial<ServerOptions> = {}) {
  const directory = scratch();
  const store = new UserStore(directory, 1_000);
  for (const record of records) store.add({ ...record, verifier }, nothing);
  const networks: (readonly string[])[] = [];
  const server = await harness.server({
    users: [],
    follower: new UserFollower(directory),
    onNetworks: (list) => networks.push(list),
    timings: { sweepMs: 20 },
    ...more,
  });
  return { server, store, directory, networks };
}

async function logIn(server: TestServer, user = "alice", code?: string) {
  const connection = await clients.dial(server);
  const grant: ClientGrant = await logInOn(connection, {
    user,
    ...(code === undefined ? {} : { code: () => Promise.resolve(code) }),
  });
  return { connection, grant, id: grant.config.sessionId };
}

/** Why a log-in fails. */
async function refusalOf(server: TestServer, user = "alice", code?: string): Promise<string> {
  return await logIn(server, user, code).then(
    () => "let in",
    (error: unknown) => String(error),
  );
}

function stats(id: number, bytes: number): SessionStats {
  return {
    id,
    endpoint: null,
    transport: "udp",
    epoch: 0,
    rxBytes: bytes,
    txBytes: 0,
    rxPackets: 0,
    txPackets: 0,
    rxRecords: 0,
    txRecords: 0,
    silentMs: 0,
    rttMs: null,
    lossPercent: 0,
    recordLimit: 0,
    datagramBytes: 1_452,
    pathMtu: 1_480,
  };
}

describe("a change acts on a live session", () => {
  const ending = (change: (record: UserRecord) => UserRecord) => async () => {
    const { server, store } = await serverWith([testUser("alice"), testUser("bob")]);
    const { connection } = await logIn(server);
    const other = await logIn(server, "bob");
    store.update("alice", change);
    expect(server.server.refreshUsers()).toBe(1);
    expect(await next(connection)).toMatchObject({ type: "goodbye", code: "refused" });
    expect((await server.server.status()).sessions.map(({ id }) => id)).toEqual([other.id]);
  };

  test(
    "disable",
    ending((record) => ({ ...record, enabled: false })),
  );
  test(
    "expire",
    ending((record) => ({ ...record, expiresAtMs: Date.now() })),
  );
  test(
    "passwd",
    ending((record) => ({ ...record, verifier: { ...verifier, storedKey: new Uint8Array(32) } })),
  );

  test("remove, found by itself when nobody tells the server", async () => {
    const { server, store } = await serverWith([testUser("alice"), testUser("bob")]);
    const { connection } = await logIn(server);
    store.remove("alice");
    expect(await next(connection)).toMatchObject({ code: "refused", reason: "This user was removed" });
    // gone users look like those who never were
    expect(await refusalOf(server)).toContain("The user name or the password is wrong");
  });

  test("expiry comes with time", async () => {
    const { server } = await serverWith([testUser("alice", { expiresAtMs: Date.now() + 700 })]);
    const { connection } = await logIn(server);
    expect(await next(connection)).toMatchObject({
      code: "refused",
      reason: expect.stringContaining("expired"),
    });
    expect(await refusalOf(server)).toContain("This user expired on");
  });

  test("rates and networks, without ending it", async () => {
    const { server, store, networks } = await serverWith([testUser("alice"), testUser("bob")]);
    const { id } = await logIn(server);
    const limits = limitsOf({ upBitsPerSecond: 20e6, packetsPerSecond: 1000 });
    store.update("alice", (record) => ({ ...record, limits, networks: ["192.168.50.0/24"] }));
    expect(server.server.refreshUsers()).toBe(0);
    expect(server.data.of("set-rates")).toEqual([
      {
        kind: "set-rates",
        id,
        rates: {
          up: { bitsPerSecond: 20e6, packetsPerSecond: 1000 },
          down: { bitsPerSecond: null, packetsPerSecond: 1000 },
        },
      },
    ]);
    expect(server.data.of("set-allowed-ips").at(-1)).toMatchObject({
      id,
      allowedIps: ["10.8.0.2/32", "fd00::2/128", "192.168.50.0/24"],
    });
    expect(networks).toEqual([["192.168.50.0/24"]]);
    store.update("alice", (record) => ({ ...record, limits: limitsOf({}), networks: [] }));
    server.server.refreshUsers();
    expect(server.data.of("set-rates").at(-1)).toMatchObject({ rates: null });
    expect(networks.at(-1)).toEqual([]);
  });

  test("routes: the client comes back to its session and is told the new ones", async () => {
    const { server, store } = await serverWith([testUser("alice", { routes: ["172.16.0.0/12"] })]);
    const client = harness.client(server);
    await until(() => client.connected.length === 1);
    expect(client.connected[0]!.routes).toEqual(["192.168.7.0/24", "172.16.0.0/12"]);
    store.update("alice", (record) => ({ ...record, routes: ["10.99.0.0/16"] }));
    server.server.refreshUsers();
    await until(() => client.connected.length === 2);
    expect(client.connected[1]!.routes).toEqual(["192.168.7.0/24", "10.99.0.0/16"]);
    expect(client.connected[1]!.sessionId).toBe(client.connected[0]!.sessionId);
  });

  test("addresses: the client logs in again and gets them, and whoever had them makes room", async () => {
    const { server, store } = await serverWith([testUser("alice"), testUser("bob")]);
    const [alice, bob] = [harness.client(server), harness.client(server, { user: "bob" })];
    await until(() => alice.connected.length + bob.connected.length === 2);
    const [first] = bob.connected[0]!.addresses;
    store.update("alice", (record) => ({ ...record, addresses: [first!.replace("/24", "")] }));
    server.server.refreshUsers();
    await until(() => alice.connected.at(-1)?.addresses[0] === first);
    await until(() => bob.connected.length === 2);
    expect(bob.connected[1]!.addresses[0]).not.toBe(first);
  });

  test("fewer devices: the newest session ends", async () => {
    const { server, store } = await serverWith([testUser("alice")]);
    const first = await logIn(server);
    await Bun.sleep(5);
    const second = await logIn(server);
    store.update("alice", (record) => ({ ...record, limits: limitsOf({ devices: 1 }) }));
    expect(server.server.refreshUsers()).toBe(1);
    expect(await next(second.connection)).toMatchObject({
      code: "refused",
      reason: expect.stringContaining("1 device"),
    });
    expect((await server.server.status()).sessions.map(({ id }) => id)).toEqual([first.id]);
    expect(await refusalOf(server)).toContain("This user may have 1 device at once, and has 1");
  });
});

test("networks behind a user with two devices lead to the newest, and back when it leaves", async () => {
  const { server } = await serverWith([testUser("alice", { networks: ["192.168.50.0/24"] })]);
  const first = await logIn(server);
  await Bun.sleep(5);
  const second = await logIn(server);
  const owner = () => {
    const told = new Map(server.data.of("set-allowed-ips").map(({ id, allowedIps }) => [id, allowedIps]));
    return [...told].filter(([, ips]) => ips.includes("192.168.50.0/24")).map(([id]) => id);
  };
  expect(owner()).toEqual([second.id]);
  server.server.kick(second.id, "test");
  expect(owner()).toContain(first.id);
});

test("networks and addresses that the tunnel cannot have are left out with a word", async () => {
  const { server, networks } = await serverWith([
    testUser("alice", { networks: ["10.0.0.0/8", "10.8.0.128/25", "10.9.0.0/24"], addresses: ["192.0.2.1"] }),
  ]);
  expect(networks).toEqual([["10.9.0.0/24"]]);
  const log = server.log.lines.join("\n");
  for (const text of ["10.0.0.0/8", "10.8.0.128/25", "192.0.2.1"])
    expect(log).toContain(`"${text}" of user "alice" is left out`);
  await logIn(server);
});

test("a reserved address goes to nobody else", async () => {
  const { server } = await serverWith([testUser("alice", { addresses: ["10.8.0.2"] }), testUser("bob")]);
  const bob = await logIn(server, "bob");
  expect(bob.grant.config.addresses[0]).toBe("10.8.0.3/24");
  expect((await logIn(server)).grant.config.addresses[0]).toBe("10.8.0.2/24");
});

describe("a quota", () => {
  test("ends live sessions when it is used up, and is remembered over a restart", async () => {
    const limits = limitsOf({ quotaBytes: 1_000_000 });
    const { server, store, directory } = await serverWith([testUser("alice", { limits })]);
    const { connection, id } = await logIn(server);
    server.data.emit({ kind: "stats", requestId: 0, sessions: [stats(id, 999_999)], drops: {} });
    await Bun.sleep(60);
    expect((await server.server.status()).sessions).toHaveLength(1);
    server.data.emit({ kind: "stats", requestId: 0, sessions: [stats(id, 1_000_000)], drops: {} });
    expect(await next(connection)).toMatchObject({
      code: "refused",
      reason: expect.stringMatching(
        /^The quota of 1MB a month is used up: it starts again on 20..-..-01 \(UTC\)$/,
      ),
    });
    expect(await refusalOf(server)).toContain("The quota of 1MB");
    await server.server.stop("restart");
    expect(store.usageOf(monthOf(Date.now())).get("alice")).toBe(1_000_000);
    const again = await harness.server({ users: [], follower: new UserFollower(directory) });
    expect(await refusalOf(again)).toContain("The quota of 1MB");
  });
});

describe("a one-time code", () => {
  const alice = testUser("alice", { totp: { secret: SECRET, lastStep: -1 } });

  test("is wanted at the log-in, works once, and not after a restart either", async () => {
    const { server, directory } = await serverWith([alice]);
    const code = totpCode(SECRET, Date.now());
    await logIn(server, "alice", code);
    expect(await refusalOf(server, "alice", code)).toContain("The one-time code is wrong or was used before");
    expect(await refusalOf(server)).toContain("Cannot log in without a one-time code");
    await server.server.stop("restart");
    const again = await harness.server({ users: [], follower: new UserFollower(directory) });
    expect(await refusalOf(again, "alice", code)).toContain("wrong or was used before");
  });

  test("works once even while the database cannot be written", async () => {
    const { server, directory } = await serverWith([alice]);
    const blocker = new Database(join(directory, USERS_FILE));
    blocker.run("BEGIN IMMEDIATE");
    const code = totpCode(SECRET, Date.now());
    await logIn(server, "alice", code);
    expect(await refusalOf(server, "alice", code)).toContain("wrong or was used before");
    blocker.run("ROLLBACK");
    blocker.close();
    await until(() => server.log.lines.some((line) => line.includes("can be used again")));
  });
});

test("a clock that is set back ends nobody, lets no code work twice, and leaves no negative time in the record", async () => {
  let backMs = 0;
  const clock = { ...systemClock, wallMs: () => systemClock.wallMs() - backMs };
  const events: AuditEvent[] = [];
  const audit = { record: (event: AuditEvent): void => void events.push(event), mayLogIn: true };
  const totp = { secret: SECRET, lastStep: -1 };
  const { server, store } = await serverWith(
    [testUser("alice", { totp, expiresAtMs: Date.now() + 3_600_000 }), testUser("bob")],
    { clock, audit },
  );
  const { id } = await logIn(server, "alice", totpCode(SECRET, Date.now()));
  backMs = 86_400_000;
  server.data.emit({ kind: "stats", requestId: 0, sessions: [stats(id, 1_000)], drops: {} });
  await Bun.sleep(100);
  expect((await server.server.status()).sessions.map((session) => session.id)).toEqual([id]);
  expect(await refusalOf(server, "alice", totpCode(SECRET, clock.wallMs()))).toContain(
    "The one-time code is wrong or was used before",
  );
  await logIn(server, "bob");
  // what is there to be judged is judged by the clock as it is now
  store.update("alice", (record) => ({ ...record, enabled: false }));
  expect(server.server.refreshUsers()).toBe(1);
  expect(events.findLast(({ type }) => type === "disconnected")).toMatchObject({ user: "alice", seconds: 0 });
});

test("a damaged database is reported once; sessions go on, and so does the server when it is mended", async () => {
  const { server, store, directory } = await serverWith([testUser("alice")]);
  const { id } = await logIn(server);
  const path = join(directory, USERS_FILE);
  store.close();
  const copy = await Bun.file(path).bytes();
  await Bun.write(`${path}.bad`, "no database ".repeat(1_000));
  renameSync(`${path}.bad`, path);
  await until(() => server.log.lines.some((line) => line.includes("it is damaged")));
  await Bun.sleep(100);
  expect((await server.server.status()).sessions.map((session) => session.id)).toEqual([id]);
  // the users known so far still come in
  await logIn(server);
  await Bun.write(`${path}.good`, copy);
  renameSync(`${path}.good`, path);
  await until(() => server.log.lines.some((line) => line.includes("can be used again")));
  expect(server.log.lines.filter((line) => line.startsWith("error"))).toHaveLength(1);
});

test("a name in both places is the database's", async () => {
  const directory = scratch();
  const store = new UserStore(directory, 1_000);
  store.add(testUser("alice", { enabled: false, verifier }), nothing);
  const server = await harness.server({ follower: new UserFollower(directory) });
  expect(server.log.lines.join("\n")).toContain('User "alice" is in the configuration and in the database');
  expect(await refusalOf(server)).toContain("This user is disabled");
  store.close();
});

test("a database that cannot be read at the start ends the start", async () => {
  const directory = scratch();
  await Bun.write(join(directory, USERS_FILE), "no database ".repeat(1_000));
  await expect(harness.server({ follower: new UserFollower(directory) })).rejects.toThrow("it is damaged");
});
