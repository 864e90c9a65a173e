/**
 * The client's control plane: opens a tunnel and keeps it open.
 *
 * The way to a tunnel, and again after each lost connection:
 *
 *   1. resolve         names of servers to addresses                            `client_dialer.ts`
 *   2. connect         TCP, TLS 1.3                                             `client_dialer.ts`
 *   3. authenticate    SCRAM both ways, or the resume token                     `client_login.ts`
 *   4. configuration   session, inner addresses, MTU, routes, DNS, timers       `client_login.ts`
 *   5. keys            AddSession and SetEpoch: the data path says hello        here
 *   6. prepare         TUN and routes, by the caller, while 5 is under way      here
 *   7. confirm         a record of the server was opened; then keep alive       here, `client_link.ts`
 *
 * After a sleep of the machine everything is asked whether it is still there, and waits are cut short (`wake_watch.ts`).
 * Routes stay in place while it reconnects: nothing leaves in the clear that was meant for the tunnel.
 */

import { setTimeout as sleep } from "node:timers/promises";
import { formatHostPort, type HostPort, parsePrefix } from "./address.ts";
import { messageOf } from "./caught.ts";
import { ClientDataPath } from "./client_data_path.ts";
import { ClientDialer, type Dialed } from "./client_dialer.ts";
import { ClientLink, type LinkEnd } from "./client_link.ts";
import { goodbyeError, isFinal, logIn } from "./client_login.ts";
import {
  type ClientOptions,
  type ClientTimings,
  DEFAULT_CLIENT_TIMINGS,
  type RunningClient,
} from "./client_options.ts";
import { addressesOf, type HeldSession, presenceOf, resumable } from "./client_session.ts";
import type { Clock } from "./clock.ts";
import type { EpochKeys } from "./data_plane_message.ts";
import { OmailError, ProtocolError, RefusedError } from "./errors.ts";
import type { ClientGrant } from "./handshake.ts";
import { type KnownServers, knownServersInMemory } from "./known_servers.ts";
import { HANDSHAKE_TIMEOUT_MS } from "./limits.ts";
import { PasswordKeys, prepareText } from "./password.ts";
import { Backoff } from "./reconnect.ts";
import { Rekey } from "./rekey.ts";
import { resolveServer } from "./resolve.ts";
import { type ClientState, type ClientStatus, toPathStatus } from "./status.ts";
import { WAKE_LOOK_MS, WakeWatch } from "./wake_watch.ts";

export type { ClientOptions, RunningClient } from "./client_options.ts";

/**
 * Starts a client; it runs until {@link RunningClient.stop} or a refusal.
 *
 * @throws {UsageError} when the user name or a requested address cannot be used
 */
export function startClient(options: ClientOptions): RunningClient {
  const client = new TunnelClient(options);
  client.start();
  return client;
}

class TunnelClient implements RunningClient {
  readonly done: Promise<void>;
  readonly #options: ClientOptions;
  readonly #timings: ClientTimings;
  readonly #user: string;
  readonly #requested: readonly string[];
  readonly #dialer: ClientDialer;
  readonly #knownServers: KnownServers;
  readonly #dataPath: ClientDataPath;
  readonly #backoff = new Backoff();
  readonly #stopping = new AbortController();
  readonly #end = Promise.withResolvers<void>();
  /** Servers whose messages could not be understood. */
  readonly #senseless = new Set<HostPort>();
  #state: ClientState = "connecting";
  #passwordKeys: Promise<PasswordKeys> | null = null;
  #session: HeldSession | null = null;
  #link: ClientLink | null = null;
  /** What `onConnected` was last called with, as text. */
  #prepared = "";
  #linkedMs = 0;
  /** Why the state is not "connected". */
  #reason: string | null = null;
  /** Gives up the connection attempt, or the wait, that is under way. */
  #hurry = new AbortController();

  constructor(options: ClientOptions) {
    const { servers, trust = null, identity = null, resolve = resolveServer } = options;
    const { admit = () => Promise.resolve() } = options;
    this.#options = options;
    this.#timings = { ...DEFAULT_CLIENT_TIMINGS, ...options.timings };
    this.#user = prepareText(options.user, "user name");
    this.#requested = (options.requestedAddresses ?? []).map((text) => parsePrefix(text).address.text);
    this.#dialer = new ClientDialer({ servers, trust, identity, resolve, admit });
    this.#knownServers = options.knownServers ?? knownServersInMemory();
    this.#dataPath = new ClientDataPath({
      dataPlane: options.dataPlane,
      log: options.log,
      offload: options.offload,
      confirmTimeoutMs: this.#timings.confirmTimeoutMs,
      firstTransport: options.transport === "tcp" ? "tcp" : "udp",
      events: {
        onRekeyNeeded: () => this.#link?.requestRekey(),
        onStats: () => this.#watchSilence(),
        onPresence: (alive, silentMs) => this.#presenceChanged(alive, silentMs),
        onFailed: (message) => this.#dataPlaneFailed(message),
      },
    });
    this.done = this.#end.promise;
    // a caller that looks at `done` late must not be ended by it
    this.done.catch(() => undefined);
  }

  start(): void {
    const { clock } = this.#options;
    const watch = new WakeWatch(clock.monotonicMs(), clock.wallMs());
    const timer = setInterval(() => {
      const sleptMs = watch.look(clock.monotonicMs(), clock.wallMs());
      if (sleptMs !== null) this.probe(`the machine slept for ${Math.round(sleptMs / 1000)} s`);
    }, WAKE_LOOK_MS);
    this.#run()
      .finally(() => clearInterval(timer))
      .then(this.#end.resolve, this.#end.reject);
  }

  async status(): Promise<ClientStatus> {
    await this.#dataPath.refresh();
    const { servers, clock } = this.#options;
    const session = this.#session;
    const server = session?.server ?? servers[0];
    return {
      ...presenceOf(this.#state, this.#reason, this.#dataPath.alive),
      server: server === undefined ? "" : formatHostPort(server),
      transport: this.#dataPath.transport,
      addresses: session === null ? [] : addressesOf(session.config),
      sessionId: session?.config.sessionId ?? null,
      connectedAt: session?.connectedAtMs ?? null,
      lastSeenAt: this.#lastSeenAt(clock),
      ...toPathStatus(this.#dataPath.stats),
      drops: this.#dataPath.drops,
    };
  }

  rekey(): boolean {
    this.#link?.requestRekey();
    return this.#link !== null;
  }

  probe(why: string): void {
    this.#options.log.info("asking whether the server is there", { why });
    this.#dataPath.probe();
    this.#link?.probe();
    this.#backoff.reset();
    this.#hurry.abort();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#link?.close("bye", "the client leaves");
    // whatever ended the client is told by `done`
    await this.done.catch(() => undefined);
  }

  // --- The seven steps, for ever ---

  async #run(): Promise<void> {
    const { clock, log, onDisconnected } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      this.#hurry = new AbortController();
      const reason = await this.#connectOnce(AbortSignal.any([signal, this.#hurry.signal]));
      if (signal.aborted) break;
      this.#reason = reason;
      if (this.#state === "connected") {
        this.#state = "reconnecting";
        onDisconnected();
      }
      const waitMs = this.#backoff.next(clock.monotonicMs(), Math.random());
      log.warn("not connected, trying again", { reason, waitMs: Math.round(waitMs) });
      this.#hurry = new AbortController();
      const wake = AbortSignal.any([signal, this.#hurry.signal]);
      await sleep(waitMs, undefined, { signal: wake }).catch(() => undefined);
    }
    this.#dataPath.remove();
  }

  /**
   * One connection from beginning to end.
   *
   * @param signal gives the dial and the log-in up
   * @returns why it ended, or did not come about
   * @throws {RefusedError | UsageError} when trying again cannot help; the error of `onConnected`
   */
  async #connectOnce(signal: AbortSignal): Promise<string> {
    let dialed: Dialed | null = null;
    let grant: ClientGrant;
    try {
      dialed = await this.#dialer.dial(signal); // steps 1 and 2
      grant = await this.#logIn(dialed, signal); // steps 3 and 4
    } catch (error) {
      // a question that was given up because of that
      if (this.#stopping.signal.aborted) return messageOf(error);
      const hasAlternative = this.#session !== null || this.#hasOtherThan(dialed, error);
      if (isFinal(error, this.#session !== null, hasAlternative, this.#isDoubtful(dialed))) throw error;
      // the next try is with another server, if there is one
      if (dialed !== null && !signal.aborted) this.#dialer.demote(dialed.server);
      return messageOf(error);
    }
    if (this.#stopping.signal.aborted) return "the client stops";
    const session = this.#hold(dialed, grant);
    const link = this.#openLink(dialed, session);
    const ending = link.run();
    try {
      this.#session = session;
      const { config, endpoint } = session;
      const confirmed = this.#dataPath.install(config, endpoint, grant.keys, grant.resumed); // step 5
      this.#dataPath.attachStream(dialed.connection, () => link.noteHeard());
      const prepared = this.#prepare(session); // step 6
      const ready = Promise.all([prepared, this.#confirmedOrAbandoned(confirmed, dialed.server, link)]); // step 7
      const ended = await Promise.race([ending, ready.then(() => null)]);
      // never leave it at work behind our back, and never lose its error
      await prepared;
      if (ended === null) this.#connected(session, grant.resumed);
      return this.#linkEnded(ended ?? (await ending));
    } finally {
      this.#link = null;
      this.#dataPath.endConfirm();
      this.#dataPath.detachStream();
      link.close("bye", "the client ends");
    }
  }

  /** Whether there is another server to try; one that made no sense once is none. */
  #hasOtherThan(dialed: Dialed | null, error: unknown): boolean {
    if (!(error instanceof ProtocolError) || dialed === null) return this.#dialer.count > 1;
    this.#senseless.add(dialed.server);
    return this.#senseless.size < this.#dialer.count;
  }

  /** A server whose data does not come through makes room for the next one, if there is one. */
  async #confirmedOrAbandoned(confirmed: Promise<void>, server: HostPort, link: ClientLink): Promise<void> {
    if (this.#dialer.count === 1) return await confirmed;
    const giveUp = (): void => {
      this.#dialer.demote(server);
      link.abandon("no record came back");
    };
    const timer = setTimeout(giveUp, 2 * this.#timings.confirmTimeoutMs);
    await Promise.race([confirmed, link.ended]);
    clearTimeout(timer);
    return await confirmed;
  }

  /**
   * Whether a refusal may come from somebody who is not our server: it shows another certificate than the one that
   * proved itself. An attacker on the way must not be able to end a tunnel, and so let its traffic out in the clear.
   * A certificate that passed the check against our CA or pin is no doubt.
   */
  #isDoubtful(dialed: Dialed | null): boolean {
    const held = this.#session;
    if (dialed !== null && this.#options.trust !== undefined) return false;
    return held !== null && dialed?.connection.peerFingerprint !== held.fingerprint;
  }

  #logIn({ connection, server }: Dialed, signal: AbortSignal): Promise<ClientGrant> {
    const { program, offload, code, method = "password", trust } = this.#options;
    const held = this.#session;
    const addresses = held === null ? this.#requested : addressesOf(held.config);
    const options = {
      user: this.#user,
      method,
      serverTrusted: trust !== undefined,
      password: () => this.#password(),
      ...(code === undefined ? {} : { code: () => code(this.#stopping.signal) }),
      client: program,
      offload,
      wantedAddresses: addresses,
      resume: resumable(held, connection.peerFingerprint),
      random: (length: number) => crypto.getRandomValues(new Uint8Array(length)),
    };
    this.#options.log.debug("logging in", {
      server: formatHostPort(server),
      resume: options.resume !== null,
    });
    return logIn(connection, options, HANDSHAKE_TIMEOUT_MS, signal);
  }

  #password(): Promise<PasswordKeys> {
    this.#passwordKeys ??= this.#options.password().then((password) => new PasswordKeys(password));
    return this.#passwordKeys;
  }

  #hold({ connection, server, endpoint }: Dialed, grant: ClientGrant): HeldSession {
    const { clock } = this.#options;
    const { config, keys, resumeToken, resumed } = grant;
    if (!resumed) this.#rememberServer(server, connection.peerFingerprint);
    return {
      config,
      endpoint,
      server,
      fingerprint: connection.peerFingerprint,
      rekey: new Rekey(config.timers.rekeyAfterMs, keys.epoch, clock.monotonicMs()),
      connectedAtMs: resumed && this.#session !== null ? this.#session.connectedAtMs : clock.wallMs(),
      token: resumeToken,
    };
  }

  /** The server has proved itself: a new certificate is news, not a danger. */
  #rememberServer(server: HostPort, fingerprint: string | null): void {
    if (fingerprint === null) return;
    const name = formatHostPort(server);
    const known = this.#knownServers.find(name);
    if (known !== null && known !== fingerprint) {
      const fields = { server: name, fingerprint };
      this.#options.log.warn(
        this.#options.method === "certificate"
          ? "the server has a new certificate; it passed the check"
          : "the server has a new certificate; it proved that it knows the password",
        fields,
      );
    }
    void this.#knownServers.remember(name, fingerprint);
  }

  #openLink({ connection }: Dialed, session: HeldSession): ClientLink {
    const { clock } = this.#options;
    const { pingMs, pingTimeoutMs } = this.#timings;
    const { sessionId } = session.config;
    const onKeys = (keys: EpochKeys): void => this.#dataPath.setKeys(keys);
    this.#link = new ClientLink({
      connection,
      sessionId,
      rekey: session.rekey,
      clock,
      pingMs,
      pingTimeoutMs,
      onKeys,
    });
    this.#linkedMs = clock.monotonicMs();
    return this.#link;
  }

  async #prepare({ config, endpoint }: HeldSession): Promise<void> {
    const { timers: _timers, sessionId: _sessionId, ...seen } = config;
    const wanted = JSON.stringify([seen, endpoint]);
    if (wanted === this.#prepared) return;
    await this.#options.onConnected(config, endpoint);
    this.#prepared = wanted;
  }

  #connected(session: HeldSession, resumed: boolean): void {
    this.#state = "connected";
    this.#reason = null;
    this.#backoff.reset();
    this.#options.log.info(resumed ? "session resumed" : "connected", {
      server: formatHostPort(session.server),
      endpoint: formatHostPort(session.endpoint),
      session: session.config.sessionId,
      addresses: session.config.addresses.join(","),
      transport: this.#dataPath.transport,
    });
  }

  #linkEnded(end: LinkEnd): string {
    if (end.kind === "lost") return end.reason;
    // the server has forgotten the session: its token is worth nothing
    if (this.#session !== null) this.#session.token = null;
    const error = goodbyeError(end);
    if (error instanceof RefusedError) throw error;
    return error.message;
  }

  // --- What the data plane tells ---

  #dataPlaneFailed(message: string): void {
    this.#end.reject(new OmailError(message));
    this.#stopping.abort();
  }

  #presenceChanged(alive: boolean, silentMs: number): void {
    const { log } = this.#options;
    const seconds = (silentMs / 1000).toFixed(1);
    if (alive) return log.info("the server is heard again");
    log.warn("the server is silent", { seconds, transport: this.#dataPath.transport });
  }

  /** The watch over the data path: its silence ends the connection, and the next one may find a way. */
  #watchSilence(): void {
    const session = this.#session;
    if (session === null || this.#link === null) return;
    const linkAgeMs = this.#options.clock.monotonicMs() - this.#linkedMs;
    const silentMs = Math.min(this.#dataPath.stats?.silentMs ?? linkAgeMs, linkAgeMs);
    if (silentMs > session.config.timers.sessionTimeoutMs)
      this.#link.abandon("no record came from the server");
  }

  #lastSeenAt(clock: Clock): number | null {
    const nowMs = clock.monotonicMs();
    const silentMs = this.#dataPath.stats?.silentMs ?? Number.POSITIVE_INFINITY;
    const seenMs = Math.max(this.#link?.heardMs ?? Number.NEGATIVE_INFINITY, nowMs - silentMs);
    return Number.isFinite(seenMs) ? Math.round(clock.wallMs() - (nowMs - seenMs)) : null;
  }
}
