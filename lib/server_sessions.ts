/**
 * The sessions of a server: who has which inner addresses, which connection, and when it was last heard of.
 *
 * Pure: time and random numbers are handed in, the data plane is told by the caller. A session outlives its control
 * connection until it is resumed, taken over or silent for too long.
 */

import { type Address, formatHostPort, type HostPort } from "./address.ts";
import type { AddressPool, Lease } from "./address_pool.ts";
import { readUint32 } from "./bytes.ts";
import type { ClientCertificate } from "./certificate_check.ts";
import type { PresenceChanged, SessionStats, TransportMoved } from "./data_plane_message.ts";
import type { RandomBytes } from "./handshake.ts";
import type { Log } from "./log.ts";
import { type GoneStatus, type SessionStatus, toPathStatus, type TrafficStatus } from "./status.ts";

/** One client's session. `Connection` is what the caller uses to reach it. */
export interface ServerSession<Connection> {
  /** 32 bits, not zero. */
  readonly id: number;
  readonly user: string;
  readonly lease: Lease;
  /** That the session was opened with; null when it was opened by password alone. */
  readonly certificate: ClientCertificate | null;
  /** The password was proved when it was opened. */
  readonly byPassword: boolean;
  /** Milliseconds since the Unix epoch. */
  readonly connectedAtMs: number;
  /** Null while the control connection is lost. */
  connection: Connection | null;
  /** TCP address of the newest control connection. */
  controlEndpoint: HostPort;
  /** Highest epoch installed; -1 before the first. */
  epoch: number;
  /** Monotonic milliseconds of the last control message, or of the loss of the connection. */
  controlSeenMs: number;
  /** Newest counters of the data plane. */
  stats: SessionStats | null;
  /** Monotonic milliseconds of the last authenticated record; null before the first. */
  dataSeenMs: number | null;
  /** Records come in: within the last two keep-alive intervals. */
  alive: boolean;
}

/** What opening a session needs. */
export interface OpenRequest {
  readonly user: string;
  readonly wanted: readonly Address[];
  readonly endpoint: HostPort;
  readonly certificate: ClientCertificate | null;
  readonly byPassword: boolean;
  readonly nowMs: number;
  readonly wallMs: number;
}

/**
 * A client that lives is heard every 25 s at the least (`keepalive`): one that was cut off from the network or from its
 * power is not, and its TCP connection would seem to stand for a long time.
 */
const ABANDONED_AFTER_MS = 30_000;

/** Ended sessions that `status` tells of. */
const MAX_GONE = 20;

const NO_TRAFFIC: TrafficStatus = { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 };

/** All sessions of one server. */
export class ServerSessions<Connection> {
  readonly #pool: AddressPool;
  readonly #random: RandomBytes;
  readonly #byId = new Map<number, ServerSession<Connection>>();
  /** Traffic of ended sessions. */
  #ended: TrafficStatus = NO_TRAFFIC;
  readonly #gone: GoneStatus[] = [];

  constructor(pool: AddressPool, random: RandomBytes) {
    this.#pool = pool;
    this.#random = random;
  }

  get size(): number {
    return this.#byId.size;
  }

  find(id: number): ServerSession<Connection> | undefined {
    return this.#byId.get(id);
  }

  all(): readonly ServerSession<Connection>[] {
    return [...this.#byId.values()];
  }

  /** Opens a session without keys. @returns null when no inner address is free */
  open(request: OpenRequest): ServerSession<Connection> | null {
    const lease = this.#pool.lease(request.user, request.wanted);
    if (lease === null) return null;
    const session: ServerSession<Connection> = {
      id: this.#freeId(),
      user: request.user,
      lease,
      certificate: request.certificate,
      byPassword: request.byPassword,
      connectedAtMs: request.wallMs,
      connection: null,
      controlEndpoint: request.endpoint,
      epoch: -1,
      controlSeenMs: request.nowMs,
      stats: null,
      dataSeenMs: null,
      alive: true,
    };
    this.#byId.set(session.id, session);
    return session;
  }

  /** The sessions that ended last, the newest first. */
  get gone(): readonly GoneStatus[] {
    return this.#gone.toReversed();
  }

  /**
   * Forgets a session and frees its addresses.
   *
   * @param reason of its end, for people
   * @returns false when it was gone already
   */
  remove(session: ServerSession<Connection>, reason: string, wallMs: number): boolean {
    if (!this.#byId.delete(session.id)) return false;
    this.#pool.release(session.lease);
    const addresses = session.lease.map((prefix) => prefix.address.text);
    this.#gone.push({ id: session.id, user: session.user, addresses, endedAt: wallMs, reason });
    if (this.#gone.length > MAX_GONE) this.#gone.shift();
    this.#ended = addTraffic(this.#ended, session.stats ?? NO_TRAFFIC);
    return true;
  }

  /**
   * The session that a returning user leaves behind: one of the same user, without connection or silent for a while,
   * that holds a wanted address; failing that, the one that is so for longest.
   *
   * @param onlyWanted leaves out the second choice
   */
  findAbandoned({ user, wanted, nowMs }: OpenRequest, onlyWanted: boolean): ServerSession<Connection> | null {
    const isAbandoned = (session: ServerSession<Connection>): boolean =>
      session.connection === null || nowMs - lastSeenMs(session) > ABANDONED_AFTER_MS;
    const abandoned = this.all()
      .filter((session) => session.user === user && session.epoch >= 0 && isAbandoned(session))
      .toSorted((a, b) => a.controlSeenMs - b.controlSeenMs);
    const holds = (session: ServerSession<Connection>): boolean =>
      session.lease.some((prefix) => wanted.some((address) => address.text === prefix.address.text));
    return abandoned.find(holds) ?? (onlyWanted ? null : (abandoned[0] ?? null));
  }

  /** Takes over the data plane's counters; unknown sessions are ones that ended a moment ago. */
  applyStats(stats: readonly SessionStats[], nowMs: number): void {
    for (const one of stats) {
      const session = this.#byId.get(one.id);
      if (session === undefined) continue;
      session.stats = one;
      if (one.silentMs !== null) session.dataSeenMs = nowMs - one.silentMs;
    }
  }

  /** Sessions of which neither channel was heard for `timeoutMs`. */
  silent(nowMs: number, timeoutMs: number): readonly ServerSession<Connection>[] {
    return this.all().filter((session) => nowMs - lastSeenMs(session) > timeoutMs);
  }

  /** Traffic of all sessions, ended ones included. */
  totals(): TrafficStatus {
    return this.all().reduce((sum, session) => addTraffic(sum, session.stats ?? NO_TRAFFIC), this.#ended);
  }

  #freeId(): number {
    for (;;) {
      const id = readUint32(this.#random(4), 0);
      if (id !== 0 && !this.#byId.has(id)) return id;
    }
  }
}

/** Monotonic milliseconds when either channel was heard last. */
export function lastSeenMs(session: ServerSession<unknown>): number {
  return Math.max(session.controlSeenMs, session.dataSeenMs ?? Number.NEGATIVE_INFINITY);
}

/** A session as `status` prints it. */
export function toSessionStatus(
  session: ServerSession<unknown>,
  nowMs: number,
  wallMs: number,
): SessionStatus {
  const { stats } = session;
  return {
    id: session.id,
    user: session.user,
    endpoint: formatHostPort(stats?.endpoint ?? session.controlEndpoint),
    addresses: session.lease.map((prefix) => prefix.address.text),
    connectedAt: session.connectedAtMs,
    lastSeenAt: Math.round(wallMs - (nowMs - lastSeenMs(session))),
    transport: stats?.transport ?? "udp",
    state: !session.alive ? "silent" : session.connection === null ? "reconnecting" : "connected",
    ...toPathStatus(stats),
  };
}

function addTraffic(a: TrafficStatus, b: TrafficStatus): TrafficStatus {
  return {
    rxBytes: a.rxBytes + b.rxBytes,
    txBytes: a.txBytes + b.txBytes,
    rxPackets: a.rxPackets + b.rxPackets,
    txPackets: a.txPackets + b.txPackets,
  };
}

/** A session for a line of the log. */
export function fieldsOf(session: ServerSession<unknown>) {
  return {
    session: session.id,
    user: session.user,
    endpoint: formatHostPort(session.controlEndpoint),
    addresses: session.lease.map((prefix) => prefix.address.text).join(","),
  };
}

/** Logs what the data plane says of the way to a client. */
export function logPath(
  log: Log,
  session: ServerSession<unknown>,
  message: TransportMoved | PresenceChanged,
): void {
  const fields = fieldsOf(session);
  if (message.kind === "transport-moved") log.info("path of the data changed", { ...fields, to: message.to });
  else if (message.alive) log.info("client is heard again", fields);
  else log.info("client is silent", { ...fields, seconds: (message.silentMs / 1000).toFixed(1) });
}
