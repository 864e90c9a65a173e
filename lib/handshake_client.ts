/**
 * The client's side of the log-in described in `handshake.ts`.
 *
 * Messages in, messages out: it owns no connection. Random bytes and the TLS exporter are handed in.
 */

import type { ClientMessage, Hello, ServerMessage, Welcome } from "./control_message.ts";
import { CONTROL_VERSION } from "./control_message.ts";
import { ProtocolError, RefusedError, UsageError } from "./errors.ts";
import type { ClientGrant, KeyExporter, RandomBytes } from "./handshake.ts";
import {
  type ClientExchange,
  DATA_KEYS_EXPORTER_LABEL,
  deriveEpochKeys,
  exporterContext,
  finishExchange,
  startExchange,
} from "./key_schedule.ts";
import type { PasswordKeys } from "./password.ts";
import {
  NONCE_RANDOM_BYTES,
  nonceText,
  ScramClient,
  TLS_EXPORTER_LABEL,
  tlsExporterBinding,
} from "./scram.ts";

/** What a client brings to a log-in. */
export interface ClientHandshakeOptions {
  /** As `prepareText` returned it. */
  readonly user: string;
  readonly method: LoginMethod;
  /** The server's certificate passed a check against our CA or pin. */
  readonly serverTrusted: boolean;
  /** Asked for only when a password is needed. */
  readonly password: () => Promise<PasswordKeys>;
  /** Asked for only when the server wants a one-time code, after it has proved itself; absent when there is no way. */
  readonly code?: () => Promise<string>;
  /** Name and version of this program. */
  readonly client: string;
  readonly offload: boolean;
  /** Inner addresses to ask for, without prefix length. */
  readonly wantedAddresses: readonly string[];
  /** A session to come back to; only for a server whose certificate is the one that proved itself before. */
  readonly resume: ResumableSession | null;
  readonly exporter: KeyExporter;
  readonly random: RandomBytes;
}

/** What a log-in proves: the password by SCRAM, or the certificate that TLS showed alone. */
export type LoginMethod = "password" | "certificate";

/** What a client keeps of a session whose connection was lost. */
export interface ResumableSession {
  readonly sessionId: number;
  readonly token: Uint8Array<ArrayBuffer>;
  /** Higher than any epoch proposed before. */
  readonly nextEpoch: number;
}

/** What to do after a message: send one, or go on with the session. */
export type ClientStep = { readonly send: ClientMessage } | { readonly established: ClientGrant };

/** One log-in. Call {@link start} once, then {@link receive} for each message until it is established. */
export class ClientHandshake {
  readonly #options: ClientHandshakeOptions;
  #exchange: ClientExchange | null = null;
  #scram: ScramClient | null = null;
  #resume: ResumableSession | null;
  #awaited: "challenge" | "welcome" = "challenge";
  #codeGiven = false;

  constructor(options: ClientHandshakeOptions) {
    this.#options = options;
    this.#resume = options.resume;
  }

  /** The next message from the server should be the one that has the configuration. */
  get awaitsConfiguration(): boolean {
    return this.#awaited === "welcome";
  }

  /** The first message. */
  async start(): Promise<ClientMessage> {
    const resume = this.#resume;
    if (resume === null) return await this.#startFull();
    this.#awaited = "welcome";
    return await this.#hello({ resume: resume.token }, resume.nextEpoch);
  }

  /**
   * Takes the server's answer.
   *
   * @throws {RefusedError} when the server could not prove that it knows the password
   * @throws {ProtocolError} when the message is not the one awaited, or is wrong in itself
   */
  async receive(message: ServerMessage): Promise<ClientStep> {
    if (message.type === "resume-failed" && this.#resume !== null) {
      this.#resume = null;
      return { send: await this.#startFull() };
    }
    if (
      message.type === "totp-request" &&
      this.#awaited === "welcome" &&
      this.#resume === null &&
      !this.#codeGiven
    ) {
      this.#scram?.verify(message.scram);
      this.#codeGiven = true;
      return { send: { type: "totp", code: await this.#code() } };
    }
    if (message.type !== this.#awaited) {
      throw new ProtocolError(`Cannot use message "${message.type}" now: expected ${this.#awaited}`);
    }
    return message.type === "challenge" ? await this.#prove(message.scram) : await this.#finish(message);
  }

  /** @throws {RefusedError} when nothing would prove the server */
  async #startFull(): Promise<Hello> {
    if (this.#options.method === "password") return await this.#startScram();
    if (!this.#options.serverTrusted) {
      throw new RefusedError(
        "Cannot log in by certificate alone: nothing proves the server, expected a CA or pin",
      );
    }
    this.#awaited = "welcome";
    return await this.#hello({ certificate: true }, 0);
  }

  async #startScram(): Promise<Hello> {
    const { user, random, exporter } = this.#options;
    const binding = tlsExporterBinding(exporter(TLS_EXPORTER_LABEL, new Uint8Array(0)));
    this.#scram = new ScramClient(user, nonceText(random(NONCE_RANDOM_BYTES)), binding);
    this.#awaited = "challenge";
    return await this.#hello({ scram: this.#scram.first() }, 0);
  }

  async #hello(auth: Hello["auth"], epoch: number): Promise<Hello> {
    this.#exchange = await startExchange(epoch);
    return {
      type: "hello",
      version: CONTROL_VERSION,
      client: this.#options.client,
      features: { offload: this.#options.offload },
      addresses: [...this.#options.wantedAddresses],
      auth,
      keyShare: this.#exchange.share,
    };
  }

  async #code(): Promise<string> {
    const { code } = this.#options;
    if (code !== undefined) return await code();
    throw new UsageError("Cannot log in without a one-time code: expected a way to ask for one");
  }

  async #prove(serverFirst: string): Promise<ClientStep> {
    const scram = this.#scram;
    if (scram === null) throw new ProtocolError(`Cannot use message "challenge" now: expected welcome`);
    const keys = await this.#options.password();
    const scramFinal = await scram.final(serverFirst, (salt, iterations) => keys.keysFor(salt, iterations));
    this.#awaited = "welcome";
    return { send: { type: "proof", scram: scramFinal } };
  }

  /** First the proof of who the server is; nothing of the message counts before. */
  async #finish(welcome: Extract<ServerMessage, { type: "welcome" }>): Promise<ClientStep> {
    const resume = this.#resume;
    if (resume !== null) checkResumed(welcome, resume);
    else if (this.#options.method === "password") this.#scram?.verify(welcome.scram ?? "");
    const exchange = this.#exchange;
    if (exchange === null) throw new ProtocolError(`Cannot use message "welcome" now: expected challenge`);
    const { config, resumeToken } = welcome;
    const finished = await finishExchange(exchange, welcome.keyShare);
    const context = exporterContext(config.sessionId, exchange.share.epoch);
    const salt = this.#options.exporter(DATA_KEYS_EXPORTER_LABEL, context);
    const keys = await deriveEpochKeys("client", finished, salt);
    return { established: { config, resumeToken, keys, resumed: resume !== null } };
  }
}

function checkResumed(welcome: Welcome, resume: ResumableSession): void {
  if (welcome.config.sessionId === resume.sessionId) return;
  throw new ProtocolError(
    `Cannot resume as session "${welcome.config.sessionId}": expected the session ${resume.sessionId}`,
  );
}
