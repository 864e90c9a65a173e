import { afterEach, expect, test } from "bun:test";
import { type AddressInfo, connect as connectTcp, createServer } from "node:net";
import { connect as connectTls } from "node:tls";
import { ControlHarness, type TestServer, untilConnected } from "../support/control_harness.ts";
import { closed, next, RawClients } from "../support/raw_client.ts";

const harness = new ControlHarness();
const clients = new RawClients();
afterEach(async () => {
  clients.destroyAll();
  await harness.stop();
});

/** Sends a body after TLS and expects a goodbye that names the fault. */
async function expectGoodbye(server: TestServer, body: string | Uint8Array, reason: string): Promise<void> {
  const connection = await clients.dial(server);
  connection.send(typeof body === "string" ? new TextEncoder().encode(body) : body);
  const message = await next(connection);
  expect(message).toMatchObject({ type: "goodbye", code: "protocol" });
  expect(message?.type === "goodbye" ? message.reason : "").toContain(reason);
  expect(await next(connection)).toBeNull();
}

test("ill-formed messages end their connection with a reason", async () => {
  const server = await harness.server();
  await expectGoodbye(server, "not json", "expected JSON in UTF-8");
  await expectGoodbye(server, Uint8Array.from([0xff, 0xfe, 0x00]), "expected JSON in UTF-8");
  await expectGoodbye(server, "[".repeat(60_000), "expected JSON in UTF-8");
  await expectGoodbye(server, "{}", "type");
  await expectGoodbye(server, `{"type":"launch"}`, "type");
  await expectGoodbye(server, `{"type":"ping","extra":1}`, "extra");
  await expectGoodbye(server, `{"type":"ping"}`, "expected hello");
  await expectGoodbye(server, `{"type":"proof","scram":"x"}`, "expected hello");
  await untilConnected(harness.client(server));
});

test("an over-long frame is refused by its length, before its body came", async () => {
  const socket = clients.tls(await harness.server());
  const chunks: Uint8Array[] = [];
  socket.on("data", (chunk: Uint8Array) => chunks.push(chunk));
  socket.on("secureConnect", () => socket.write(Uint8Array.from([0x7f, 0xff, 0xff, 0xff])));
  await closed(socket);
  expect(Buffer.concat(chunks).toString()).toContain("2147483647");
});

test("TLS without our ALPN protocol or below version 1.3 does not get through", async () => {
  const server = await harness.server();
  const ways = [
    {},
    { ALPNProtocols: ["h2"] },
    { ALPNProtocols: ["omail/1"], maxVersion: "TLSv1.2" as const },
  ];
  for (const way of ways) {
    const socket = connectTls({
      port: server.server.port,
      host: "127.0.0.1",
      rejectUnauthorized: false,
      ...way,
    });
    socket.on("error", () => undefined);
    await closed(socket);
  }
  await untilConnected(harness.client(server));
});

test("garbage, a truncated TLS hello and silence on the port do no harm", async () => {
  const server = await harness.server({ timings: { handshakeTimeoutMs: 800 } });
  const garbage = clients.tcp(server);
  garbage.write(crypto.getRandomValues(new Uint8Array(4096)));
  const truncated = clients.tcp(server);
  truncated.write(Uint8Array.from([0x16, 0x03, 0x01, 0x02, 0x00, 0x01]));
  const silent = clients.tcp(server);
  const half = clients.tcp(server);
  half.end(Uint8Array.from([0x16, 0x03]));
  await Promise.all([garbage, truncated, silent, half].map(closed));
  await untilConnected(harness.client(server));
});

test("bytes that drip in do not extend the time for the log-in", async () => {
  const socket = clients.tls(await harness.server({ timings: { handshakeTimeoutMs: 200 } }));
  socket.resume();
  const startMs = performance.now();
  socket.on("secureConnect", () => socket.write(Uint8Array.from([0, 0, 0xff, 0xff])));
  const drip = setInterval(() => socket.write(" "), 20);
  await closed(socket);
  clearInterval(drip);
  const tookMs = performance.now() - startMs;
  expect(tookMs).toBeGreaterThan(150);
  expect(tookMs).toBeLessThan(1_500);
});

test("the oldest connection without log-in makes room for a new one", async () => {
  const server = await harness.server({ timings: { maxPending: 3 } });
  const sockets = [clients.tcp(server), clients.tcp(server), clients.tcp(server)];
  await Promise.all(sockets.map((socket) => new Promise((resolve) => socket.once("connect", resolve))));
  const oldest = closed(sockets[0]!);
  await untilConnected(harness.client(server));
  await oldest;
  expect(sockets.map((socket) => socket.destroyed)).toEqual([true, false, false]);
});

test("only addresses of allowFrom may connect", async () => {
  const server = await harness.server({ allowFrom: ["192.0.2.0/24"] });
  await expect(clients.dial(server)).rejects.toThrow("Cannot connect");
  await server.server.reload({ allowFrom: ["127.0.0.0/8"] });
  await clients.dial(server);
});

test("client and server agree on AES-128-GCM and X25519MLKEM768, so that recorded log-ins stay closed to quantum computers", async () => {
  const server = await harness.server();
  const socket = connectTcp(server.server.port, "127.0.0.1");
  // a client's TLS in memory, whose bytes pass through our hands
  const spoken: Uint8Array[] = [];
  const listener = createServer((near) => {
    near.on("data", (chunk) => socket.write(chunk));
    socket.on("data", (chunk: Uint8Array) => {
      spoken.push(chunk);
      near.write(chunk);
    });
    near.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  await untilConnected(harness.clientOf((listener.address() as AddressInfo).port, server.data));
  listener.close();
  socket.destroy();
  // ServerHello (RFC 8446, section 4.1.3): version, random, session ID, cipher 0x1301; extension key_share (51) begins
  // with the group, 0x11ec (draft-ietf-tls-ecdhe-mlkem)
  expect(Buffer.concat(spoken).subarray(0, 1400).toString("hex")).toMatch(
    /^160303.{4}02.{6}0303.{64}20.{64}130100.*0033046411ec0460/,
  );
});
