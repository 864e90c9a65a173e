import { afterEach, expect, test } from "bun:test";
import { systemClock } from "../../lib/clock.ts";
import type { SessionConfig } from "../../lib/control_message.ts";
import { OmailError, RefusedError, UnknownHostError, UsageError } from "../../lib/errors.ts";
import {
  ControlHarness,
  FakeDataPlane,
  joinDataPlanes,
  PASSWORD,
  testCertificate,
  until,
  untilConnected,
} from "../support/control_harness.ts";

const harness = new ControlHarness();
afterEach(() => harness.stop());

test("startClient() logs in, installs keys that fit the server's and tells the configuration", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const config = client.connected[0]!;
  expect(config.addresses).toEqual(["10.8.0.2/24", "fd00::2/64"]);
  expect(config.mtu).toBe(1420);
  expect(config.routes).toEqual(["192.168.7.0/24"]);
  expect(config.dns).toEqual(["10.8.0.1"]);
  expect(client.data.of("add-session")).toEqual([
    {
      kind: "add-session",
      id: config.sessionId,
      allowedIps: ["0.0.0.0/0", "::/0"],
      endpoint: { host: "127.0.0.1", port: server.server.port },
      peerOffload: true,
    },
  ]);
  expect(server.data.of("add-session")[0]?.allowedIps).toEqual(["10.8.0.2/32", "fd00::2/128"]);
  expect(server.data.of("set-epoch").map(({ sendNow }) => sendNow)).toEqual([false]);
  expect(client.data.of("set-epoch").map(({ sendNow }) => sendNow)).toEqual([true]);
});

test("startClient() ends with RefusedError on a wrong password, and says so once", async () => {
  const server = await harness.server();
  const client = harness.client(server, { password: () => Promise.resolve("wrong") });
  const error = await client.client.done.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(RefusedError);
  expect(String(error)).toContain("The user name or the password is wrong");
  expect(server.data.posted).toEqual([]);
});

test("startClient() gets the same answer for an unknown user as for a wrong password", async () => {
  const server = await harness.server();
  const wrong = harness.client(server, { password: () => Promise.resolve("wrong") });
  const unknown = harness.client(server, { user: "mallory" });
  const errors = await Promise.all([wrong, unknown].map(({ client }) => client.done.catch(String)));
  expect(errors[0]).toBe(errors[1]!);
});

test("startClient() ends with UsageError when the password cannot be used", async () => {
  const server = await harness.server();
  const client = harness.client(server, { password: () => Promise.resolve("tab\there") });
  expect(client.client.done).rejects.toBeInstanceOf(UsageError);
  await client.client.done.catch(() => undefined);
});

test("startClient() with a CA accepts the certificate it vouches for", async () => {
  const server = await harness.server();
  const { certPem } = await testCertificate();
  await untilConnected(harness.client(server, { trust: { caPem: certPem, pins: [] } }));
});

test("startClient() with a CA refuses another certificate and a wrong name", async () => {
  const server = await harness.server();
  const { makeSelfSignedCertificate } = await import("../../lib/certificate.ts");
  const other = await makeSelfSignedCertificate({
    name: "x",
    hosts: ["127.0.0.1"],
    nowMs: Date.now(),
    validDays: 1,
  });
  const strange = harness.client(server, { trust: { caPem: other.certPem, pins: [] } });
  const { certPem } = await testCertificate();
  const misnamed = harness.client(server, {
    trust: { caPem: certPem, pins: [] },
    servers: [{ host: "vpn.example", port: server.server.port }],
    resolve: () => Promise.resolve([{ host: "127.0.0.1", port: server.server.port }]),
  });
  for (const { client } of [strange, misnamed]) {
    const error = await client.done.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(RefusedError);
    expect(String(error)).toContain("Cannot trust the certificate");
  }
});

test("startClient() refuses a server that does not know the password", async () => {
  const impostor = await harness.server({ users: [{ name: "alice", password: "something else" }] });
  const client = harness.client(impostor);
  const error = await client.client.done.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(RefusedError);
  expect(client.connected).toEqual([]);
});

/** A client whose server has stopped, and what another one at its place begins with: a certificate of its own. */
async function clientOfStopped() {
  const { makeSelfSignedCertificate } = await import("../../lib/certificate.ts");
  const names = { name: "new", hosts: [], nowMs: Date.now(), validDays: 1 };
  const certificate = await makeSelfSignedCertificate(names);
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const { port } = server.server;
  await server.server.stop("restart");
  return { client, other: { certificate, listen: { host: "127.0.0.1", port } } };
}

test("startClient() warns of a new certificate that comes with a good proof", async () => {
  const { client, other } = await clientOfStopped();
  const second = await harness.server(other);
  joinDataPlanes(client.data, second.data);
  await untilConnected(client, 2);
  expect(client.log.lines.filter((line) => line.includes("new certificate"))).toHaveLength(1);
});

test("startClient() with a tunnel does not take a stranger's refusal for its server's", async () => {
  const { client, other } = await clientOfStopped();
  const users = [{ name: "alice", password: "not the client's" }];
  const stranger = await harness.server({ ...other, users });
  const refusals = () => client.log.lines.filter((line) => line.includes("The server refused")).length;
  await until(() => refusals() > 0);
  expect((await client.client.status()).state).toBe("reconnecting");
  await stranger.server.stop("gone");
});

test("startClient() comes back after a restart of the server, with the same inner addresses", async () => {
  const server = await harness.server();
  const other = harness.client(server);
  await untilConnected(other);
  const client = harness.client(server);
  await untilConnected(client);
  const { port } = server.server;
  await other.client.stop();
  await server.server.stop("restart");
  await until(() => client.log.lines.some((line) => line.includes("trying again")));
  expect((await client.client.status()).state).toBe("reconnecting");
  const second = await harness.server({ listen: { host: "127.0.0.1", port } });
  joinDataPlanes(client.data, second.data);
  await untilConnected(client, 2);
  const { addresses, state } = await client.client.status();
  expect([state, addresses]).toEqual(["connected", ["10.8.0.3", "fd00::3"]]);
  // the machine is as it should be: nothing is prepared twice
  expect(client.connected).toHaveLength(1);
});

test("startClient() resumes its session when only the connection was lost", async () => {
  const server = await harness.server();
  const relay = await harness.relay(server.server.port);
  const client = harness.clientOf(relay.port, server.data);
  await untilConnected(client);
  const before = await client.client.status();
  relay.cut();
  await untilConnected(client, 2);
  const after = await client.client.status();
  expect(after.sessionId).toBe(before.sessionId);
  expect(after.connectedAt).toBe(before.connectedAt);
  expect(client.data.of("add-session")).toHaveLength(1);
  expect(client.data.of("set-epoch").map(({ keys }) => keys.epoch)).toEqual([0, 1]);
  expect(server.log.lines.some((line) => line.includes("client resumed its session"))).toBe(true);
});

test("startClient() asks for a password once, also over many connections", async () => {
  let asked = 0;
  const password = (): Promise<string> => {
    asked += 1;
    return Promise.resolve(PASSWORD);
  };
  const server = await harness.server();
  const relay = await harness.relay(server.server.port);
  const client = harness.clientOf(relay.port, server.data, { password });
  await untilConnected(client);
  relay.cut();
  await untilConnected(client, 2);
  expect(asked).toBe(1);
});

test("startClient() makes new epochs by time, by the data plane's wish and by the server's", async () => {
  const server = await harness.server({ rekeyAfterMs: 150 });
  const client = harness.client(server);
  await untilConnected(client);
  await until(() => client.data.of("set-epoch").length >= 3);
  const id = client.connected[0]!.sessionId;
  const count = client.data.of("set-epoch").length;
  client.data.emit({ kind: "rekey-needed", id, epoch: count - 1 });
  server.data.emit({ kind: "rekey-needed", id, epoch: count - 1 });
  expect(server.server.rekeyAll()).toBe(1);
  await until(() => client.data.of("set-epoch").length > count);
  const epochs = client.data.of("set-epoch").map(({ keys }) => keys.epoch);
  expect(epochs).toEqual(epochs.map((_epoch, i) => i));
});

test("startClient() tells of its own end: bye removes the session at both ends", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const { sessionId } = client.connected[0]!;
  await client.client.stop();
  await until(() => server.data.of("remove-session").length > 0);
  expect(client.data.of("remove-session").map(({ id }) => id)).toEqual([sessionId]);
  expect(server.log.lines.some((line) => line.includes("client left"))).toBe(true);
  expect((await server.server.status()).sessions).toEqual([]);
});

test("startClient() ends with the error of onConnected", async () => {
  const server = await harness.server();
  const onConnected = (): Promise<void> => Promise.reject(new OmailError("no address"));
  const client = harness.client(server, { onConnected });
  expect(String(await client.client.done.catch(String))).toContain("no address");
  await until(() => server.data.of("remove-session").length === 1);
});

test("startClient() gives a stopped client no second life while it prepares", async () => {
  const server = await harness.server();
  const preparing = Promise.withResolvers<SessionConfig>();
  const finish = Promise.withResolvers<void>();
  const client = harness.client(server, {
    onConnected: (config) => {
      preparing.resolve(config);
      return finish.promise;
    },
  });
  await preparing.promise;
  let stopped = false;
  const stop = client.client.stop().then(() => (stopped = true));
  await Bun.sleep(20);
  expect(stopped).toBe(false);
  finish.resolve();
  await stop;
});

test("startClient() tries again while nobody listens, and stops when told", async () => {
  const server = await harness.server();
  const { port } = server.server;
  await server.server.stop("gone");
  const client = harness.clientOf(port, server.data);
  await until(() => client.log.lines.filter((line) => line.includes("trying again")).length >= 2);
  expect((await client.client.status()).state).toBe("connecting");
  expect(client.log.lines[1]).toContain(`127.0.0.1:${port}`);
  await client.client.stop();
  await client.client.done;
});

test("startClient() takes the second server when the first does not answer", async () => {
  const gone = await harness.server();
  await gone.server.stop("gone");
  const server = await harness.server();
  const servers = [gone, server].map(({ server: { port } }) => ({ host: "127.0.0.1", port }));
  const client = harness.client(server, { servers });
  await untilConnected(client);
  expect((await client.client.status()).server).toBe(`127.0.0.1:${server.server.port}`);
});

test("startClient() has every address admitted before it is dialled, and passes search domains on", async () => {
  const server = await harness.server({ pushDomains: ["corp.example"] });
  const admitted: string[] = [];
  const client = harness.client(server, {
    resolve: ({ port }) => Promise.resolve(["127.0.0.9", "127.0.0.1"].map((host) => ({ host, port }))),
    servers: [{ host: "vpn.example", port: server.server.port }],
    admit: async ({ host }) => void admitted.push(host),
  });
  await untilConnected(client);
  expect(admitted).toEqual(["127.0.0.9", "127.0.0.1"]);
  expect(client.connected[0]?.searchDomains).toEqual(["corp.example"]);
});

test("startClient() pings an idle server and gives up one that does not answer", async () => {
  const server = await harness.server();
  const relay = await harness.relay(server.server.port);
  const timings = { pingMs: 50, pingTimeoutMs: 800 };
  const client = harness.clientOf(relay.port, server.data, { timings });
  await untilConnected(client);
  await Bun.sleep(200);
  expect(client.log.lines.some((line) => line.includes("trying again"))).toBe(false);
  relay.mute();
  await until(() => client.log.lines.some((line) => line.includes("does not answer")));
});

test("startClient() says when no record comes back, and is not connected then", async () => {
  const server = await harness.server();
  const client = harness.client(server, { timings: { confirmTimeoutMs: 20 } });
  client.data.onPost = () => undefined;
  await until(() => client.log.lines.some((line) => line.includes("is UDP blocked?")));
  expect((await client.client.status()).state).toBe("connecting");
});

test("startClient() ends at once when the server's name does not exist, and names it", async () => {
  const client = harness.clientOf(1, new FakeDataPlane(), {
    servers: [{ host: "vpn.invalid", port: 51820 }],
    resolve: ({ host }) => Promise.reject(new UnknownHostError(`Cannot resolve "${host}"`)),
  });
  expect(String(await client.client.done.catch(String))).toContain('Cannot resolve "vpn.invalid"');
});

test("startClient() with a session takes an unknown name for the network's fault", async () => {
  const server = await harness.server();
  const relay = await harness.relay(server.server.port);
  let exists = true;
  const client = harness.clientOf(relay.port, server.data, {
    servers: [{ host: "vpn.example", port: relay.port }],
    resolve: ({ host, port }) =>
      exists
        ? Promise.resolve([{ host: "127.0.0.1", port }])
        : Promise.reject(new UnknownHostError(`Cannot resolve "${host}"`)),
  });
  await untilConnected(client);
  exists = false;
  relay.cut();
  await untilConnected(client, 2);
});

test("startClient() that had a session tries again at a full server, one that had none does not", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const { port } = server.server;
  await server.server.stop("restart");
  const full = await harness.server({ maxClients: 0, listen: { host: "127.0.0.1", port } });
  await until(() => client.log.lines.filter((line) => line.includes("The server is full")).length >= 2);
  expect((await client.client.status()).reason).toContain("The server is full");
  expect(await harness.client(full).client.done.catch((error: unknown) => error)).toBeInstanceOf(
    RefusedError,
  );
  await full.server.stop("restart");
  const roomy = await harness.server({ listen: { host: "127.0.0.1", port } });
  joinDataPlanes(client.data, roomy.data);
  await untilConnected(client, 2);
  // four log-ins and two waits between tries: 3.3 s on an idle machine
}, 20_000);

test("startClient() takes the next server when no record comes back from the first", async () => {
  const [first, second] = [await harness.server(), await harness.server()];
  const servers = [first, second].map(({ server: { port } }) => ({ host: "127.0.0.1", port }));
  // its data path is joined with the second server only
  const client = harness.client(second, { servers, timings: { confirmTimeoutMs: 100 } });
  await untilConnected(client);
  expect((await client.client.status()).server).toBe(`127.0.0.1:${second.server.port}`);
});

test("startClient() says why it is not connected, and that the server is silent or back", async () => {
  const server = await harness.server();
  const client = harness.client(server);
  await untilConnected(client);
  const id = client.connected[0]!.sessionId;
  client.data.emit({ kind: "presence-changed", id, alive: false, silentMs: 20_000 });
  const silent = await client.client.status();
  expect([silent.state, silent.reason]).toEqual(["reconnecting", "nothing is heard of the server"]);
  client.data.emit({ kind: "presence-changed", id, alive: true, silentMs: 0 });
  const back = await client.client.status();
  expect([back.state, back.reason]).toEqual(["connected", null]);
  const said = client.log.lines.filter((line) => /silent|heard again/.test(line));
  expect(said).toEqual([
    "warn the server is silent seconds=20.0 transport=udp",
    "info the server is heard again",
  ]);
});

test("probe() pings at once, and a server that does not answer is left within two seconds", async () => {
  const server = await harness.server();
  const relay = await harness.relay(server.server.port);
  const client = harness.clientOf(relay.port, server.data);
  await untilConnected(client);
  client.client.probe("test");
  expect(client.data.of("probe-paths")).toHaveLength(1);
  await Bun.sleep(1_200);
  expect(client.log.lines.some((line) => line.includes("trying again"))).toBe(false);
  relay.mute();
  const startMs = performance.now();
  client.client.probe("test");
  await until(() => client.log.lines.some((line) => line.includes("does not answer")));
  expect(performance.now() - startMs).toBeLessThan(2_000);
});

test("probe() cuts a long wait short", async () => {
  const server = await harness.server();
  const { port } = server.server;
  await server.server.stop("gone");
  const client = harness.clientOf(port, server.data);
  const waits = () => client.log.lines.filter((line) => line.includes("trying again")).length;
  await until(() => waits() >= 5);
  const startMs = performance.now();
  const count = waits();
  client.client.probe("test");
  await until(() => waits() > count);
  expect(performance.now() - startMs).toBeLessThan(500);
});

test("a clock that jumps has everything asked anew", async () => {
  let sleptMs = 0;
  const clock = {
    monotonicMs: () => systemClock.monotonicMs(),
    wallMs: () => systemClock.wallMs() + sleptMs,
  };
  const server = await harness.server();
  const client = harness.client(server, { clock });
  await untilConnected(client);
  sleptMs = 3_600_000;
  await until(() => client.data.of("probe-paths").length > 0);
  expect(client.log.lines.some((line) => line.includes("the machine slept for 3600 s"))).toBe(true);
});
