import { afterEach, expect, test } from "bun:test";
import { type AddressInfo, createServer, type Server } from "node:net";
import type { HostPort } from "../../lib/address.ts";
import { ClientDialer, type DialerOptions } from "../../lib/client_dialer.ts";
import { OmailError, UnknownHostError } from "../../lib/errors.ts";
import { ControlHarness } from "../support/control_harness.ts";

const harness = new ControlHarness();
const silent: Server[] = [];
afterEach(async () => {
  for (const server of silent.splice(0)) server.close();
  await harness.stop();
});

const never = new AbortController().signal;

/** A port of a real server. */
async function answering(): Promise<number> {
  return (await harness.server()).server.port;
}

/** A port on which TCP is accepted and nothing is said. */
async function saysNothing(): Promise<number> {
  const server = createServer((socket) => socket.on("error", () => undefined));
  silent.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return (server.address() as AddressInfo).port;
}

/** A port on which nobody listens. */
async function closedPort(): Promise<number> {
  const port = await saysNothing();
  await new Promise((resolve) => silent.pop()!.close(resolve));
  return port;
}

function at(port: number, host = "127.0.0.1"): HostPort {
  return { host, port };
}

function dialer(servers: readonly HostPort[], options: Partial<DialerOptions> = {}): ClientDialer {
  const resolve = (server: HostPort) => Promise.resolve([{ ...server, host: "127.0.0.1" }]);
  const admit = () => Promise.resolve();
  return new ClientDialer({
    servers,
    caPem: null,
    resolve,
    admit,
    timeoutMs: 2_000,
    staggerMs: 100,
    ...options,
  });
}

test("dial() passes by a closed port and a server that says nothing, and sticks to what works", async () => {
  const servers = [at(await closedPort()), at(await saysNothing()), at(await answering())];
  const tested = dialer(servers);
  const startMs = performance.now();
  const first = await tested.dial(never);
  expect(first.server).toBe(servers[2]!);
  expect(performance.now() - startMs).toBeLessThan(1_500);
  first.connection.destroy();
  const second = await tested.dial(never);
  expect(second.server).toBe(servers[2]!);
  second.connection.destroy();
});

test("demote() puts a server behind all others", async () => {
  const servers = [at(await answering()), at(await answering())];
  const tested = dialer(servers);
  const first = await tested.dial(never);
  first.connection.destroy();
  tested.demote(first.server);
  const second = await tested.dial(never);
  expect([first.server, second.server]).toEqual(servers);
  second.connection.destroy();
});

test("dial() names every failure: a closed port, a silent server, a name that cannot be resolved", async () => {
  const [closed, silentPort] = [await closedPort(), await saysNothing()];
  const servers = [at(closed), at(silentPort), at(1, "vpn.example")];
  const resolve = (server: HostPort) =>
    server.host === "vpn.example"
      ? Promise.reject(new OmailError('Cannot resolve "vpn.example": no answer'))
      : Promise.resolve([server]);
  const error = await dialer(servers, { resolve, timeoutMs: 300 })
    .dial(never)
    .catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(OmailError);
  expect(error).not.toBeInstanceOf(UnknownHostError);
  expect(String(error)).toContain(`"127.0.0.1:${closed}"`);
  expect(String(error)).toContain(
    `"127.0.0.1:${silentPort}": TCP is accepted, but TLS does not come about within 300 ms`,
  );
  expect(String(error)).toContain('Cannot resolve "vpn.example"');
});

test("dial() throws UnknownHostError only when no name exists", async () => {
  const resolve = ({ host }: HostPort) =>
    Promise.reject(new UnknownHostError(`Cannot resolve "${host}": there is no such name`));
  const servers = [at(1, "a.example"), at(1, "b.example")];
  await expect(dialer(servers, { resolve }).dial(never)).rejects.toBeInstanceOf(UnknownHostError);
  const mixed = (server: HostPort) =>
    server.host === "a.example" ? resolve(server) : Promise.resolve([at(server.port)]);
  const error = await dialer([servers[0]!, at(await closedPort(), "b.example")], { resolve: mixed })
    .dial(never)
    .catch((reason: unknown) => reason);
  expect(error).not.toBeInstanceOf(UnknownHostError);
});

test("dial() resolves anew each time and follows a server that moved", async () => {
  const ports = [await answering(), await answering()];
  let asked = 0;
  const resolve = () => Promise.resolve([at(ports[asked++]!)]);
  const tested = dialer([at(1, "vpn.example")], { resolve });
  for (const port of ports) {
    const dialed = await tested.dial(never);
    expect(dialed.endpoint.port).toBe(port);
    dialed.connection.destroy();
  }
});

test("dial() falls back to the remembered address when the resolver fails or hangs", async () => {
  const port = await answering();
  let answer: () => Promise<readonly HostPort[]> = () => Promise.resolve([at(port)]);
  const tested = dialer([at(1, "vpn.example")], { resolve: () => answer() });
  (await tested.dial(never)).connection.destroy();
  answer = () => Promise.reject(new OmailError("out of reach"));
  (await tested.dial(never)).connection.destroy();
  answer = () => new Promise(() => undefined);
  const dialed = await tested.dial(never);
  expect(dialed.endpoint).toEqual(at(port));
  dialed.connection.destroy();
});

test("dial() does not wait for the resolver of one server when another answers", async () => {
  const servers = [at(1, "slow.example"), at(await answering())];
  const resolve = (server: HostPort) =>
    server === servers[0]
      ? new Promise<readonly HostPort[]>(() => undefined)
      : Promise.resolve([at(server.port)]);
  const dialed = await dialer(servers, { resolve }).dial(never);
  expect(dialed.server).toBe(servers[1]!);
  dialed.connection.destroy();
});

test("dial() gives up at once when told", async () => {
  const stop = new AbortController();
  const dialing = dialer([at(await saysNothing())], { staggerMs: 60_000 }).dial(stop.signal);
  setTimeout(() => stop.abort(), 50);
  await expect(dialing).rejects.toThrow();
});
