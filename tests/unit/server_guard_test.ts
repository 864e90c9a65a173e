import { afterEach, expect, test } from "bun:test";
import type { AuditEvent, AuditSink } from "../../lib/audit_event.ts";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { RefusedError } from "../../lib/errors.ts";
import { MAX_ADDRESS_FAILURES } from "../../lib/limits.ts";
import { PasswordKeys } from "../../lib/password.ts";
import { ControlHarness, PASSWORD, until, untilConnected } from "../support/control_harness.ts";
import { closed, logInOn, RawClients } from "../support/raw_client.ts";

const harness = new ControlHarness();
const clients = new RawClients();
afterEach(async () => {
  clients.destroyAll();
  await harness.stop();
});

/** An audit log in memory. */
class MemoryAudit implements AuditSink {
  readonly events: AuditEvent[] = [];
  mayLogIn = true;
  record = (event: AuditEvent): void => void this.events.push(event);
}

const wrongPassword = new PasswordKeys("wrong");

test("wrong passwords shut an address out, everybody on it is told the same, and unban ends it", async () => {
  const audit = new MemoryAudit();
  const server = await harness.server({ audit });
  const attempt = async (user: string, password = wrongPassword): Promise<string> => {
    const connection = await clients.dial(server);
    const error = await logInOn(connection, { user, password: () => Promise.resolve(password) }).catch(
      (reason: unknown) => reason,
    );
    connection.destroy();
    expect(error).toBeInstanceOf(RefusedError);
    return String(error);
  };
  for (let i = 0; i < MAX_ADDRESS_FAILURES; i++) expect(await attempt("alice")).toContain("is wrong");
  const told = await attempt("alice", new PasswordKeys(PASSWORD));
  expect(told).toMatch(/Too many failed log-ins from this address: try again in \d+ s/);
  expect(await attempt("nobody")).toMatch(/Too many failed log-ins from this address/);
  const { bans, refusals, events } = await server.server.status();
  expect(bans).toMatchObject([{ subject: "address", value: "127.0.0.1" }]);
  expect(refusals).toMatchObject({ "log-in-refused": MAX_ADDRESS_FAILURES + 2 });
  expect(events).toMatchObject({
    logins: {
      succeeded: 0,
      "wrong-credentials": MAX_ADDRESS_FAILURES,
      "shut-out": 2,
      full: 0,
      "not-allowed": 0,
    },
    bans: { address: 1, user: 0 },
  });
  // the ban is in the record, further knocks are not
  const recorded = audit.events.map(({ type }) => type).join(" ");
  expect(recorded).toBe(`${"refused ".repeat(MAX_ADDRESS_FAILURES)}ban`);
  expect(server.server.lift("127.0.0.1")).toHaveLength(1);
  await untilConnected(harness.client(server));
}, 30_000);

test("a user with its own list gets in from there only, and is told why not", async () => {
  const user = { name: "alice", password: PASSWORD };
  const server = await harness.server({ users: [{ ...user, denyFrom: ["127.0.0.0/8"] }] });
  const client = harness.client(server);
  await expect(client.client.done).rejects.toThrow("This user may not log in from this address");
  expect((await server.server.status()).events?.logins).toMatchObject({ "not-allowed": 1, succeeded: 0 });
  await server.server.reload({ users: [{ ...user, allowFrom: ["127.0.0.1/32"] }] });
  await untilConnected(harness.client(server));
});

test("an audit log that cannot be written and shall refuse lets nobody in", async () => {
  const audit = new MemoryAudit();
  audit.mayLogIn = false;
  const server = await harness.server({ audit });
  await expect(harness.client(server).client.done).rejects.toThrow("cannot record log-ins");
  audit.mayLogIn = true;
  await untilConnected(harness.client(server));
});

test("log-in, resumption, end: the record says who, how and how much", async () => {
  const audit = new MemoryAudit();
  const server = await harness.server({ audit });
  const client = harness.client(server);
  await untilConnected(client);
  await client.client.stop();
  await until(() => audit.events.length === 2);
  expect(audit.events).toMatchObject([
    { type: "login", user: "alice", method: "password", addresses: ["10.8.0.2", "fd00::2"] },
    { type: "disconnected", user: "alice", code: "bye", rxBytes: 0, txBytes: 0 },
  ]);
  const { events } = await server.server.status();
  expect(events).toMatchObject({
    logins: { succeeded: 1 },
    loginMethods: { password: 1, resume: 0 },
    ends: { left: 1, shutdown: 0 },
  });
});

test("each step has its own time: TLS, then the first message", async () => {
  const server = await harness.server({ timings: { tlsTimeoutMs: 100, helloTimeoutMs: 100 } });
  const startMs = performance.now();
  await closed(clients.tcp(server));
  await closed(clients.tls(server).resume());
  expect(performance.now() - startMs).toBeLessThan(2_000);
  expect((await server.server.status()).refusals).toMatchObject({ "too-slow": 2 });
  await untilConnected(harness.client(server));
});

test("over its rate an address is cut off before TLS", async () => {
  const timings = { handshakeRates: { perAddress: 20, total: 200 } };
  const server = await harness.server({ timings });
  const sockets = Array.from({ length: 30 }, () => clients.tcp(server));
  await until(() => sockets.filter((socket) => socket.destroyed).length >= 24);
  const { refusals } = await server.server.status();
  expect(refusals?.["rate-limited"]).toBeGreaterThanOrEqual(20);
  await untilConnected(harness.client(server));
});

test("a token tried by two at once ends the session for both", async () => {
  const audit = new MemoryAudit();
  const server = await harness.server({ audit });
  const first = await clients.dial(server);
  const { config, resumeToken } = await logInOn(first);
  const resume = { sessionId: config.sessionId, token: resumeToken, nextEpoch: 1 };
  const both = await Promise.all([clients.dial(server), clients.dial(server)]);
  await Promise.allSettled(both.map((connection) => logInOn(connection, { resume })));
  const { sessions, events } = await server.server.status();
  expect(sessions.map(({ id }) => id)).not.toContain(config.sessionId);
  expect(events?.ends).toMatchObject({ "token-reused": 1 });
  expect(audit.events.filter(({ type }) => type === "token-reused")).toHaveLength(1);
});

test("a whole log-in that was recorded on the wire and is sent again gets nowhere", async () => {
  const server = await harness.server();
  const recorded: Uint8Array[] = [];
  const relay = createServer((near) => {
    const far = connectTcp(server.server.port, "127.0.0.1");
    near.on("data", (chunk: Buffer) => {
      recorded.push(Uint8Array.from(chunk));
      far.write(chunk);
    });
    far.on("data", (chunk) => void near.write(chunk));
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const)
      from.on("error", () => to.destroy()).on("close", () => to.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  const client = harness.clientOf((relay.address() as AddressInfo).port, server.data);
  await untilConnected(client);
  await client.client.stop();
  relay.close();
  await until(() => server.data.of("remove-session").length === 1);
  for (const pauseMs of [0, 20]) {
    const replay = clients.tcp(server);
    const end = closed(replay);
    for (const chunk of recorded) {
      if (!replay.destroyed) replay.write(chunk);
      await Bun.sleep(pauseMs);
    }
    await end;
  }
  expect(server.data.of("add-session")).toHaveLength(1);
  await untilConnected(harness.client(server));
});

test("each end of a session is counted by its cause", async () => {
  const user = { name: "alice", password: PASSWORD };
  const server = await harness.server({ users: [user] });
  const ends = async () => (await server.server.status()).events?.ends;
  const connected = async (): Promise<void> => {
    await untilConnected(harness.client(server));
  };
  await connected();
  expect(server.server.kick((await server.server.status()).sessions[0]!.id, "enough")).toBeTrue();
  expect(await ends()).toMatchObject({ kicked: 1, account: 0 });
  await connected();
  await server.server.reload({ users: [{ ...user, password: "another one" }] });
  expect(await ends()).toMatchObject({ kicked: 1, account: 1, proof: 0 });
});
