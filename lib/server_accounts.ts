/**
 * What a server's users may do, and what happens to live sessions when that changes.
 *
 * Follows the user database, counts what users move, and judges: at a log-in, after each change, and once a second for
 * what time brings (an expiry, a quota used up). A database that cannot be read or written is reported once and tried
 * again every second; until then the last known users count and their sessions go on.
 */

import { type Prefix, networkOf, parseAddress, parseNetwork, prefixContains } from "./address.ts";
import type { AddressPool } from "./address_pool.ts";
import { messageOf } from "./caught.ts";
import type { Clock } from "./clock.ts";
import type { DataPlanePort, SessionRates, SessionStats } from "./data_plane_message.ts";
import type { Log } from "./log.ts";
import type { ConnectedSession, ServerConnection } from "./server_connection.ts";
import type { ServerSessions } from "./server_sessions.ts";
import type { ServerUsers, UserPassword } from "./server_users.ts";
import { acceptTotp } from "./totp.ts";
import { UsageMeter } from "./usage_meter.ts";
import type { UserFollower } from "./user_follower.ts";
import type { UserRecord } from "./user_record.ts";
import { deviceRefusal, type Ending, endingOf, monthOf, refusalOf, sameTexts } from "./user_rules.ts";

export interface AccountsOptions {
  readonly users: ServerUsers;
  readonly sessions: ServerSessions<ServerConnection>;
  readonly pool: AddressPool;
  /** The server's inner addresses with prefix length. */
  readonly own: readonly Prefix[];
  /** Null when the server has no state directory (tests). */
  readonly follower: UserFollower | null;
  readonly dataPlane: DataPlanePort;
  readonly clock: Clock;
  readonly log: Log;
  readonly end: (session: ConnectedSession, ending: Ending) => void;
  /** The networks behind all clients, when they have changed: the machine routes them into the tunnel. */
  readonly onNetworks: (networks: readonly string[]) => void;
  /** Groups, or networks behind clients, may be others now. */
  readonly onApplied: () => void;
}

/** The accounts of one server. */
export class ServerAccounts {
  readonly #options: AccountsOptions;
  readonly #meter = new UsageMeter();
  /** The record under which each session stands. */
  readonly #standing = new Map<number, UserRecord>();
  /** What the data plane was told of each session. */
  readonly #allowedIps = new Map<number, readonly string[]>();
  /** Steps of one-time codes that were used here. */
  readonly #usedSteps = new Map<string, { step: number; stored: boolean }>();
  /** Reserved addresses and whose they are. */
  #owners: ReadonlyMap<string, string> = new Map();
  readonly #warned = new Set<string>();
  #networks: readonly string[] = [];
  #trouble: string | null = null;

  constructor(options: AccountsOptions) {
    this.#options = options;
  }

  /** Reads the users for the first time. @throws {SystemError} when the database cannot be read */
  start(): void {
    this.#read();
    this.#apply();
  }

  /**
   * Reads the database if it has changed, and acts on live sessions.
   *
   * @throws {SystemError} when it cannot be read; nothing has changed then
   */
  refresh(): void {
    if (this.#read()) this.#apply();
  }

  /** Replaces the users of the configuration. @throws {UsageError} when one cannot be used; nothing has changed then */
  async replaceConfigured(users: readonly UserPassword[]): Promise<void> {
    await this.#options.users.replace(users);
    this.#apply();
  }

  /** What a second brings. Never throws: logs. */
  sweep(): void {
    const { log, sessions } = this.#options;
    try {
      this.refresh();
      this.#storeSteps();
      this.#storeUsage();
      if (this.#trouble !== null) log.info("the user database can be used again");
      this.#trouble = null;
    } catch (error) {
      this.#report(messageOf(error));
    }
    for (const session of sessions.all()) this.#judge(session);
  }

  /** Stores what was counted and closes the database. */
  close(): void {
    try {
      this.#storeSteps();
      this.#storeUsage();
      this.#options.follower?.close();
    } catch (error) {
      this.#options.log.error(`What users moved since the last time is lost: ${messageOf(error)}`);
    }
  }

  // --- At a log-in ---

  /** Why a user who proved who it is gets no session; null when it may have one. Without a record there is no limit. */
  refusal(user: string): string | null {
    const record = this.#options.users.find(user);
    return record === undefined ? null : refusalOf(record, this.#moment(user));
  }

  /** Why a user gets no session beside those that it has; null when it does. */
  deviceRefusal(user: string): string | null {
    const record = this.#options.users.find(user);
    return record === undefined ? null : deviceRefusal(record, this.#sessionsOf(user).length);
  }

  /** Whether a user must give a one-time code after the password. */
  needsCode(user: string): boolean {
    return (this.#options.users.find(user)?.totp ?? null) !== null;
  }

  /** Uses a one-time code up. @returns false when it is wrong or was used before */
  acceptCode(user: string, code: string): boolean {
    const { users, clock } = this.#options;
    const totp = users.find(user)?.totp ?? null;
    if (totp === null) return false;
    const lastStep = Math.max(totp.lastStep, this.#usedSteps.get(user)?.step ?? -1);
    const step = acceptTotp(totp.secret, lastStep, code, clock.wallMs());
    if (step === null) return false;
    this.#usedSteps.set(user, { step, stored: false });
    try {
      this.#storeSteps();
    } catch (error) {
      // it stays refused in this process, and is stored as soon as that is possible
      this.#report(messageOf(error));
    }
    return true;
  }

  /** Inner addresses that a user shall have. */
  addressesOf(user: string): readonly string[] {
    return this.#options.users.find(user)?.addresses ?? [];
  }

  /** Networks that are reached through a session now. */
  networksBehind(sessionId: number): readonly string[] {
    return (this.#allowedIps.get(sessionId) ?? []).filter((text) => !/\/(32|128)$/.test(text));
  }

  /** Labels of a user for the access policy. */
  groupsOf(user: string): readonly string[] {
    return this.#options.users.groupsOf(user);
  }

  /** Networks that a user's client routes into the tunnel, besides those of the server. */
  routesOf(user: string): readonly string[] {
    return this.#options.users.find(user)?.routes ?? [];
  }

  // --- Sessions come and go ---

  /** A session was opened for a user who proved who it is: from now on it is judged. */
  admitted(session: ConnectedSession): void {
    const record = this.#options.users.find(session.user);
    if (record !== undefined) this.#standing.set(session.id, record);
  }

  /** A new session has keys: tells the data plane what it owns and how fast it may be. */
  opened(session: ConnectedSession, peerOffload: boolean): void {
    const { dataPlane } = this.#options;
    const record = this.#standing.get(session.id);
    const rates = record === undefined ? null : ratesOf(record);
    const allowedIps = ownAddresses(session);
    dataPlane.post({
      kind: "add-session",
      id: session.id,
      allowedIps,
      peerOffload,
      ...(rates === null ? {} : { rates }),
    });
    this.#allowedIps.set(session.id, allowedIps);
    this.#meter.track(session.id, session.user);
    this.#giveNetworks(session.user);
  }

  /** A session has ended; the data plane is asked for its last counters before it forgets it. */
  ended(session: ConnectedSession): void {
    const { dataPlane } = this.#options;
    this.#standing.delete(session.id);
    this.#allowedIps.delete(session.id);
    this.#meter.end(session.id);
    if (session.epoch >= 0) {
      dataPlane.post({ kind: "get-stats", requestId: 0 });
      dataPlane.post({ kind: "remove-session", id: session.id });
    }
    this.#giveNetworks(session.user);
  }

  /** Takes the data plane's counters. */
  count(stats: readonly SessionStats[]): void {
    this.#meter.count(stats, this.#options.clock.wallMs());
  }

  /** Bytes that a user has moved this month. */
  usedBytes(user: string): number {
    return this.#meter.used(user, this.#options.clock.wallMs());
  }

  // --- Changes ---

  #read(): boolean {
    const { follower, users } = this.#options;
    const records = follower?.news() ?? null;
    if (records === null) return false;
    users.setStored(records);
    this.#loadUsage();
    return true;
  }

  /** Makes the users that are known now count, for sessions that stand as well. */
  #apply(): void {
    const { users, pool, sessions, onNetworks, onApplied } = this.#options;
    for (const name of users.doubled) {
      this.#warn(`User "${name}" is in the configuration and in the database: what the database says counts`);
    }
    const records = users.all();
    const owners = records.flatMap(({ name, addresses }) => addresses.map((text) => [text, name] as const));
    for (const [text, name] of owners) {
      if (pool.holds(parseAddress(text))) continue;
      this.#warn(`Address "${text}" of user "${name}" is left out: it is not one for clients of this tunnel`);
    }
    this.#owners = new Map(owners);
    pool.reserve(this.#owners);
    for (const session of sessions.all()) this.#judge(session);
    const names = new Set(sessions.all().map(({ user }) => user));
    for (const name of names) {
      this.#endSurplus(name);
      this.#giveNetworks(name);
    }
    const enabled = records.filter((record) => record.enabled);
    const networks = [...new Set(enabled.flatMap((record) => this.#networksOf(record)))].toSorted();
    onApplied();
    if (sameTexts(networks, this.#networks)) return;
    this.#networks = networks;
    onNetworks(networks);
  }

  /** Ends one session, or tells data plane and client what is new. */
  #judge(session: ConnectedSession): void {
    const { users, dataPlane, end } = this.#options;
    const before = this.#standing.get(session.id);
    const after = users.find(session.user);
    if (before === undefined) return;
    const ending = endingOf(before, after, this.#moment(session.user)) ?? this.#foreignAddress(session);
    if (ending !== null) return end(session, ending);
    if (after === undefined || after === before) return;
    this.#standing.set(session.id, after);
    const rates = ratesOf(after);
    if (!Bun.deepEquals(rates, ratesOf(before))) dataPlane.post({ kind: "set-rates", id: session.id, rates });
    // the client resumes at once and is told its routes again
    if (!sameTexts(before.routes, after.routes)) session.connection?.drop();
  }

  /** A session that holds an address reserved for somebody else makes room. */
  #foreignAddress(session: ConnectedSession): Ending | null {
    const owners = session.lease.map(({ address }) => this.#owners.get(address.text) ?? session.user);
    return owners.some((owner) => owner !== session.user)
      ? { code: "replaced", reason: "The address of this session now belongs to another user" }
      : null;
  }

  /** Ends the newest sessions of a user who has more than allowed. */
  #endSurplus(user: string): void {
    const { users, end } = this.#options;
    const record = users.find(user);
    if (record === undefined || record.limits.devices === null) return;
    for (const session of this.#sessionsOf(user).slice(record.limits.devices)) {
      const { devices } = record.limits;
      end(session, {
        code: "refused",
        reason: `This user may now have ${devices} ${devices === 1 ? "device" : "devices"} at once`,
      });
    }
  }

  /** The networks behind a user's client lead to its newest session. */
  #giveNetworks(user: string): void {
    const { users, dataPlane, onApplied } = this.#options;
    const record = users.find(user);
    const networks = record === undefined ? [] : this.#networksOf(record);
    const sessions = this.#sessionsOf(user).filter(({ id }) => this.#allowedIps.has(id));
    const newest = sessions.at(-1);
    for (const session of sessions) {
      const allowedIps = [...ownAddresses(session), ...(session === newest ? networks : [])];
      if (sameTexts(allowedIps, this.#allowedIps.get(session.id) ?? [])) continue;
      this.#allowedIps.set(session.id, allowedIps);
      dataPlane.post({ kind: "set-allowed-ips", id: session.id, allowedIps });
      onApplied();
    }
  }

  #networksOf({ name, networks }: UserRecord): readonly string[] {
    return networks.filter((text) => {
      const network = parseNetwork(text);
      const clash = this.#options.own.find(
        (own) => prefixContains(own, network.address) || prefixContains(network, own.address),
      );
      if (clash === undefined) return true;
      const tunnel = networkOf(clash).text;
      this.#warn(
        `Network "${text}" of user "${name}" is left out: it overlaps the tunnel's own, "${tunnel}"`,
      );
      return false;
    });
  }

  /** The sessions of a user, the oldest first. */
  #sessionsOf(user: string): readonly ConnectedSession[] {
    return this.#options.sessions
      .all()
      .filter((session) => session.user === user)
      .toSorted((a, b) => a.connectedAtMs - b.connectedAtMs);
  }

  #moment(user: string) {
    const wallMs = this.#options.clock.wallMs();
    return { wallMs, usedBytes: this.#meter.used(user, wallMs) };
  }

  // --- The database ---

  #loadUsage(): void {
    const store = this.#options.follower?.store;
    const month = monthOf(this.#options.clock.wallMs());
    if (store) this.#meter.load(month, store.usageOf(month));
  }

  #storeUsage(): void {
    const { follower, clock, users } = this.#options;
    const store = follower?.store;
    const pending = this.#meter.pending.filter(({ name }) => users.isStored(name));
    if (!store || pending.length === 0) return;
    store.addUsage(pending);
    const month = monthOf(clock.wallMs());
    this.#meter.stored(month, store.usageOf(month));
  }

  #storeSteps(): void {
    const store = this.#options.follower?.store;
    if (!store) return;
    for (const [user, used] of this.#usedSteps) {
      if (used.stored) continue;
      store.saveTotpStep(user, used.step);
      used.stored = true;
    }
  }

  #report(trouble: string): void {
    if (trouble === this.#trouble) return;
    this.#trouble = trouble;
    this.#options.log.error(
      `${trouble}. Sessions go on, the users known so far count, and it is tried again`,
    );
  }

  #warn(text: string): void {
    if (this.#warned.has(text)) return;
    this.#warned.add(text);
    this.#options.log.warn(text);
  }
}

function ownAddresses(session: ConnectedSession): readonly string[] {
  return session.lease.map(({ address }) => `${address.text}/${address.bytes.length * 8}`);
}

/** Null when the user has no limit of speed. */
function ratesOf({ limits }: UserRecord): SessionRates | null {
  const { upBitsPerSecond, downBitsPerSecond, packetsPerSecond } = limits;
  if (upBitsPerSecond === null && downBitsPerSecond === null && packetsPerSecond === null) return null;
  return {
    up: { bitsPerSecond: upBitsPerSecond, packetsPerSecond },
    down: { bitsPerSecond: downBitsPerSecond, packetsPerSecond },
  };
}
