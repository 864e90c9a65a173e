/**
 * Steps 1 and 2 of a client's way: finds an address of a server that answers, and connects by TLS.
 *
 * Names are resolved anew for each dial. Addresses that answered before are remembered, because after a lost connection
 * the resolver itself may be out of reach: its packets go into the tunnel that is down. Addresses are tried one after
 * the other without waiting long for a silent one (after RFC 8305): the first that finishes TLS wins.
 */

import { formatHostPort, type HostPort } from "./address.ts";
import { messageOf } from "./caught.ts";
import { OmailError, RefusedError, UnknownHostError } from "./errors.ts";
import { CONNECT_TIMEOUT_MS } from "./limits.ts";
import type { TlsConnection } from "./tls_connection.ts";
import { connectControl } from "./tls_control.ts";

/** A connection that finished TLS. */
export interface Dialed {
  readonly connection: TlsConnection;
  /** The server as the user named it. */
  readonly server: HostPort;
  /** Literal address that answered, and the port. */
  readonly endpoint: HostPort;
}

export interface DialerOptions {
  /** Tried in this order at first; a server that fails goes to the end, one that works to the front. */
  readonly servers: readonly HostPort[];
  readonly caPem: string | null;
  /** Turns a server into literal addresses. */
  readonly resolve: (server: HostPort) => Promise<readonly HostPort[]>;
  /** Keeps an address outside the tunnel before it is dialled. */
  readonly admit: (endpoint: HostPort) => Promise<void>;
  /** Times that tests shorten. */
  readonly timeoutMs?: number;
  readonly staggerMs?: number;
}

/** A silent address gets this head start before the next one is tried beside it. */
const STAGGER_MS = 1_500;
/** How long a resolver may take before remembered addresses are tried without it. */
const RESOLVER_HEAD_START_MS = 500;
/** Addresses remembered for a server. */
const MAX_KNOWN = 8;

/** Connects to the first server that answers. */
export class ClientDialer {
  readonly #options: DialerOptions;
  readonly #known = new Map<HostPort, readonly HostPort[]>();
  #order: readonly HostPort[];

  constructor(options: DialerOptions) {
    this.#options = options;
    this.#order = options.servers;
  }

  /** How many servers there are to choose from. */
  get count(): number {
    return this.#order.length;
  }

  /** The server answered but was of no use: all others come first at the next dial. */
  demote(server: HostPort): void {
    this.#order = [...this.#order.filter((other) => other !== server), server];
  }

  /**
   * @throws {RefusedError} when a certificate of every server does not pass the check
   * @throws {UnknownHostError} when no server's name exists
   * @throws {OmailError} when no server answers; names each try
   */
  async dial(signal: AbortSignal): Promise<Dialed> {
    const { caPem, admit, timeoutMs = CONNECT_TIMEOUT_MS, staggerMs = STAGGER_MS } = this.#options;
    const race = new DialRace(caPem, admit, timeoutMs, signal);
    for await (const { server, endpoint } of this.#candidates(race)) {
      race.start(server, endpoint);
      await race.progress(staggerMs);
      if (race.winner !== null) return this.#won(race.winner);
    }
    await race.end();
    signal.throwIfAborted();
    if (race.winner === null) throw race.failure(this.#order);
    return this.#won(race.winner);
  }

  #won(dialed: Dialed): Dialed {
    const { server, endpoint } = dialed;
    const others = this.#known.get(server)?.filter((other) => !isSame(other, endpoint)) ?? [];
    this.#known.set(server, [endpoint, ...others].slice(0, MAX_KNOWN));
    this.#order = [server, ...this.#order.filter((other) => other !== server)];
    return dialed;
  }

  /** Never rejects: what failed is among the failures of the race. */
  async #resolve(server: HostPort, race: DialRace): Promise<readonly HostPort[]> {
    try {
      return await this.#options.resolve(server);
    } catch (error) {
      race.failed(server, error);
      return [];
    }
  }

  /**
   * Each address of each server once: what the resolver says if it is quick, those that worked before first; then
   * remembered ones; last what a slow resolver says, so that it delays nobody.
   */
  async *#candidates(race: DialRace): AsyncGenerator<{ server: HostPort; endpoint: HostPort }> {
    const order = this.#order;
    const found = order.map((server) => this.#resolve(server, race));
    const late = Bun.sleep(RESOLVER_HEAD_START_MS).then((): readonly HostPort[] => []);
    const quick = found.map((addresses) => Promise.race([addresses, late]));
    const given = new Set<string>();
    for (const lists of [quick, found]) {
      for (const [i, server] of order.entries()) {
        const addresses = await lists[i]!;
        const known = this.#known.get(server) ?? [];
        const proven = known.filter((endpoint) => addresses.some((other) => isSame(other, endpoint)));
        for (const endpoint of [...proven, ...addresses, ...known]) {
          const key = `${i} ${formatHostPort(endpoint)}`;
          if (given.has(key)) continue;
          given.add(key);
          yield { server, endpoint };
        }
      }
    }
  }
}

/** Attempts side by side; the first that finishes TLS wins, and all others are given up. */
class DialRace {
  readonly #caPem: string | null;
  readonly #admit: DialerOptions["admit"];
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal;
  readonly #giveUp = new AbortController();
  readonly #pending = new Set<Promise<void>>();
  readonly #won = Promise.withResolvers<void>();
  #newest: Promise<void> = Promise.resolve();
  #winner: Dialed | null = null;
  readonly #failures: { readonly server: HostPort; readonly error: unknown }[] = [];

  constructor(caPem: string | null, admit: DialerOptions["admit"], timeoutMs: number, signal: AbortSignal) {
    this.#caPem = caPem;
    this.#admit = admit;
    this.#timeoutMs = timeoutMs;
    this.#signal = AbortSignal.any([signal, this.#giveUp.signal]);
  }

  get winner(): Dialed | null {
    return this.#winner;
  }

  start(server: HostPort, endpoint: HostPort): void {
    const attempt = this.#attempt(server, endpoint);
    this.#newest = attempt;
    this.#pending.add(attempt);
    void attempt.then(() => this.#pending.delete(attempt));
  }

  /** Waits until the newest attempt failed, one has won, or `ms` have passed. */
  async progress(ms: number): Promise<void> {
    await Promise.race([this.#newest, this.#won.promise, Bun.sleep(ms)]);
  }

  /** Waits until one has won or all have failed. */
  async end(): Promise<void> {
    await Promise.race([Promise.all(this.#pending), this.#won.promise]);
  }

  failed(server: HostPort, error: unknown): void {
    this.#failures.push({ server, error });
  }

  /** Why nobody won: a refusal or an unknown name only when all of `servers` have one. */
  failure(servers: readonly HostPort[]): Error {
    const message = [...new Set(this.#failures.map(({ error }) => messageOf(error)))].join("; ");
    const all = (isKind: (error: unknown) => boolean): boolean =>
      servers.every((server) => this.#failures.some((one) => one.server === server && isKind(one.error)));
    if (all((error) => error instanceof RefusedError)) return new RefusedError(message);
    if (all((error) => error instanceof UnknownHostError)) return new UnknownHostError(message);
    return new OmailError(message);
  }

  async #attempt(server: HostPort, endpoint: HostPort): Promise<void> {
    try {
      await this.#admit(endpoint);
      const options = { endpoint, serverName: server.host, caPem: this.#caPem, timeoutMs: this.#timeoutMs };
      const connection = await connectControl({ ...options, signal: this.#signal });
      if (this.#winner !== null) return connection.destroy();
      this.#winner = { connection, server, endpoint };
      this.#giveUp.abort();
      this.#won.resolve();
    } catch (error) {
      this.failed(server, error);
    }
  }
}

function isSame(a: HostPort, b: HostPort): boolean {
  return a.host === b.host && a.port === b.port;
}
