/**
 * The server's control plane: accepts log-ins, opens sessions, and tells the data plane about them.
 *
 * A client's way in: TLS (`tls_control.ts`) -> log-in (`server_connection.ts`, `handshake_server.ts`) -> session with
 * leased addresses (`server_sessions.ts`) -> AddSession and SetEpoch to the data plane -> `welcome`. A session ends by
 * the client's goodbye, by silence of both channels, by an operator's kick, or with the server.
 */

import { type AccessList, makeAccessList } from "./access_list.ts";
import { formatHostPort, type HostPort, parsePrefix } from "./address.ts";
import { AddressPool } from "./address_pool.ts";
import { type AuditSink, NO_AUDIT } from "./audit_event.ts";
import type { Hello } from "./control_message.ts";
import type {
  EpochKeys,
  FromDataPlane,
  PresenceChanged,
  StatsReport,
  TransportMoved,
} from "./data_plane_message.ts";
import { OmailError, UsageError } from "./errors.ts";
import type { Refusal } from "./handshake.ts";
import { limitKey } from "./handshake_limiter.ts";
import { MAX_PENDING_PER_ADDRESS } from "./limits.ts";
import type { Ban } from "./lockout.ts";
import { LoginGuard, toBanStatus } from "./login_guard.ts";
import { ResumeTokens } from "./resume_tokens.ts";
import { ServerAccounts } from "./server_accounts.ts";
import {
  leftBy,
  ServerRecord,
  type SessionEnd,
  TAKEN_OVER,
  TIMED_OUT,
  TOKEN_REUSED,
} from "./server_audit.ts";
import {
  acceptsCertificates,
  PASSWORD_ONLY,
  proofsProblem,
  type ServerAuth,
  usersShutOut,
} from "./server_certificates.ts";
import { type ConnectedSession, type ConnectionEvents, ServerConnection } from "./server_connection.ts";
import {
  checkReloadable,
  DEFAULT_SERVER_TIMINGS,
  noEnrolment,
  pushedConfig,
  type ReloadableOptions,
  type RunningServer,
  type ServerOptions,
  type ServerTimings,
} from "./server_options.ts";
import { type PolicyContext, ServerPolicy } from "./server_policy.ts";
import { fieldsOf, logPath, ServerSessions, toSessionStatus } from "./server_sessions.ts";
import { ServerUsers } from "./server_users.ts";
import { StatsRequests } from "./stats_requests.ts";
import type { ServerStatus } from "./status.ts";
import { type ControlListener, listenControl, type PendingConnection } from "./tls_control.ts";

export type { ReloadableOptions, RunningServer, ServerOptions } from "./server_options.ts";

/**
 * Starts to listen for clients.
 *
 * @throws {UsageError} when an option is wrong
 * @throws {SystemError} when the address is in use or cannot be listened on
 */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const server = new ControlServer(options);
  await server.start();
  return server;
}

class ControlServer implements RunningServer, ConnectionEvents {
  readonly done: Promise<void>;
  readonly #options: ServerOptions;
  readonly #timings: ServerTimings;
  readonly #audit: AuditSink;
  readonly #record: ServerRecord;
  readonly #guard: LoginGuard;
  readonly #startedMs: number;
  readonly #users: ServerUsers;
  readonly #accounts: ServerAccounts;
  readonly #sessions: ServerSessions<ServerConnection>;
  readonly #tokens: ResumeTokens;
  readonly #policyContext: PolicyContext;
  readonly #stats: StatsRequests;
  readonly #connections = new Set<ServerConnection>();
  readonly #end = Promise.withResolvers<void>();
  #current: ReloadableOptions;
  /** With what the users of the database have to prove. */
  #auth: ServerAuth = PASSWORD_ONLY;
  #lists: AccessList;
  #drops: StatsReport["drops"] = {};
  #listener: ControlListener | null = null;
  #sweeper: ReturnType<typeof setInterval> | null = null;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.#current = options;
    this.#timings = { ...DEFAULT_SERVER_TIMINGS, ...options.timings };
    this.#audit = options.audit ?? NO_AUDIT;
    this.#record = new ServerRecord(this.#audit, options.log);
    this.#startedMs = options.clock.monotonicMs();
    this.#lists = makeAccessList(options.allowFrom, options.denyFrom);
    const { handshakeRates, maxFailures } = this.#timings;
    this.#guard = new LoginGuard(handshakeRates, () => this.#lists, this.#startedMs, maxFailures);
    this.#users = new ServerUsers(options.serverSecret);
    const own = options.addresses.map(parsePrefix);
    const pool = new AddressPool(own);
    this.#sessions = new ServerSessions(pool, randomBytes);
    this.#accounts = new ServerAccounts({
      users: this.#users,
      sessions: this.#sessions,
      pool,
      own,
      follower: options.follower ?? null,
      dataPlane: options.dataPlane,
      clock: options.clock,
      log: options.log,
      end: (session, ending) => this.#endSession(session, { ...ending, cause: "account" }),
      onNetworks: options.onNetworks ?? (() => undefined),
      onApplied: () => {
        this.#joinAuth();
        // groups may be others now
        void this.#membersChanged();
      },
    });
    this.#tokens = new ResumeTokens(this.#timings.resumeTokenTtlMs);
    this.#stats = new StatsRequests(options.dataPlane);
    this.#policyContext = {
      users: this.#users,
      accounts: this.#accounts,
      sessions: this.#sessions,
      tokens: this.#tokens,
      clock: options.clock,
      random: randomBytes,
      maxClients: () => this.#current.maxClients,
      refusalFor: (user, { host }) => this.#guard.refusalFor(user, host, options.clock.monotonicMs()),
      closedFor: (user, { host }) => this.#closedFor(user, host),
      auth: () => this.#auth,
      enrol: options.enrol ?? noEnrolment,
      audit: this.#audit,
      log: options.log,
      configNow: (user) =>
        pushedConfig({ ...options, ...this.#current }, this.#timings, this.#accounts.routesOf(user)),
      membersChanged: () => this.#membersChanged(),
      tokenReused: (session, endpoint) => this.#tokenReused(session, endpoint),
      takeOver: (session) => this.#endSession(session, TAKEN_OVER),
    };
    this.done = this.#end.promise;
    // a caller that never looks at `done` must not be ended by it
    this.done.catch(() => undefined);
  }

  get port(): number {
    return this.#listener?.port ?? 0;
  }

  async start(): Promise<void> {
    const { listen, certificate, log, dataPlane } = this.#options;
    checkReloadable(this.#current);
    dataPlane.onMessage((message) => this.#fromDataPlane(message));
    await this.#accounts.replaceConfigured(this.#current.users);
    this.#accounts.start();
    if (this.#users.all().length === 0 && !acceptsCertificates(this.#auth))
      throw new UsageError(
        "Cannot run without users: expected a password, [[users]], or one in the database",
      );
    this.#listener = await listenControl({
      listen,
      identity: certificate,
      // a user may be told to show one while we run
      askForCertificate: this.#auth.trust !== null,
      clientCaPem: this.#auth.trust?.caPem ?? null,
      maxPending: this.#timings.maxPending,
      handshakeTimeoutMs: this.#timings.handshakeTimeoutMs,
      maxPendingPerAddress: MAX_PENDING_PER_ADDRESS,
      tlsTimeoutMs: this.#timings.tlsTimeoutMs,
      helloTimeoutMs: this.#timings.helloTimeoutMs,
      admit: (address) => this.#guard.admit(address, this.#options.clock.monotonicMs()),
      keyOf: limitKey,
      onConnection: (pending) => this.#accept(pending),
      log,
    });
    this.#sweeper = setInterval(() => this.#sweep(), this.#timings.sweepMs);
  }

  async status(): Promise<ServerStatus> {
    const { clock, tun, listen } = this.#options;
    await this.#stats.refresh();
    const nowMs = clock.monotonicMs();
    return {
      tun,
      address: formatHostPort({ host: listen.host, port: this.port }),
      uptimeSeconds: Math.floor((nowMs - this.#startedMs) / 1000),
      sessions: this.#sessions.all().map((session) => toSessionStatus(session, nowMs, clock.wallMs())),
      gone: this.#sessions.gone,
      bans: this.#guard.bans(nowMs).map((ban) => toBanStatus(ban, nowMs)),
      refusals: { ...this.#listener?.failures, "log-in-refused": this.#record.refusals },
      events: this.#record.counts.snapshot(),
      totals: { ...this.#sessions.totals(), drops: this.#drops },
    };
  }

  lift(value: string): readonly Ban[] {
    const lifted = this.#guard.lift(value, this.#options.clock.monotonicMs());
    this.#record.lifted(lifted);
    return lifted;
  }

  rekeyAll(): number {
    const connected = this.#sessions.all().filter((session) => session.connection !== null);
    for (const session of connected) session.connection?.send({ type: "rekey-request" });
    return connected.length;
  }

  kick(id: number, reason: string): boolean {
    const session = this.#sessions.find(id);
    if (session === undefined) return false;
    this.#endSession(session, { code: "refused", reason, cause: "kicked" });
    return true;
  }

  async reload(changed: Partial<ReloadableOptions>): Promise<void> {
    const next = { ...this.#current, ...changed };
    checkReloadable(next);
    if (changed.users !== undefined) await this.#accounts.replaceConfigured(changed.users);
    this.#current = next;
    this.#joinAuth();
    this.#lists = makeAccessList(next.allowFrom, next.denyFrom);
    this.#listener?.setIdentity(next.certificate, this.#auth.trust?.caPem ?? null);
    this.#endUnproved();
  }

  groupsOf(user: string): readonly string[] {
    return this.#accounts.groupsOf(user);
  }

  routesOf(user: string): readonly string[] {
    return this.#accounts.routesOf(user);
  }

  refreshUsers(): number {
    const before = this.#sessions.size;
    this.#accounts.refresh();
    this.#endUnproved();
    return before - this.#sessions.size;
  }

  async stop(reason: string): Promise<void> {
    if (this.#sweeper !== null) clearInterval(this.#sweeper);
    this.#listener?.close();
    const end = { code: "shutdown", reason, cause: "shutdown" } as const;
    for (const session of this.#sessions.all()) this.#endSession(session, end);
    for (const connection of this.#connections) connection.close("shutdown", reason);
    await Promise.all([...this.#connections].map((connection) => connection.closed));
    await this.#stats.refresh();
    this.#accounts.close();
    this.#end.resolve();
  }

  // --- A connection comes ---

  #closedFor(user: string, address: string): Refusal | null {
    if (!this.#users.mayComeFrom(user, address))
      return { code: "refused", reason: "This user may not log in from this address" };
    if (this.#audit.mayLogIn) return null;
    return {
      code: "refused",
      reason: "The server cannot record log-ins and enrolments at the moment and takes none",
    };
  }

  #accept(pending: PendingConnection): void {
    const { clock, log } = this.#options;
    const policy = new ServerPolicy(
      this.#policyContext,
      pending.connection.remote,
      pending.connection.peerCertificates(),
    );
    const connection = new ServerConnection({
      pending,
      policy,
      events: this,
      random: randomBytes,
      clock,
      log,
    });
    this.#connections.add(connection);
    void connection.run().finally(() => this.#connections.delete(connection));
  }

  // --- What connections tell (ConnectionEvents) ---

  established(
    connection: ServerConnection,
    sessionId: number,
    keys: EpochKeys,
    hello: Hello,
  ): ConnectedSession | null {
    const { clock, log, dataPlane } = this.#options;
    const session = this.#sessions.find(sessionId);
    if (session === undefined) return null;
    const isNew = session.epoch < 0;
    const replaced = session.connection;
    session.connection = connection;
    session.controlEndpoint = connection.remote;
    session.controlSeenMs = clock.monotonicMs();
    this.#tokens.stopExpiry(session.id);
    replaced?.stream?.close(true);
    replaced?.close("replaced", "The session was resumed on another connection");
    if (isNew) this.#accounts.opened(session, hello.features.offload);
    this.rekeyed(session, keys);
    connection.openStream(dataPlane, session);
    log.info(isNew ? "client connected" : "client resumed its session", fieldsOf(session));
    this.#guard.succeeded(session.user, connection.remote.host);
    this.#record.login(session, hello);
    return session;
  }

  rekeyed(session: ConnectedSession, keys: EpochKeys): void {
    session.epoch = keys.epoch;
    this.#options.dataPlane.post({ kind: "set-epoch", id: session.id, keys, sendNow: false });
  }

  left(session: ConnectedSession, reason: string): void {
    if (this.#forget(session, leftBy(reason)))
      this.#options.log.info("client left", { ...fieldsOf(session), reason });
  }

  refused(connection: ServerConnection, user: string, refusal: Refusal): void {
    const nowMs = this.#options.clock.monotonicMs();
    const { host } = connection.remote;
    const shutOut = this.#guard.refusalFor(user, host, nowMs) !== null;
    this.#record.refused(user, connection.remote, refusal, shutOut);
    if (shutOut || refusal.guessed !== true) return;
    this.#record.banned(this.#guard.failed(user, host, nowMs));
  }

  lost(session: ConnectedSession, connection: ServerConnection): void {
    if (session.connection !== connection) return;
    connection.stream?.close(false);
    session.connection = null;
    this.#tokens.startExpiry(session.id, this.#options.clock.monotonicMs());
    if (this.#sessions.find(session.id) === session)
      this.#options.log.info("control connection lost", fieldsOf(session));
  }

  // --- Sessions end ---

  /** A user of the database may have to prove something else than everybody. */
  #joinAuth(): void {
    const auth = this.#current.auth ?? PASSWORD_ONLY;
    const shutOut = usersShutOut(this.#auth);
    this.#auth = { ...auth, userModes: new Map([...auth.userModes, ...this.#users.modes]) };
    for (const user of usersShutOut(this.#auth)) {
      if (!shutOut.includes(user))
        this.#options.log.warn(`User "${user}" cannot log in: it needs a certificate, and we accept none`);
    }
  }

  /** Ends sessions whose certificate was revoked or has expired, or whose user has to prove something else now. */
  #endUnproved(): void {
    const wallMs = this.#options.clock.wallMs();
    const hasPassword = (user: string): boolean => this.#users.has(user);
    for (const session of this.#sessions.all()) {
      const problem = proofsProblem(session, this.#auth, hasPassword, wallMs);
      if (problem !== null) this.#endSession(session, { code: "refused", reason: problem, cause: "proof" });
    }
  }

  #sweep(): void {
    const { clock, log } = this.#options;
    this.#accounts.sweep();
    this.#endUnproved();
    for (const session of this.#sessions.silent(clock.monotonicMs(), this.#timings.sessionTimeoutMs)) {
      log.info("session timed out", fieldsOf(session));
      this.#endSession(session, TIMED_OUT);
    }
  }

  #endSession(session: ConnectedSession, end: SessionEnd): void {
    const { connection } = session;
    if (!this.#forget(session, end)) return;
    const { code, reason } = end;
    connection?.close(code, reason);
    if (code !== "timeout") this.#options.log.info("session ended", { ...fieldsOf(session), code, reason });
  }

  async #membersChanged(): Promise<void> {
    const members = this.#sessions.all().map(({ id, user, lease }) => ({
      user,
      addresses: [...lease.map((prefix) => prefix.address.text), ...this.#accounts.networksBehind(id)],
    }));
    await this.#options.onMembers?.(members);
  }

  /** Both who have the token must log in anew: `bye` lets the client do so. */
  #tokenReused(session: ConnectedSession, endpoint: HostPort): void {
    this.#record.tokenReused(session, endpoint);
    this.#endSession(session, TOKEN_REUSED);
  }

  #forget(session: ConnectedSession, end: SessionEnd): boolean {
    const wallMs = this.#options.clock.wallMs();
    if (!this.#sessions.remove(session, end.reason, wallMs)) return false;
    session.connection?.stream?.close(true);
    this.#record.ended(session, end, wallMs);
    void this.#membersChanged();
    this.#tokens.forget(session.id);
    session.connection = null;
    this.#accounts.ended(session);
    return true;
  }

  // --- What the data plane tells ---

  #pathChanged(message: TransportMoved | PresenceChanged): void {
    const session = this.#sessions.find(message.id);
    if (session === undefined) return;
    if (message.kind === "presence-changed") session.alive = message.alive;
    logPath(this.#options.log, session, message);
  }

  #fromDataPlane(message: FromDataPlane): void {
    const { log, clock } = this.#options;
    switch (message.kind) {
      case "stats":
        this.#sessions.applyStats(message.sessions, clock.monotonicMs());
        this.#accounts.count(message.sessions);
        this.#drops = message.drops;
        return this.#stats.arrived(message.requestId);
      case "tunnel-out":
      case "tunnel-taken":
        return this.#sessions.find(message.id)?.connection?.stream?.fromDataPlane(message);
      case "transport-moved":
      case "presence-changed":
        return this.#pathChanged(message);
      case "rekey-needed":
        return this.#sessions.find(message.id)?.connection?.send({ type: "rekey-request" });
      case "epoch-confirmed":
        return log.debug("epoch confirmed", { session: message.id, epoch: message.epoch });
      case "endpoint-moved":
        return log.debug("client moved", { session: message.id, endpoint: formatHostPort(message.endpoint) });
      case "notice":
        return log[message.level](message.message);
      case "failed":
        return this.#end.reject(new OmailError(message.message));
      case "ready":
      case "stopped":
        return;
    }
  }
}

function randomBytes(length: number): Uint8Array<ArrayBuffer> {
  return crypto.getRandomValues(new Uint8Array(length));
}
