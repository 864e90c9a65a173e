/**
 * A client's control connection once the log-in is done: keeps it alive, makes new epochs, notices its end.
 *
 * One timer serves all deadlines. Messages are handled one after the other.
 */

import { messageOf } from "./caught.ts";
import type { Clock } from "./clock.ts";
import {
  type ClientMessage,
  decodeServerMessage,
  encodeMessage,
  goodbyeMessage,
  type GoodbyeCode,
  type ServerKeyShare,
  type ServerMessage,
} from "./control_message.ts";
import type { EpochKeys } from "./data_plane_message.ts";
import { OmailError, ProtocolError } from "./errors.ts";
import {
  type ClientExchange,
  DATA_KEYS_EXPORTER_LABEL,
  deriveEpochKeys,
  exporterContext,
  finishExchange,
  startExchange,
} from "./key_schedule.ts";
import { CONTROL_MESSAGES_BURST, CONTROL_MESSAGES_PER_SECOND } from "./limits.ts";
import type { Rekey } from "./rekey.ts";
import type { TlsConnection } from "./tls_connection.ts";
import { TokenBucket } from "./token_bucket.ts";

/** How a link ended: the server said goodbye, or the connection broke for `reason`. */
export type LinkEnd =
  | { readonly kind: "goodbye"; readonly code: GoodbyeCode; readonly reason: string }
  | { readonly kind: "lost"; readonly reason: string };

export interface ClientLinkOptions {
  readonly connection: TlsConnection;
  readonly sessionId: number;
  readonly rekey: Rekey;
  readonly clock: Clock;
  /** Idle time before a ping, and the wait for anything after it. */
  readonly pingMs: number;
  readonly pingTimeoutMs: number;
  /** Installs the keys of a new epoch. */
  readonly onKeys: (keys: EpochKeys) => void;
}

/** Wait for an answer to {@link ClientLink.probe}: back within three seconds of a sleep is the aim. */
const PROBE_TIMEOUT_MS = 1_000;

/** One established control connection. Call {@link run} once. */
export class ClientLink {
  readonly #options: ClientLinkOptions;
  readonly #bucket: TokenBucket;
  #exchange: ClientExchange | null = null;
  #heardMs: number;
  #pingSentMs: number | null = null;
  #pingTimeoutMs: number;
  readonly #ended = Promise.withResolvers<void>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #lostReason: string | null = null;

  constructor(options: ClientLinkOptions) {
    this.#options = options;
    this.#pingTimeoutMs = options.pingTimeoutMs;
    this.#heardMs = options.clock.monotonicMs();
    this.#bucket = new TokenBucket(CONTROL_MESSAGES_PER_SECOND, CONTROL_MESSAGES_BURST, this.#heardMs);
  }

  /** Monotonic milliseconds of the last message from the server. */
  get heardMs(): number {
    return this.#heardMs;
  }

  /** Resolves at the end of {@link run}. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  /** A record came by this connection: as good as an answer. */
  noteHeard(): void {
    this.#heardMs = this.#options.clock.monotonicMs();
    this.#pingSentMs = null;
  }

  /** Pings at once, and waits for the answer with little patience. */
  probe(): void {
    this.#pingTimeoutMs = PROBE_TIMEOUT_MS;
    this.#ping(this.#options.clock.monotonicMs());
    this.#schedule();
  }

  /** Serves the connection to its end; never rejects. */
  async run(): Promise<LinkEnd> {
    const { connection } = this.#options;
    this.#schedule();
    try {
      for (;;) {
        const body = await connection.receive();
        if (body === null) return this.#lost("the server closed the connection");
        this.noteHeard();
        this.#pingTimeoutMs = this.#options.pingTimeoutMs;
        if (!this.#bucket.take(this.#heardMs)) throw new ProtocolError("Too many control messages");
        const message = decodeServerMessage(body);
        if (message.type === "goodbye")
          return { kind: "goodbye", code: message.code, reason: message.reason };
        await this.#receive(message);
        this.#schedule();
      }
    } catch (error) {
      if (error instanceof ProtocolError) this.close("protocol", error.message);
      return this.#lost(messageOf(error));
    } finally {
      this.#stopTimer();
      connection.destroy();
      this.#ended.resolve();
    }
  }

  /** Makes a new epoch soon. */
  requestRekey(): void {
    this.#options.rekey.request();
    this.#schedule();
  }

  /** Gives the connection up; {@link run} ends with this reason. */
  abandon(reason: string): void {
    this.#lostReason ??= reason;
    this.#options.connection.destroy();
  }

  /** Says goodbye and closes. */
  close(code: GoodbyeCode, reason: string): void {
    this.#options.connection.close(encodeMessage(goodbyeMessage(code, reason)));
  }

  async #receive(message: ServerMessage): Promise<void> {
    switch (message.type) {
      case "ping":
        return this.#send({ type: "pong" });
      case "pong":
        return;
      case "rekey-request":
        return this.#options.rekey.request();
      case "rekey-reply":
        return await this.#finishRekey(message.keyShare);
      default:
        throw new ProtocolError(`Cannot use message "${message.type}" after the log-in`);
    }
  }

  async #startRekey(nowMs: number): Promise<void> {
    const { rekey } = this.#options;
    if (rekey.isExhausted) return this.abandon("the epochs of the session are used up");
    const exchange = await startExchange(rekey.begin(nowMs));
    this.#exchange = exchange;
    // an unanswered rekey is as telling as an unanswered ping
    this.#pingSentMs ??= nowMs;
    this.#send({ type: "rekey", keyShare: exchange.share });
  }

  async #finishRekey(share: ServerKeyShare): Promise<void> {
    const { rekey, clock, connection, sessionId, onKeys } = this.#options;
    const exchange = this.#exchange;
    this.#exchange = null;
    if (exchange === null || !rekey.finish(share.epoch, clock.monotonicMs())) {
      throw new ProtocolError(
        `Cannot use a rekey-reply for epoch "${share.epoch}": expected one that was asked for`,
      );
    }
    const finished = await finishExchange(exchange, share);
    const salt = connection.exportKey(DATA_KEYS_EXPORTER_LABEL, exporterContext(sessionId, share.epoch));
    onKeys(await deriveEpochKeys("client", finished, salt));
  }

  #send(message: ClientMessage): void {
    this.#options.connection.send(encodeMessage(message));
  }

  /** Sets the timer to the next deadline. */
  #schedule(): void {
    const { clock, rekey, pingMs, connection } = this.#options;
    this.#stopTimer();
    if (connection.isClosed) return;
    const pingAtMs =
      this.#pingSentMs === null ? this.#heardMs + pingMs : this.#pingSentMs + this.#pingTimeoutMs;
    const dueMs = Math.min(pingAtMs, rekey.dueAt() ?? pingAtMs);
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, dueMs - clock.monotonicMs()));
  }

  #tick(): void {
    const { clock, rekey, pingMs } = this.#options;
    const nowMs = clock.monotonicMs();
    if (rekey.isStuck(nowMs)) return this.abandon("the server does not answer a rekey");
    if (this.#pingSentMs !== null && nowMs - this.#pingSentMs >= this.#pingTimeoutMs) {
      return this.abandon("the server does not answer");
    }
    if (this.#pingSentMs === null && nowMs - this.#heardMs >= pingMs) this.#ping(nowMs);
    if (nowMs >= (rekey.dueAt() ?? Number.POSITIVE_INFINITY)) {
      this.#startRekey(nowMs).catch((error: unknown) => this.abandon(String(error)));
    }
    this.#schedule();
  }

  #ping(nowMs: number): void {
    this.#pingSentMs = nowMs;
    this.#send({ type: "ping" });
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }

  #lost(reason: string): LinkEnd {
    return { kind: "lost", reason: this.#lostReason ?? reason };
  }
}

/**
 * Waits for one message during the log-in.
 *
 * @throws {OmailError} when the connection ends instead
 */
export async function receiveServerMessage(connection: TlsConnection): Promise<ServerMessage> {
  const body = await connection.receive();
  if (body === null) throw new OmailError("The server closed the connection during the log-in");
  return decodeServerMessage(body);
}
