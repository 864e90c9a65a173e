import { afterEach, expect, test } from "bun:test";
import { encodeMessage } from "../../lib/control_message.ts";
import type { SessionStats } from "../../lib/data_plane_message.ts";
import { RefusedError, SystemError, UsageError } from "../../lib/errors.ts";
import { startExchange } from "../../lib/key_schedule.ts";
import { PasswordKeys } from "../../lib/password.ts";
import { ControlHarness, PASSWORD, until, untilConnected } from "../support/control_harness.ts";
import { logInOn, next, RawClients, send } from "../support/raw_client.ts";

const harness = new ControlHarness();
const clients = new RawClients();
afterEach(async () => {
  clients.destroyAll();
  await harness.stop();
});

function statsOf(id: number, values: Partial<SessionStats> = {}): SessionStats {
  return {
    id,
    endpoint: { host: "192.0.2.9", port: 4444 },
    transport: "udp",
    epoch: 0,
    rxBytes: 10,
    txBytes: 20,
    rxPackets: 1,
    txPackets: 2,
    rxRecords: 1,
    txRecords: 2,
    silentMs: 0,
    rttMs: 1.5,
    lossPercent: 0,
    recordLimit: 62_000,
    datagramBytes: 1452,
    pathMtu: 1480,
    ...values,
  };
}

test("startServer() refuses a port in use and names it", async () => {
  const { server } = await harness.server();
  const again = harness.server({ listen: { host: "127.0.0.1", port: server.port } });
  const error = await again.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(SystemError);
  expect(String(error)).toContain(`127.0.0.1:${server.port}`);
  expect(String(error)).toContain("in use");
});

test("startServer() refuses wrong options before it listens", async () => {
  const wrong = [
    { users: [] },
    { pushRoutes: ["10.0.0.1/8"] },
    { pushDns: ["ten"] },
    { pushDomains: ["two words"] },
    { pushDomains: Array.from({ length: 33 }, (_, i) => `d${i}.example`) },
    { allowFrom: ["0.0.0.0/33"] },
  ];
  for (const options of wrong) {
    const error = await harness.server(options).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(UsageError);
  }
});

test("status() has the shape of DESIGN.md", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const id = client.connected[0]!.sessionId;
  server.data.emit({ kind: "stats", requestId: 0, sessions: [statsOf(id)], drops: {} });
  const status = await server.server.status();
  expect(status).toMatchObject({
    tun: "omail0",
    address: `127.0.0.1:${server.server.port}`,
    sessions: [
      {
        id,
        user: "alice",
        endpoint: "192.0.2.9:4444",
        addresses: ["10.8.0.2", "fd00::2"],
        transport: "udp",
        epoch: 0,
        rxBytes: 10,
        txBytes: 20,
        rxPackets: 1,
        txPackets: 2,
        rttMs: 1.5,
        lossPercent: 0,
        recordLimit: 62_000,
        datagramBytes: 1452,
        pathMtu: 1480,
      },
    ],
    totals: { rxBytes: 10, txBytes: 20, rxPackets: 1, txPackets: 2, drops: { "no-session": 3 } },
  });
  expect(Math.abs(status.sessions[0]!.connectedAt - Date.now())).toBeLessThan(5_000);
  await client.client.stop();
  await until(() => server.data.of("remove-session").length === 1);
  // traffic of ended sessions stays in the totals
  expect((await server.server.status()).totals.rxBytes).toBe(10);
});

// --- Log-in ---

test("a resume token brings the session back once, and never again", async () => {
  const server = await harness.server();
  const first = await clients.dial(server);
  const { config, resumeToken } = await logInOn(first);
  first.destroy();
  const resume = { sessionId: config.sessionId, token: resumeToken, nextEpoch: 1 };
  const thief = await clients.dial(server);
  const second = await logInOn(thief, { resume });
  expect([second.resumed, second.config.sessionId, second.keys.epoch]).toEqual([true, config.sessionId, 1]);
  expect(second.config.addresses).toEqual(config.addresses);
  const third = await logInOn(await clients.dial(server), { resume });
  expect(third.resumed).toBe(false);
  expect(third.config.sessionId).not.toBe(config.sessionId);
  // whoever of the two had it first: nobody keeps the session
  expect(await next(thief)).toMatchObject({ type: "goodbye", code: "bye" });
  expect((await server.server.status()).sessions.map(({ id }) => id)).toEqual([third.config.sessionId]);
  expect(server.log.lines.filter((line) => line.includes("came a second time"))).toHaveLength(1);
});

test("a resumed session says goodbye to its old connection", async () => {
  const server = await harness.server();
  const first = await clients.dial(server);
  const { config, resumeToken } = await logInOn(first);
  await logInOn(await clients.dial(server), {
    resume: { sessionId: config.sessionId, token: resumeToken, nextEpoch: 1 },
  });
  expect(await next(first)).toMatchObject({ type: "goodbye", code: "replaced" });
  expect((await server.server.status()).sessions).toHaveLength(1);
});

test("a resume token expires after the connection was lost", async () => {
  const server = await harness.server({ timings: { resumeTokenTtlMs: 30 } });
  const first = await clients.dial(server);
  const { config, resumeToken } = await logInOn(first);
  first.destroy();
  await until(() => server.log.lines.some((line) => line.includes("connection lost")));
  await Bun.sleep(40);
  const resume = { sessionId: config.sessionId, token: resumeToken, nextEpoch: 1 };
  expect((await logInOn(await clients.dial(server), { resume })).resumed).toBe(false);
});

test("a resumption with an epoch that was used ends the connection", async () => {
  const server = await harness.server();
  const { config, resumeToken } = await logInOn(await clients.dial(server));
  const resume = { sessionId: config.sessionId, token: resumeToken, nextEpoch: 0 };
  const error = await logInOn(await clients.dial(server), { resume }).catch(String);
  expect(error).toContain(`Cannot use epoch "0"`);
});

test("a log-in without place is refused as pool-exhausted, and the server goes on", async () => {
  const server = await harness.server({ addresses: ["10.8.0.1/30"] });
  const first = await clients.dial(server);
  await logInOn(first);
  const client = harness.client(server);
  const error = await client.client.done.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(RefusedError);
  expect(String(error)).toContain("no free inner address");
  first.close(encodeMessage({ type: "goodbye", code: "bye", reason: "" }));
  await until(() => server.data.of("remove-session").length === 1);
  await logInOn(await clients.dial(server));
});

test("a user who lost the connection gets the place of the abandoned session when there is no other", async () => {
  const server = await harness.server({ addresses: ["10.8.0.1/30"] });
  const first = await clients.dial(server);
  const before = await logInOn(first);
  first.destroy();
  await until(() => server.log.lines.some((line) => line.includes("connection lost")));
  const after = await logInOn(await clients.dial(server));
  expect(after.config.addresses).toEqual(before.config.addresses);
  expect(server.data.of("remove-session").map(({ id }) => id)).toEqual([before.config.sessionId]);
});

test("no more than maxClients sessions are opened", async () => {
  const server = await harness.server({ maxClients: 1 });
  await logInOn(await clients.dial(server));
  const error = await logInOn(await clients.dial(server)).catch(String);
  expect(error).toContain("The server is full");
});

test("two clients get different sessions, addresses and keys", async () => {
  const server = await harness.server();
  const [a, b] = [harness.client(server), harness.client(server)];
  await Promise.all([untilConnected(a), untilConnected(b)]);
  const [one, two] = [a.connected[0]!, b.connected[0]!];
  expect(one.sessionId).not.toBe(two.sessionId);
  expect(new Set([...one.addresses, ...two.addresses]).size).toBe(4);
});

// --- Rekey ---

test("a rekey installs a higher epoch for receiving, and the same one twice ends the connection", async () => {
  const server = await harness.server();
  const connection = await clients.dial(server);
  const { config } = await logInOn(connection);
  const { share } = await startExchange(5);
  send(connection, { type: "rekey", keyShare: share });
  expect(await next(connection)).toMatchObject({ type: "rekey-reply", keyShare: { epoch: 5 } });
  expect(server.data.keysOf(config.sessionId, 5)).toBeDefined();
  send(connection, { type: "rekey", keyShare: share });
  expect(await next(connection)).toMatchObject({ type: "goodbye", code: "protocol" });
});

test("a flood of control messages ends the connection, and the session survives it", async () => {
  const server = await harness.server();
  const connection = await clients.dial(server);
  await logInOn(connection);
  for (let i = 0; i < 100; i++) send(connection, { type: "ping" });
  const answers: (string | undefined)[] = [];
  for (;;) {
    const message = await next(connection);
    if (message === null) break;
    answers.push(message.type === "goodbye" ? message.reason : message.type);
  }
  expect(answers.at(-1)).toBe("Too many control messages");
  expect((await server.server.status()).sessions).toHaveLength(1);
});

// --- Sessions end ---

test("a session of which neither channel is heard times out, with or without its connection", async () => {
  const server = await harness.server({ timings: { sessionTimeoutMs: 400, sweepMs: 20 } });
  const lost = await clients.dial(server);
  await logInOn(lost);
  lost.destroy();
  const silent = await clients.dial(server);
  await logInOn(silent);
  await until(() => server.data.of("remove-session").length === 2);
  expect(server.log.lines.filter((line) => line.includes("timed out"))).toHaveLength(2);
  expect(await next(silent)).toMatchObject({ type: "goodbye", code: "timeout" });
});

test("a session lives as long as one of its channels is heard", async () => {
  const server = await harness.server({ timings: { sessionTimeoutMs: 600, sweepMs: 20 } });
  const byData = await clients.dial(server);
  const { config } = await logInOn(byData);
  byData.destroy();
  const byControl = await clients.dial(server);
  await logInOn(byControl);
  for (let i = 0; i < 8; i++) {
    server.data.emit({ kind: "stats", requestId: 0, sessions: [statsOf(config.sessionId)], drops: {} });
    send(byControl, { type: "ping" });
    await Bun.sleep(100);
  }
  expect((await server.server.status()).sessions).toHaveLength(2);
});

test("kick() ends a session for good", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  expect(server.server.kick(12345, "no")).toBe(false);
  expect(server.server.kick(client.connected[0]!.sessionId, "ended by the operator")).toBe(true);
  const error = await client.client.done.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(RefusedError);
  expect(String(error)).toContain("ended by the operator");
});

test("reload() ends the sessions of users who are gone and keeps the others", async () => {
  const users = ["alice", "bob"].map((name) => ({ name, password: PASSWORD }));
  const server = await harness.server({ users });
  const [alice, bob] = [harness.client(server), harness.client(server, { user: "bob" })];
  await Promise.all([untilConnected(alice), untilConnected(bob)]);
  await server.server.reload({ users: [{ name: "bob", password: PASSWORD }] });
  await expect(alice.client.done).rejects.toBeInstanceOf(RefusedError);
  expect((await server.server.status()).sessions.map(({ user }) => user)).toEqual(["bob"]);
});

test("reload() gives new connections the new certificate, and changes nothing on a wrong value", async () => {
  const { makeSelfSignedCertificate } = await import("../../lib/certificate.ts");
  const server = await harness.server();
  const before = (await clients.dial(server)).peerFingerprint;
  const certificate = await makeSelfSignedCertificate({
    name: "new",
    hosts: [],
    nowMs: Date.now(),
    validDays: 1,
  });
  await expect(server.server.reload({ certificate, pushDns: ["x"] })).rejects.toBeInstanceOf(UsageError);
  expect((await clients.dial(server)).peerFingerprint).toBe(before);
  await server.server.reload({ certificate });
  expect((await clients.dial(server)).peerFingerprint).not.toBe(before);
});

test("stop() says goodbye to everybody", async () => {
  const server = await harness.server();
  const connection = await clients.dial(server);
  await logInOn(connection);
  const stopping = server.server.stop("the server is stopping");
  expect(await next(connection)).toEqual({
    type: "goodbye",
    code: "shutdown",
    reason: "the server is stopping",
  });
  expect(await next(connection)).toBeNull();
  connection.destroy();
  await stopping;
  await server.server.done;
});

test("done rejects when the data plane fails", async () => {
  const server = await harness.server();
  server.data.emit({ kind: "failed", errorName: "SystemError", message: "the socket is gone" });
  await expect(server.server.done).rejects.toThrow("the socket is gone");
});

test("log-ins of an unknown user and of a known one with a wrong password take the same time", async () => {
  const server = await harness.server();
  // one for each user: the first log-in stretches the password, the others find it stretched
  const passwords = { alice: new PasswordKeys("wrong"), mallory: new PasswordKeys("wrong") };
  const time = async (user: keyof typeof passwords): Promise<number> => {
    const connection = await clients.dial(server);
    const startMs = performance.now();
    const refused = logInOn(connection, { user, password: () => Promise.resolve(passwords[user]) });
    await refused.catch(() => undefined);
    return performance.now() - startMs;
  };
  await Promise.all([time("alice"), time("mallory")]);
  const known: number[] = [];
  const unknown: number[] = [];
  for (let i = 0; i < 5; i++) {
    known.push(await time("alice"));
    unknown.push(await time("mallory"));
  }
  // the least of several is what the work costs; the rest is the machine's
  expect(Math.abs(Math.min(...known) - Math.min(...unknown))).toBeLessThan(40);
});

test("logs never hold a password", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  expect([...server.log.lines, ...client.log.lines].join("\n")).not.toContain(PASSWORD);
});

test("status() tells who is silent, who reconnects, and who is gone and why", async () => {
  const server = await harness.server();
  const relay = await harness.relay(server.server.port);
  const client = harness.clientOf(relay.port, server.data);
  await untilConnected(client);
  const { sessionId: id } = client.connected[0]!;
  const states = async () => (await server.server.status()).sessions.map(({ state }) => state);
  expect(await states()).toEqual(["connected"]);
  server.data.emit({ kind: "presence-changed", id, alive: false, silentMs: 20_000 });
  expect(await states()).toEqual(["silent"]);
  server.data.emit({ kind: "presence-changed", id, alive: true, silentMs: 0 });
  relay.mute();
  relay.cut();
  await until(() => server.log.lines.some((line) => line.includes("control connection lost")));
  expect(await states()).toEqual(["reconnecting"]);
  expect(server.server.kick(id, "ended by a test")).toBe(true);
  const { sessions, gone } = await server.server.status();
  expect(sessions).toEqual([]);
  expect(gone).toMatchObject([{ id, user: "alice", addresses: ["10.8.0.2", "fd00::2"] }]);
  expect(gone[0]!.reason).toBe("ended by a test");
  const said = server.log.lines.filter((line) => /silent|heard again/.test(line));
  expect(said.map((line) => line.split(" session=")[0])).toEqual([
    "info client is silent",
    "info client is heard again",
  ]);
});

test("status() remembers the last twenty who are gone, the newest first", async () => {
  const server = await harness.server();
  const grants = [];
  for (let i = 0; i < 22; i++) {
    const grant = await logInOn(await clients.dial(server));
    grants.push(grant.config.sessionId);
    server.server.kick(grant.config.sessionId, `number ${i}`);
  }
  const { gone } = await server.server.status();
  expect(gone.map(({ id }) => id)).toEqual(grants.slice(2).toReversed());
});

test("a record before the log-in ends the connection", async () => {
  const server = await harness.server();
  const connection = await clients.dial(server);
  const frames = new Uint8Array(44);
  frames.set([0x80, 0, 0, 40]);
  connection.sendRecords(frames, () => undefined);
  const message = await next(connection);
  expect(message).toMatchObject({ type: "goodbye", code: "protocol" });
  expect(server.data.of("tunnel-in")).toEqual([]);
});
