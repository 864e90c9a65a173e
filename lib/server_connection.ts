/**
 * One client's control connection on the server: log-in, then rekeys, pings and the goodbye.
 *
 * Messages are handled one after the other, so at most one rekey is in flight. Whatever the client sends, the worst
 * that happens is the end of its connection.
 */

import { formatHostPort, type HostPort } from "./address.ts";
import { messageOf } from "./caught.ts";
import type { Clock } from "./clock.ts";
import {
  type ClientKeyShare,
  type ClientMessage,
  decodeClientMessage,
  encodeMessage,
  type GoodbyeCode,
  goodbyeMessage,
  type ServerMessage,
} from "./control_message.ts";
import type { DataPlanePort, EpochKeys } from "./data_plane_message.ts";
import { ProtocolError } from "./errors.ts";
import type { RandomBytes, Refusal } from "./handshake.ts";
import {
  checkEpochGrows,
  deriveServerKeys,
  type HandshakePolicy,
  ServerHandshake,
  type ServerStep,
} from "./handshake_server.ts";
import { answerExchange } from "./key_schedule.ts";
import { CONTROL_MESSAGES_BURST, CONTROL_MESSAGES_PER_SECOND, TOTP_TIMEOUT_MS } from "./limits.ts";
import type { Log } from "./log.ts";
import { RecordStream } from "./record_stream.ts";
import type { ServerSession } from "./server_sessions.ts";
import type { TlsConnection } from "./tls_connection.ts";
import type { PendingConnection } from "./tls_control.ts";
import { TokenBucket } from "./token_bucket.ts";

/** A session reached by this kind of connection. */
export type ConnectedSession = ServerSession<ServerConnection>;

/** What a connection tells the server, which owns the sessions. */
export interface ConnectionEvents {
  /** The log-in succeeded: installs the keys and gives the session. Null when it ended meanwhile. */
  established(
    connection: ServerConnection,
    sessionId: number,
    keys: EpochKeys,
    offload: boolean,
  ): ConnectedSession | null;
  /** A new epoch can be received. */
  rekeyed(session: ConnectedSession, keys: EpochKeys): void;
  /** The client leaves for good. */
  left(session: ConnectedSession, reason: string): void;
  /** The log-in was refused; `user` is who the client said it is. */
  refused(connection: ServerConnection, user: string, refusal: Refusal): void;
  /** The connection is gone; the session stays. */
  lost(session: ConnectedSession, connection: ServerConnection): void;
}

export interface ServerConnectionOptions {
  readonly pending: PendingConnection;
  /** Policy of this connection's log-in. */
  readonly policy: HandshakePolicy;
  readonly events: ConnectionEvents;
  readonly random: RandomBytes;
  readonly clock: Clock;
  readonly log: Log;
}

/** The server's end of one control connection. Call {@link run} once. */
export class ServerConnection {
  readonly remote: HostPort;
  readonly #options: ServerConnectionOptions;
  readonly #connection: TlsConnection;
  readonly #bucket: TokenBucket;
  #handshake: ServerHandshake | null;
  #session: ConnectedSession | null = null;
  #stream: RecordStream | null = null;

  constructor(options: ServerConnectionOptions) {
    const { pending, policy, random, clock } = options;
    this.#options = options;
    this.#connection = pending.connection;
    this.remote = pending.connection.remote;
    const exporter = (label: string, context: Uint8Array) => this.#connection.exportKey(label, context);
    this.#handshake = new ServerHandshake(policy, exporter, random);
    this.#bucket = new TokenBucket(CONTROL_MESSAGES_PER_SECOND, CONTROL_MESSAGES_BURST, clock.monotonicMs());
  }

  /** Resolves when the TCP connection is gone. */
  get closed(): Promise<void> {
    return this.#connection.closed;
  }

  /** Serves the client until the connection ends; never rejects. */
  async run(): Promise<void> {
    try {
      for (;;) {
        const body = await this.#connection.receive();
        if (body === null) break;
        const nowMs = this.#options.clock.monotonicMs();
        if (this.#handshake !== null) this.#options.pending.greeted();
        if (!this.#bucket.take(nowMs)) throw new ProtocolError("Too many control messages");
        if (this.#session !== null) this.#session.controlSeenMs = nowMs;
        await this.#receive(decodeClientMessage(body));
      }
    } catch (error) {
      this.#failed(error);
    } finally {
      this.#connection.destroy();
      if (this.#session !== null) this.#options.events.lost(this.#session, this);
    }
  }

  send(message: ServerMessage): void {
    this.#connection.send(encodeMessage(message));
  }

  /** Breaks the connection off, so that the client comes back to its session and is told its configuration again. */
  drop(): void {
    this.#connection.destroy();
  }

  /** Lets the session's records travel by this connection, too; the data plane has the session. */
  openStream(dataPlane: DataPlanePort, session: ConnectedSession): void {
    const { clock } = this.#options;
    this.#stream = new RecordStream(this.#connection, dataPlane, session.id, () => {
      session.controlSeenMs = clock.monotonicMs();
    });
  }

  get stream(): RecordStream | null {
    return this.#stream;
  }

  /** Says goodbye and closes. */
  close(code: GoodbyeCode, reason: string): void {
    this.#connection.close(encodeMessage(goodbyeMessage(code, reason)));
  }

  async #receive(message: ClientMessage): Promise<void> {
    if (message.type === "goodbye") return this.#goodbye(message.code, message.reason);
    if (this.#handshake !== null) return this.#step(await this.#handshake.receive(message));
    if (message.type === "ping") return this.send({ type: "pong" });
    if (message.type === "rekey") return await this.#rekey(message.keyShare);
    if (message.type !== "pong")
      throw new ProtocolError(`Cannot use message "${message.type}" after the log-in`);
  }

  #step(step: ServerStep): void {
    const { log, pending, events } = this.#options;
    if (step.kind === "reply") {
      // a person looks for the telephone and types
      if (step.message.type === "totp-request") pending.extend(TOTP_TIMEOUT_MS);
      return this.send(step.message);
    }
    if (step.kind === "refuse") {
      const { code, reason } = step.refusal;
      log.warn("log-in refused", { user: step.user, endpoint: formatHostPort(this.remote), code, reason });
      events.refused(this, step.user, step.refusal);
      return this.close(code, reason);
    }
    const { sessionId, keys, hello } = step;
    this.#session = events.established(this, sessionId, keys, hello.features.offload);
    if (this.#session === null) throw new ProtocolError("The session ended during the log-in");
    pending.admit();
    this.#handshake = null;
    this.send(step.message);
  }

  async #rekey(share: ClientKeyShare): Promise<void> {
    const session = this.#session;
    if (session === null) return;
    checkEpochGrows(share, session.epoch);
    const exchange = await answerExchange(share);
    const keys = await deriveServerKeys(exchange, session.id, (label, context) =>
      this.#connection.exportKey(label, context),
    );
    // the session may have ended or moved to another connection while keys were made
    if (session.connection !== this) return;
    this.#options.events.rekeyed(session, keys);
    this.send({ type: "rekey-reply", keyShare: exchange.server });
  }

  #goodbye(code: GoodbyeCode, reason: string): void {
    const session = this.#session;
    if (session !== null && code === "bye") this.#options.events.left(session, reason);
    else
      this.#options.log.debug("client said goodbye", { endpoint: formatHostPort(this.remote), code, reason });
    this.#connection.destroy();
  }

  #failed(error: unknown): void {
    const { log } = this.#options;
    const endpoint = formatHostPort(this.remote);
    const reason = messageOf(error);
    if (error instanceof ProtocolError) {
      log.debug("control connection broke the protocol", { endpoint, reason });
      this.close("protocol", reason);
    } else if (this.#connection.isClosed) {
      log.debug("control connection broke", { endpoint, reason });
    } else {
      log.error("control connection failed", { endpoint, reason });
      this.close("internal", "internal error");
    }
  }
}
