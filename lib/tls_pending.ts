/**
 * Connections that have not logged in: bounded in number and in time, in all and by address.
 *
 * Each step has its deadline (TLS, the first message, the whole log-in), which no dripped byte extends. When a place
 * is needed, the address with the most connections loses its oldest: a crowd from one place pushes out only itself.
 */

import type { TLSSocket } from "node:tls";
import { formatHostPort, unmapAddress } from "./address.ts";
import { ALPN_PROTOCOL } from "./limits.ts";
import type { Log } from "./log.ts";
import { TlsConnection } from "./tls_connection.ts";

/** Bounds and what to do with those who get through. */
export interface PendingOptions {
  readonly maxPending: number;
  readonly maxPendingPerAddress: number;
  /** From accept to {@link PendingConnection.admit}. */
  readonly handshakeTimeoutMs: number;
  /** From accept to the end of the TLS handshake. */
  readonly tlsTimeoutMs: number;
  /** From there to {@link PendingConnection.greeted}. */
  readonly helloTimeoutMs: number;
  /** Why a connection from this address is cut off before TLS; null to go on. Called once for each connection. */
  readonly admit: (address: string) => "not-allowed" | "rate-limited" | null;
  /** Whom an address counts for, when connections of one address are counted. */
  readonly keyOf: (address: string) => string;
  readonly onConnection: (pending: PendingConnection) => void;
  readonly log: Log;
}

/** A connection that finished TLS and has not logged in. */
export interface PendingConnection {
  readonly connection: TlsConnection;
  /** The client's first message came. */
  greeted(): void;
  /** A person is asked for something: the whole log-in has `timeoutMs` from now. */
  extend(timeoutMs: number): void;
  /** The log-in succeeded: lifts the deadline and frees the place. */
  admit(): void;
}

/** Why a connection ended before it logged in. */
export type ListenFailure = "not-allowed" | "rate-limited" | "crowded-out" | "too-slow" | "tls-failed";

/** One connection and its deadlines. */
interface Pending {
  readonly key: string;
  /** When the whole log-in must be done. */
  untilMs: number;
  timer: ReturnType<typeof setTimeout>;
}

/** The connections that have not logged in, the oldest first. */
export class PendingSet {
  readonly failures: Record<ListenFailure, number> = {
    "not-allowed": 0,
    "rate-limited": 0,
    "crowded-out": 0,
    "too-slow": 0,
    "tls-failed": 0,
  };
  readonly #options: PendingOptions;
  readonly #pending = new Map<TLSSocket, Pending>();
  readonly #byKey = new Map<string, Set<TLSSocket>>();
  /** Already counted: destroying a socket in its handshake is reported as a TLS error once more. */
  readonly #counted = new WeakSet<TLSSocket>();

  constructor(options: PendingOptions) {
    this.#options = options;
  }

  accepted(socket: TLSSocket): void {
    const { admit, keyOf, tlsTimeoutMs, handshakeTimeoutMs } = this.#options;
    const address = unmapAddress(socket.remoteAddress ?? "");
    // an error without a listener would end the process; TLS errors come by "tlsClientError" as well
    socket.on("error", () => this.#remove(socket));
    const refusal = admit(address);
    if (refusal !== null) return this.#turnAway(socket, refusal);
    socket.once("close", () => this.#remove(socket));
    const key = keyOf(address);
    const timer = this.#deadline(socket, Math.min(tlsTimeoutMs, handshakeTimeoutMs));
    this.#pending.set(socket, { key, untilMs: performance.now() + handshakeTimeoutMs, timer });
    const siblings = this.#byKey.get(key) ?? new Set();
    this.#byKey.set(key, siblings.add(socket));
    this.#makeRoom(siblings);
  }

  secured(socket: TLSSocket): void {
    if (!this.#pending.has(socket)) return;
    if (socket.alpnProtocol !== ALPN_PROTOCOL) return this.failed(socket, "tls-failed", "no ALPN protocol");
    this.#nextStep(socket, this.#options.helloTimeoutMs);
    this.#options.onConnection({
      connection: new TlsConnection(socket),
      greeted: () => this.#nextStep(socket, Number.POSITIVE_INFINITY),
      extend: (timeoutMs) => this.#extend(socket, timeoutMs),
      admit: () => this.#remove(socket),
    });
  }

  failed(socket: TLSSocket, reason: ListenFailure, detail: string): void {
    const { remoteAddress = "", remotePort = 0 } = socket;
    this.#remove(socket);
    socket.destroy();
    if (this.#counted.has(socket)) return;
    this.#counted.add(socket);
    this.failures[reason] += 1;
    const endpoint = formatHostPort({ host: unmapAddress(remoteAddress), port: remotePort });
    this.#options.log.debug("control connection ended before its log-in", { endpoint, reason, detail });
  }

  destroyAll(): void {
    for (const socket of this.#pending.keys()) socket.destroy();
  }

  /** The way of most connections in a flood: it costs as little as can be, no line of a log included. */
  #turnAway(socket: TLSSocket, reason: ListenFailure): void {
    this.#counted.add(socket);
    this.failures[reason] += 1;
    // a reset leaves nothing behind in the kernel
    socket.resetAndDestroy();
  }

  #makeRoom(siblings: ReadonlySet<TLSSocket>): void {
    const { maxPending, maxPendingPerAddress } = this.#options;
    let crowd = siblings;
    if (crowd.size <= maxPendingPerAddress) {
      if (this.#pending.size <= maxPending) return;
      for (const others of this.#byKey.values()) if (others.size > crowd.size) crowd = others;
    }
    const [oldest] = crowd;
    if (oldest !== undefined) this.failed(oldest, "crowded-out", "");
  }

  /** Starts the next step's time; the whole log-in has what is left of its own. */
  #nextStep(socket: TLSSocket, stepMs: number): void {
    const pending = this.#pending.get(socket);
    if (pending === undefined) return;
    clearTimeout(pending.timer);
    const leftMs = pending.untilMs - performance.now();
    pending.timer = this.#deadline(socket, Math.max(0, Math.min(stepMs, leftMs)));
  }

  #extend(socket: TLSSocket, timeoutMs: number): void {
    const pending = this.#pending.get(socket);
    if (pending === undefined) return;
    pending.untilMs = performance.now() + timeoutMs;
    this.#nextStep(socket, Number.POSITIVE_INFINITY);
  }

  #deadline(socket: TLSSocket, ms: number): ReturnType<typeof setTimeout> {
    return setTimeout(() => this.failed(socket, "too-slow", ""), ms);
  }

  #remove(socket: TLSSocket): void {
    const pending = this.#pending.get(socket);
    if (pending === undefined) return;
    clearTimeout(pending.timer);
    this.#pending.delete(socket);
    const siblings = this.#byKey.get(pending.key);
    siblings?.delete(socket);
    if (siblings?.size === 0) this.#byKey.delete(pending.key);
  }
}
