/** A client's dealings with its data plane: one session's keys, the first record that comes back, counters. */

import { formatHostPort, type HostPort } from "./address.ts";
import type { SessionConfig } from "./control_message.ts";
import type {
  DataPlanePort,
  EpochConfirmed,
  EpochKeys,
  FromDataPlane,
  PresenceChanged,
  SessionStats,
  StatsReport,
  TransportMoved,
  TransportName,
} from "./data_plane_message.ts";
import type { Log } from "./log.ts";
import { RecordStream } from "./record_stream.ts";
import { StatsRequests } from "./stats_requests.ts";
import type { TlsConnection } from "./tls_connection.ts";

/** What the client wants to hear of. */
export interface DataPathEvents {
  /** The sending key wears out. */
  readonly onRekeyNeeded: () => void;
  /** Fresh counters are in {@link ClientDataPath.stats}. */
  readonly onStats: () => void;
  /** The server is silent on all paths, or heard again. */
  readonly onPresence: (alive: boolean, silentMs: number) => void;
  /** The data plane is dead. */
  readonly onFailed: (message: string) => void;
}

export interface DataPathOptions {
  readonly dataPlane: DataPlanePort;
  readonly log: Log;
  readonly events: DataPathEvents;
  /** Our TUN takes super-packets. */
  readonly offload: boolean;
  /** Path of the first records. */
  readonly firstTransport: TransportName;
  /** Wait for the first record of a connection before a warning, in milliseconds. */
  readonly confirmTimeoutMs: number;
}

/** The session that is being confirmed. */
interface Confirm {
  readonly epoch: number;
  readonly timer: ReturnType<typeof setTimeout>;
  readonly done: () => void;
}

/** Everything goes to the one server there is, and everything it sends is welcome. */
const ALLOWED_IPS = ["0.0.0.0/0", "::/0"];

/** The data plane's only user on a client. */
export class ClientDataPath {
  readonly #options: DataPathOptions;
  readonly #requests: StatsRequests;
  /** The session that the data plane has. */
  #installed: { readonly id: number; readonly endpoint: HostPort } | null = null;
  #confirm: Confirm | null = null;
  #stats: SessionStats | null = null;
  #drops: StatsReport["drops"] = {};
  #stream: RecordStream | null = null;
  #transport: TransportName;
  #alive = false;

  constructor(options: DataPathOptions) {
    this.#options = options;
    this.#transport = options.firstTransport;
    this.#requests = new StatsRequests(options.dataPlane);
    options.dataPlane.onMessage((message) => this.#receive(message));
  }

  /** Newest counters of the session; null before the first report. */
  get stats(): SessionStats | null {
    return this.#stats;
  }

  /** Dropped packets by reason, since the start. */
  get drops(): StatsReport["drops"] {
    return this.#drops;
  }

  /** Path of what we send. */
  get transport(): TransportName {
    return this.#transport;
  }

  /** Whether the server was heard within two keep-alive intervals. */
  get alive(): boolean {
    return this.#alive;
  }

  /** Asks for fresh counters; resolves when they came, or soon after without. */
  refresh(): Promise<void> {
    return this.#requests.refresh();
  }

  /**
   * Hands a session and its keys to the data plane, which says hello to the server at once.
   *
   * @param resumed the session existed before; it is kept unless the server's address changed
   * @returns a promise of the first record that comes back; it stays open when none does
   */
  install(config: SessionConfig, endpoint: HostPort, keys: EpochKeys, resumed: boolean): Promise<void> {
    const { dataPlane, offload } = this.#options;
    const id = config.sessionId;
    const before = this.#installed;
    const isKept =
      resumed && before?.id === id && formatHostPort(before.endpoint) === formatHostPort(endpoint);
    if (!isKept) {
      this.remove();
      const peerOffload = config.features.offload && offload;
      dataPlane.post({ kind: "add-session", id, allowedIps: ALLOWED_IPS, endpoint, peerOffload });
    }
    this.#installed = { id, endpoint };
    const confirmed = this.#awaitConfirm(keys.epoch, endpoint);
    this.setKeys(keys);
    return confirmed;
  }

  /** Installs a further epoch: used for sending from now on. */
  setKeys(keys: EpochKeys): void {
    if (this.#installed === null) return;
    this.#options.dataPlane.post({ kind: "set-epoch", id: this.#installed.id, keys, sendNow: true });
  }

  /** Lets records travel by this connection, too. @param heard called for each that comes */
  attachStream(connection: TlsConnection, heard: () => void): void {
    if (this.#installed === null) return;
    this.#stream = new RecordStream(connection, this.#options.dataPlane, this.#installed.id, heard);
  }

  /** The connection is gone. */
  detachStream(): void {
    this.#stream?.close(this.#installed === null);
    this.#stream = null;
  }

  /** Asks the server on every path at once whether it is there. */
  probe(): void {
    this.#options.dataPlane.post({ kind: "probe-paths" });
  }

  /** Stops the wait for the first record. */
  endConfirm(): void {
    if (this.#confirm !== null) clearTimeout(this.#confirm.timer);
    this.#confirm = null;
  }

  /** Takes the session, if there is one, out of the data plane. */
  remove(): void {
    if (this.#installed !== null)
      this.#options.dataPlane.post({ kind: "remove-session", id: this.#installed.id });
    this.#installed = null;
    this.#stats = null;
    this.#alive = false;
    this.#transport = this.#options.firstTransport;
  }

  #awaitConfirm(epoch: number, endpoint: HostPort): Promise<void> {
    this.endConfirm();
    const { promise, resolve } = Promise.withResolvers<void>();
    const server = formatHostPort(endpoint);
    const warn = (): void => this.#options.log.warn("no record came back: is UDP blocked?", { server });
    this.#confirm = { epoch, timer: setTimeout(warn, this.#options.confirmTimeoutMs), done: resolve };
    return promise;
  }

  #receive(message: FromDataPlane): void {
    const { log, events } = this.#options;
    switch (message.kind) {
      case "tunnel-out":
      case "tunnel-taken":
        return this.#stream?.fromDataPlane(message);
      case "transport-moved":
        return this.#transportMoved(message);
      case "presence-changed":
        return this.#presenceChanged(message);
      case "stats":
        return this.#statsArrived(message);
      case "epoch-confirmed":
        return this.#confirmed(message);
      case "rekey-needed":
        if (message.id === this.#installed?.id) events.onRekeyNeeded();
        return;
      case "notice":
        return log[message.level](message.message);
      case "failed":
        return events.onFailed(message.message);
      case "ready":
      case "endpoint-moved":
      case "stopped":
        return;
    }
  }

  #confirmed({ id, epoch }: EpochConfirmed): void {
    const confirm = this.#confirm;
    if (confirm === null || id !== this.#installed?.id || epoch < confirm.epoch) return;
    this.endConfirm();
    this.#alive = true;
    confirm.done();
  }

  #transportMoved({ id, to, reason }: TransportMoved): void {
    if (id !== this.#installed?.id) return;
    this.#transport = to;
    this.#options.log.info(to === "tcp" ? "data moves into the TLS stream" : "data moves to UDP", { reason });
  }

  #presenceChanged({ id, alive, silentMs }: PresenceChanged): void {
    if (id !== this.#installed?.id) return;
    this.#alive = alive;
    this.#options.events.onPresence(alive, silentMs);
  }

  #statsArrived(report: StatsReport): void {
    this.#stats = report.sessions.find(({ id }) => id === this.#installed?.id) ?? null;
    this.#drops = report.drops;
    this.#requests.arrived(report.requestId);
    this.#options.events.onStats();
  }
}
