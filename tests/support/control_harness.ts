/** For tests of the control plane: a server and clients in one process over loopback TLS, with twins of the data plane. */

import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { makeSelfSignedCertificate, type CertificatePair } from "../../lib/certificate.ts";
import { type ClientOptions, type RunningClient, startClient } from "../../lib/client.ts";
import type { SessionConfig } from "../../lib/control_message.ts";
import { systemClock } from "../../lib/clock.ts";
import type {
  DataPlanePort,
  EpochKeys,
  FromDataPlane,
  SetEpoch,
  ToDataPlane,
} from "../../lib/data_plane_message.ts";
import type { Log, LogFields } from "../../lib/log.ts";
import { type RunningServer, type ServerOptions, startServer } from "../../lib/server.ts";

export const PASSWORD = "correct horse battery staple";

let certificate: Promise<CertificatePair> | null = null;

/** One certificate for `localhost` and 127.0.0.1 for the whole file. */
export function testCertificate(): Promise<CertificatePair> {
  certificate ??= makeSelfSignedCertificate({
    name: "test server",
    hosts: ["localhost", "127.0.0.1"],
    nowMs: Date.now(),
    validDays: 1,
  });
  return certificate;
}

/** A log that remembers its lines as `level message key=value`. */
export class TestLog implements Log {
  readonly lines: string[] = [];
  error = (message: string, fields?: LogFields): void => this.#add("error", message, fields);
  warn = (message: string, fields?: LogFields): void => this.#add("warn", message, fields);
  info = (message: string, fields?: LogFields): void => this.#add("info", message, fields);
  debug = (message: string, fields?: LogFields): void => this.#add("debug", message, fields);

  #add(level: string, message: string, fields: LogFields = {}): void {
    const rest = Object.entries(fields).map(([key, value]) => `${key}=${String(value)}`);
    this.lines.push([level, message, ...rest].join(" "));
  }
}

/** Records what it is told; speaks when a test wants it. */
export class FakeDataPlane implements DataPlanePort {
  readonly posted: ToDataPlane[] = [];
  #receive: (message: FromDataPlane) => void = () => undefined;
  /** Called for each message, after it was recorded. */
  onPost: (message: ToDataPlane) => void = () => undefined;

  post(message: ToDataPlane): void {
    this.posted.push(message);
    if (message.kind === "get-stats") {
      this.emit({ kind: "stats", requestId: message.requestId, sessions: [], drops: { "no-session": 3 } });
    }
    this.onPost(message);
  }

  onMessage(receive: (message: FromDataPlane) => void): void {
    this.#receive = receive;
  }

  emit(message: FromDataPlane): void {
    this.#receive(message);
  }

  of<Kind extends ToDataPlane["kind"]>(kind: Kind): Extract<ToDataPlane, { kind: Kind }>[] {
    return this.posted.filter(
      (message): message is Extract<ToDataPlane, { kind: Kind }> => message.kind === kind,
    );
  }

  /** Keys of a session's epoch, if they were installed. */
  keysOf(id: number, epoch: number): EpochKeys | undefined {
    return this.of("set-epoch").find((message) => message.id === id && message.keys.epoch === epoch)?.keys;
  }
}

/** Both ends of the data path: an epoch is confirmed when a record sealed by the client opens at the server. */
export function joinDataPlanes(client: FakeDataPlane, server: FakeDataPlane): void {
  client.onPost = (message) => {
    if (message.kind === "set-epoch") void confirm(message, client, server);
  };
}

/** A TCP relay in front of a server, for accidents. */
export interface Relay {
  readonly port: number;
  /** Cuts all connections. */
  cut(): void;
  /** From now on, passes on nothing more. */
  mute(): void;
}

async function confirm({ id, keys }: SetEpoch, client: FakeDataPlane, server: FakeDataPlane): Promise<void> {
  const peer = server.keysOf(id, keys.epoch);
  if (peer === undefined || !(await fits(keys, peer)) || !(await fits(peer, keys))) return;
  server.emit({ kind: "epoch-confirmed", id, epoch: keys.epoch });
  client.emit({ kind: "epoch-confirmed", id, epoch: keys.epoch });
}

/** Whether what `from` seals, `to` can open. */
export async function fits(from: EpochKeys, to: EpochKeys): Promise<boolean> {
  const iv = (salt: Uint8Array) => ({
    name: "AES-GCM",
    iv: Uint8Array.from([...salt, 0, 0, 0, 0, 0, 0, 0, 1]),
  });
  const plaintext = Uint8Array.from([1, 2, 3]);
  const sealed = await crypto.subtle.encrypt(iv(from.sendSalt), from.sendKey, plaintext);
  const opened = await crypto.subtle.decrypt(iv(to.receiveSalt), to.receiveKey, sealed).catch(() => null);
  return opened !== null && new Uint8Array(opened).toHex() === plaintext.toHex();
}

/** Waits until `condition` holds. */
export async function until(condition: () => boolean, timeoutMs = 5_000): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!condition()) {
    if (performance.now() > endMs)
      throw new Error(`did not become true within ${timeoutMs} ms: ${condition.toString()}`);
    await Bun.sleep(5);
  }
}

export interface TestServer {
  readonly server: RunningServer;
  readonly data: FakeDataPlane;
  readonly log: TestLog;
}

export interface TestClient {
  readonly client: RunningClient;
  readonly data: FakeDataPlane;
  readonly log: TestLog;
  /** Every call of `onConnected`. */
  readonly connected: SessionConfig[];
}

/** Everything a test started, to be stopped in `afterEach`. */
export class ControlHarness {
  readonly #stops: (() => Promise<void>)[] = [];

  async server(options: Partial<ServerOptions> = {}): Promise<TestServer> {
    const data = new FakeDataPlane();
    const log = new TestLog();
    const server = await startServer({
      listen: { host: "127.0.0.1", port: 0 },
      tun: "omail0",
      addresses: ["10.8.0.1/24", "fd00::1/64"],
      mtuBytes: 1420,
      pushRoutes: ["192.168.7.0/24"],
      pushDns: ["10.8.0.1"],
      allowFrom: [],
      denyFrom: [],
      maxClients: 10,
      rekeyAfterMs: 120_000,
      keepaliveMs: 10_000,
      offload: true,
      users: [{ name: "alice", password: PASSWORD }],
      certificate: await testCertificate(),
      serverSecret: new Uint8Array(32).fill(7),
      dataPlane: data,
      log,
      clock: systemClock,
      ...options,
      // a test knocks more often than anybody else
      timings: { handshakeRates: { perAddress: 10_000, total: 10_000 }, ...options.timings },
    });
    this.#stops.push(() => server.stop("test ends"));
    return { server, data, log };
  }

  /** A client of `server` that finds its data path confirmed. */
  client(server: TestServer, options: Partial<ClientOptions> = {}): TestClient {
    return this.clientOf(server.server.port, server.data, options);
  }

  clientOf(port: number, serverData: FakeDataPlane, options: Partial<ClientOptions> = {}): TestClient {
    const data = new FakeDataPlane();
    joinDataPlanes(data, serverData);
    const log = new TestLog();
    const connected: SessionConfig[] = [];
    const client = startClient({
      servers: [{ host: "127.0.0.1", port }],
      user: "alice",
      password: () => Promise.resolve(PASSWORD),
      offload: true,
      program: "omail-client test",
      dataPlane: data,
      log,
      clock: systemClock,
      onConnected: (config) => {
        connected.push(config);
        return Promise.resolve();
      },
      onDisconnected: () => undefined,
      ...options,
    });
    this.#stops.push(() => client.stop());
    return { client, data, log, connected };
  }

  async relay(port: number): Promise<Relay> {
    const sockets = new Set<Socket>();
    let muted = false;
    const pass = (from: Socket, to: Socket): void => {
      sockets.add(from);
      from.on("data", (chunk) => void (muted || to.write(chunk)));
      from.on("error", () => to.destroy());
      from.on("close", () => {
        sockets.delete(from);
        to.destroy();
      });
    };
    const listener = createServer((near) => {
      const far = connect(port, "127.0.0.1");
      pass(near, far);
      pass(far, near);
    });
    await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
    const cut = (): void => [...sockets].forEach((socket) => socket.destroy());
    this.#stops.push(async () => {
      cut();
      listener.close();
    });
    return { port: (listener.address() as AddressInfo).port, cut, mute: () => void (muted = true) };
  }

  async stop(): Promise<void> {
    for (const stop of this.#stops.splice(0).toReversed()) await stop();
  }
}

/** Waits until a client says that it is connected. */
export async function untilConnected({ log }: TestClient, times = 1): Promise<void> {
  const isConnected = (line: string): boolean => /^info (connected|session resumed) /.test(line);
  await until(() => log.lines.filter(isConnected).length >= times);
}
