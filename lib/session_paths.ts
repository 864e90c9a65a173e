/**
 * The two paths of one session, UDP and the TLS stream: which one carries what we send, what is asked on which, whether
 * the peer is there, and how much the stream may still take.
 *
 * Pure. A client chooses by what is answered (`transport.ts`). A server follows: it sends on the path of the newest
 * authentic record, probes left out, which is kept in {@link Session.path}.
 */

import type { TransportChoice, TransportName } from "./data_plane_message.ts";
import { Presence } from "./presence.ts";
import type { Session } from "./session.ts";
import { StreamWindow } from "./stream_window.ts";
import { ClientTransport } from "./transport.ts";

/** Asks of one path that may still be answered. */
const MAX_ASKS = 32;

/** A keep-alive to send: by which path, and whether it only probes that path. */
export interface PathAsk {
  readonly path: TransportName;
  readonly probe: boolean;
}

/** What has changed since the last look. */
export interface PathNews {
  readonly asks: readonly PathAsk[];
  readonly moved: { readonly to: TransportName; readonly reason: string } | null;
  readonly presence: { readonly alive: boolean; readonly silentMs: number } | null;
}

/** The paths of one session, at either end. */
export class SessionPaths {
  readonly #session: Session;
  /** Null at a server. */
  readonly #transport: ClientTransport | null;
  readonly #presence: Presence;
  /** `sent at` of asks that were not answered yet. */
  readonly #askStamps: Readonly<Record<TransportName, number[]>> = { udp: [], tcp: [] };
  #streamUp = false;
  /** What is on its way into the stream. */
  readonly window = new StreamWindow();
  #toldPath: TransportName;
  #seenPackets = 0;

  /** @param choice of a client; null at a server */
  constructor(session: Session, choice: TransportChoice | null, keepaliveMs: number, nowMs: number) {
    this.#session = session;
    this.#transport = choice === null ? null : new ClientTransport(choice, keepaliveMs);
    this.#presence = new Presence(keepaliveMs, nowMs);
    session.usePath(this.#transport?.current ?? "udp");
    this.#toldPath = session.path;
  }

  get streamUp(): boolean {
    return this.#streamUp;
  }

  /** The TLS stream came or went; a new one has taken nothing yet. */
  streamChanged(up: boolean): void {
    this.#streamUp = up;
    this.window.reset();
    this.#transport?.streamChanged(up);
    // a server without stream can only hope for the last address
    if (!up && this.#transport === null) this.#session.usePath("udp");
  }

  /** A keep-alive that wants an answer was sent; `stampUs` is its `sent at`. */
  asked(path: TransportName, stampUs: number, nowMs: number): void {
    const stamps = this.#askStamps[path];
    stamps.push(stampUs);
    if (stamps.length > MAX_ASKS) stamps.shift();
    this.#transport?.asked(path, nowMs);
  }

  /** A keep-alive came by `path`. It proves the path when it echoes an ask that went the same way, once. */
  keepaliveReceived(path: TransportName, echoUs: number | null, nowMs: number): void {
    const stamps = this.#askStamps[path];
    const index = echoUs === null ? -1 : stamps.indexOf(echoUs);
    if (index < 0) return;
    stamps.splice(0, index + 1);
    // whatever was asked since the doubt told the peer
    this.#session.tellsNewPath = false;
    this.#transport?.answered(path, nowMs);
  }

  /**
   * The network has changed: everything is asked at the next tick, and each ask tells the peer until one is answered.
   * Answers still on their way prove nothing of the new network.
   */
  doubt(): void {
    this.#transport?.doubt();
    this.#session.tellsNewPath = true;
    for (const stamps of Object.values(this.#askStamps)) stamps.length = 0;
  }

  /** What is due now, and what has changed. */
  tick(nowMs: number): PathNews {
    const session = this.#session;
    if (session.lastReceivedMs !== null) this.#presence.heard(session.lastReceivedMs);
    const presence = this.#presence.change(nowMs);
    if (this.#transport !== null) return { ...this.#clientTick(this.#transport, nowMs), presence };
    const moved =
      session.path === this.#toldPath
        ? null
        : { to: session.path, reason: "the client's records come this way" };
    this.#toldPath = session.path;
    const asks = this.#presence.takeAsk(nowMs) ? [{ path: session.path, probe: false }] : [];
    return { asks, moved, presence };
  }

  #clientTick(transport: ClientTransport, nowMs: number): Pick<PathNews, "asks" | "moved"> {
    const session = this.#session;
    if (session.txPackets !== this.#seenPackets) transport.sent(nowMs);
    this.#seenPackets = session.txPackets;
    const { ask, moved } = transport.tick(nowMs);
    session.usePath(transport.current);
    return { asks: ask.map((path) => ({ path, probe: path !== session.path })), moved };
  }
}
