/** A client's and a server's data plane in one process, with an observer on the wire between them. */

import { afterEach } from "bun:test";
import type { Clock } from "../../lib/clock.ts";
import { EventDataLoop } from "../../lib/data_loop_events.ts";
import { DataPlane } from "../../lib/data_plane.ts";
import type { EngineName, FromDataPlane, SessionStats, StatsReport } from "../../lib/data_plane_message.ts";
import { openEngine } from "../../lib/engines.ts";
import { yieldProcessor } from "../../lib/libc.ts";
import { MAX_MTU_BYTES } from "../../lib/limits.ts";
import { MemoryPacketDevice } from "../../lib/tun_memory.ts";
import { type MemoryDatagramSocket, MemoryNetwork } from "../../lib/udp_memory.ts";
import { epochKeys } from "./epoch_keys.ts";
import { buildPacket, withVnet } from "./inner_packet.ts";

export const SESSION_ID = 0x01020304;
export const SERVER_HOST = "192.0.2.1";
export const CLIENT_HOST = "198.51.100.7";
const PORT = 51820;
/** OMAIL_TEST_ENGINE=sync runs every test of the data plane on the other engine. */
export const DEFAULT_ENGINE: EngineName = process.env["OMAIL_TEST_ENGINE"] === "sync" ? "sync" : "web";

/** What a test may choose. */
export interface PairOptions {
  readonly clientOffload?: boolean;
  readonly serverOffload?: boolean;
  readonly maxDatagramBytes?: number;
  readonly mtuBytes?: number;
  readonly engine?: EngineName;
}

/** One end: its devices, and everything its data plane said. */
export interface End {
  readonly plane: DataPlane;
  readonly tun: MemoryPacketDevice;
  readonly udp: MemoryDatagramSocket;
  readonly said: FromDataPlane[];
}

/** Waits until `condition` holds. @throws when that takes longer than any machine needs */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 5_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error("the awaited condition never came true");
    await Bun.sleep(1);
  }
}

let markers = 0;

function settleMarker(source: string) {
  const payload = new TextEncoder().encode(`settle ${++markers}`);
  const destination = source === "fd00::2" ? "fd00::1" : "fd00::2";
  const marker = buildPacket({ version: 6, protocol: "udp", source, destination, payload });
  const isMarker = (written: Uint8Array) => written.toHex().endsWith(payload.toHex());
  return { marker, isMarker };
}

/** A clock that a test turns on by hand. */
export class ManualClock implements Clock {
  nowMs = 1_000;
  monotonicMs(): number {
    return this.nowMs;
  }
  wallMs(): number {
    return this.nowMs;
  }
}

/** Registers the end of every pair with the calling test file; the returned function makes one more, connected. */
export function connectedPairs(): (options?: PairOptions) => Promise<DataPlanePair> {
  const pairs: DataPlanePair[] = [];
  afterEach(() => {
    for (const pair of pairs.splice(0)) pair.stop();
  });
  return async (options) => {
    const pair = new DataPlanePair(options);
    pairs.push(pair);
    await pair.connect();
    return pair;
  };
}

/** Both ends joined; no session yet, see {@link DataPlanePair.connect}. */
export class DataPlanePair {
  readonly network = new MemoryNetwork();
  readonly #engine: EngineName;
  readonly clock = new ManualClock();
  readonly client: End;
  readonly server: End;
  /** Every datagram that was sent, in order. */
  readonly wire: { readonly from: string; readonly bytes: Uint8Array<ArrayBuffer> }[] = [];

  constructor(options: PairOptions = {}) {
    const { clientOffload = true, serverOffload = true } = options;
    const maxDatagramBytes = options.maxDatagramBytes ?? 1452;
    const mtuBytes = options.mtuBytes ?? MAX_MTU_BYTES;
    this.#engine = options.engine ?? DEFAULT_ENGINE;
    this.client = this.#end("client", CLIENT_HOST, clientOffload, maxDatagramBytes, mtuBytes);
    this.server = this.#end("server", SERVER_HOST, serverOffload, maxDatagramBytes, mtuBytes);
    this.network.observe = (datagram, from) => {
      this.wire.push({ from: from.host, bytes: datagram.slice() });
      return datagram;
    };
  }

  /** Opens the session at both ends, with epoch 0. */
  async connect(): Promise<void> {
    const { client, server } = this;
    const id = SESSION_ID;
    client.plane.handle({
      kind: "add-session",
      id,
      allowedIps: ["0.0.0.0/0", "::/0"],
      endpoint: { host: SERVER_HOST, port: PORT },
      peerOffload: server.tun.offload,
    });
    const allowedIps = ["10.8.0.2/32", "fd00::2/128"];
    server.plane.handle({ kind: "add-session", id, allowedIps, peerOffload: client.tun.offload });
    await this.rekey(0);
    await until(() => this.client.said.some(({ kind }) => kind === "epoch-confirmed"));
    // the probes of a new path are over before a test looks at the wire
    await until(() => [this.client, this.server].every((end) => this.stats(end).pathMtu !== null));
  }

  /** Installs an epoch as the control channel would: first at the server, then at the client. */
  async rekey(epoch: number): Promise<void> {
    const keys = await epochKeys(epoch);
    this.server.plane.handle({ kind: "set-epoch", id: SESSION_ID, keys: keys.server, sendNow: false });
    this.client.plane.handle({ kind: "set-epoch", id: SESSION_ID, keys: keys.client, sendNow: true });
  }

  /** Shows the client a path without loss, until its records may be as large as its engine wants them. */
  async proveCleanPath(): Promise<void> {
    const payload = new Uint8Array(1_300);
    const packet = buildPacket({
      version: 6,
      protocol: "udp",
      source: "fd00::2",
      destination: "fd00::1",
      payload,
    });
    let limit = 0;
    // an answer to a keep-alive may be the report of a round, too early for growth; the last tenth comes ever slower
    for (let idleRounds = 0; idleRounds < 4;) {
      const before = limit;
      limit = this.stats(this.client).recordLimit;
      idleRounds = limit > before * 1.1 ? 0 : idleRounds + 1;
      for (let i = 0; i < 1_000; i++)
        this.client.tun.inject(this.client.tun.offload ? withVnet(packet) : packet);
      await this.settle();
      this.clock.nowMs += 500;
      this.server.plane.tick();
      await this.settle();
    }
    this.server.tun.written.length = 0;
  }

  /**
   * Waits until all that is on the way from one end was taken in by the other: records are opened in order, so a last
   * packet of our own has passed when everything before it has. It is taken out again on arrival.
   */
  async settle(): Promise<void> {
    for (const [from, to] of [
      [this.client, this.server],
      [this.server, this.client],
    ] as const) {
      const { marker, isMarker } = settleMarker(from === this.client ? "fd00::2" : "fd00::1");
      from.tun.inject(from.tun.offload ? withVnet(marker) : marker);
      await until(() => to.tun.written.some(isMarker));
      to.tun.written.splice(to.tun.written.findIndex(isMarker), 1);
    }
  }

  /** Another socket on the same network: a stranger, or the client on a new address. */
  stranger(host = "203.0.113.9", port = 4444): MemoryDatagramSocket {
    return this.network.open(host, port);
  }

  /** Sends raw bytes to the server. */
  toServer(from: MemoryDatagramSocket, bytes: Uint8Array): void {
    from.send(bytes, bytes.length, SERVER_HOST, PORT);
  }

  report(end: End): StatsReport {
    end.plane.handle({ kind: "get-stats", requestId: 1 });
    const report = end.said.findLast((message) => message.kind === "stats");
    if (report === undefined) throw new Error("no report");
    return report;
  }

  stats(end: End): SessionStats {
    const stats = this.report(end).sessions[0];
    if (stats === undefined) throw new Error("no session");
    return stats;
  }

  drops(end: End): StatsReport["drops"] {
    return this.report(end).drops;
  }

  stop(): void {
    for (const end of [this.client, this.server]) end.plane.handle({ kind: "stop" });
  }

  #end(
    role: "client" | "server",
    host: string,
    offload: boolean,
    maxDatagramBytes: number,
    mtuBytes: number,
  ): End {
    // a kernel before 6.2: UDP comes out packet by packet, so that tests can compare; joining has tests of its own
    const tun = new MemoryPacketDevice(offload, false);
    const udp = this.network.open(host, PORT);
    const said: FromDataPlane[] = [];
    const start = {
      kind: "start",
      role,
      tunFd: -1,
      tunOffload: offload,
      bind: { host, port: PORT },
      maxDatagramBytes,
      mtuBytes,
      engine: this.#engine,
      wakeFd: -1,
      keepaliveMs: 10_000,
    } as const;
    const loop = new EventDataLoop(tun, udp);
    const engine = openEngine(this.#engine, yieldProcessor);
    const plane = new DataPlane(start, tun, udp, loop, engine, this.clock, (message) => said.push(message));
    plane.ready();
    plane.run();
    return { plane, tun, udp, said };
  }
}
