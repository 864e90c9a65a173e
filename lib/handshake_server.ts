/**
 * The server's side of the log-in described in `handshake.ts`.
 *
 * Messages in, steps out: it owns no connection and no table of sessions; who may log in and which session that
 * opens is asked of the {@link HandshakePolicy}.
 */

import type {
  ClientKeyShare,
  ClientMessage,
  Hello,
  ServerMessage,
  SessionConfig,
} from "./control_message.ts";
import { equalBytes } from "./bytes.ts";
import { CONTROL_VERSION } from "./control_message.ts";
import type { EpochKeys } from "./data_plane_message.ts";
import { ProtocolError } from "./errors.ts";
import type { KeyExporter, RandomBytes, Refusal } from "./handshake.ts";
import {
  answerExchange,
  DATA_KEYS_EXPORTER_LABEL,
  deriveEpochKeys,
  exporterContext,
  type KeyExchange,
} from "./key_schedule.ts";
import type { Verifier } from "./password.ts";
import {
  NONCE_RANDOM_BYTES,
  nonceText,
  ScramServer,
  TLS_EXPORTER_LABEL,
  tlsExporterBinding,
} from "./scram.ts";

/** A session that the policy opened or found. */
export interface SessionGrant {
  readonly config: SessionConfig;
  readonly resumeToken: Uint8Array<ArrayBuffer>;
  /** Highest epoch that was ever installed; -1 for a new session. */
  readonly lastEpoch: number;
}

/** Decides who may log in, and keeps the sessions. */
export interface HandshakePolicy {
  /** The verifier of a user; for an unknown one a fake that costs the same. */
  verifierOf(user: string): Promise<Verifier>;
  /** Whether a user who proved the password must give a one-time code too. */
  needsCode(user: string): boolean;
  /** Uses a one-time code up. @returns false when it is wrong or was used before */
  acceptCode(user: string, code: string): boolean;
  /** Why this user may not even try; null to go on. Must not depend on whether the user exists. */
  refusalFor?(user: string): Refusal | null;
  /** Opens a session for a user who proved the password. */
  openSession(user: string, hello: Hello): Promise<SessionGrant | Refusal>;
  /** Uses a resume token up. Null when it is unknown, used or expired. */
  resumeSession(token: Uint8Array<ArrayBuffer>, hello: Hello): Promise<SessionGrant | null>;
}

/** What to do after a message. */
export type ServerStep =
  | { readonly kind: "reply"; readonly message: ServerMessage }
  /** Install `keys`, then send `message`. */
  | {
      readonly kind: "established";
      readonly message: ServerMessage;
      readonly sessionId: number;
      readonly keys: EpochKeys;
      readonly hello: Hello;
    }
  /** Say goodbye; `user` is who tried, for the log. */
  | { readonly kind: "refuse"; readonly refusal: Refusal; readonly user: string };

/** A wrong password and an unknown user get this same answer. */
const WRONG_CREDENTIALS: Refusal = {
  code: "refused",
  reason: "The user name or the password is wrong",
  guessed: true,
};

/** The password was right: whoever reads this knows it. */
const WRONG_CODE: Refusal = {
  code: "refused",
  reason: "The one-time code is wrong or was used before",
  guessed: true,
};

/** A log-in whose password was proved. */
interface Proved {
  readonly user: string;
  readonly hello: Hello;
  readonly verifier: Verifier;
  readonly serverFinal: string;
}

/** One log-in; call {@link receive} for each message until it is established or refused. */
export class ServerHandshake {
  readonly #policy: HandshakePolicy;
  readonly #exporter: KeyExporter;
  readonly #random: RandomBytes;
  #login: { hello: Hello; scram: ScramServer; verifier: Verifier } | null = null;
  #proved: Proved | null = null;
  #resumeTried = false;

  constructor(policy: HandshakePolicy, exporter: KeyExporter, random: RandomBytes) {
    this.#policy = policy;
    this.#exporter = exporter;
    this.#random = random;
  }

  /** @throws {ProtocolError} when the message is not the one awaited, or is wrong in itself */
  async receive(message: ClientMessage): Promise<ServerStep> {
    const login = this.#login;
    const proved = this.#proved;
    if (proved !== null) {
      this.#proved = null;
      if (message.type === "totp") return await this.#code(proved, message.code);
      throw new ProtocolError(`Cannot use message "${message.type}" now: expected totp`);
    }
    if (login === null && message.type === "hello") return await this.#hello(message);
    if (login !== null && message.type === "proof") {
      this.#login = null;
      return await this.#proof(login.hello, login.scram, login.verifier, message.scram);
    }
    throw new ProtocolError(
      `Cannot use message "${message.type}" now: expected ${login === null ? "hello" : "proof"}`,
    );
  }

  async #hello(hello: Hello): Promise<ServerStep> {
    if (hello.version !== CONTROL_VERSION) {
      throw new ProtocolError(
        `Cannot speak protocol version "${hello.version}": expected ${CONTROL_VERSION}`,
      );
    }
    if ("resume" in hello.auth) return await this.#resume(hello, hello.auth.resume);
    if (hello.keyShare.epoch !== 0) {
      throw new ProtocolError(`Cannot start a session with epoch "${hello.keyShare.epoch}": expected 0`);
    }
    const binding = tlsExporterBinding(this.#exporter(TLS_EXPORTER_LABEL, new Uint8Array(0)));
    const scram = new ScramServer(hello.auth.scram, nonceText(this.#random(NONCE_RANDOM_BYTES)), binding);
    const refusal = this.#policy.refusalFor?.(scram.user) ?? null;
    if (refusal !== null) return { kind: "refuse", refusal, user: scram.user };
    const verifier = await this.#policy.verifierOf(scram.user);
    this.#login = { hello, scram, verifier };
    return { kind: "reply", message: { type: "challenge", scram: scram.challenge(verifier) } };
  }

  async #proof(
    hello: Hello,
    scram: ScramServer,
    verifier: Verifier,
    clientFinal: string,
  ): Promise<ServerStep> {
    const { user } = scram;
    const serverFinal = await scram.finish(clientFinal, verifier);
    if (serverFinal === null) return { kind: "refuse", refusal: WRONG_CREDENTIALS, user };
    const proved: Proved = { user, hello, verifier, serverFinal };
    if (!this.#policy.needsCode(user)) return await this.#open(proved);
    this.#proved = proved;
    return { kind: "reply", message: { type: "totp-request", scram: serverFinal } };
  }

  async #code(proved: Proved, code: string): Promise<ServerStep> {
    const { user } = proved;
    if (!this.#policy.acceptCode(user, code)) return { kind: "refuse", refusal: WRONG_CODE, user };
    return await this.#open(proved);
  }

  async #open({ user, hello, verifier, serverFinal }: Proved): Promise<ServerStep> {
    const exchange = await answerExchange(hello.keyShare);
    // the user may have been removed, or given another password, since the challenge
    const current = await this.#policy.verifierOf(user);
    if (!equalBytes(current.storedKey, verifier.storedKey))
      return { kind: "refuse", refusal: WRONG_CREDENTIALS, user };
    const grant = await this.#policy.openSession(user, hello);
    if ("code" in grant) return { kind: "refuse", refusal: grant, user };
    return await this.#establish(hello, grant, exchange, serverFinal);
  }

  /** A token may be tried once a connection; after that only the password counts. */
  async #resume(hello: Hello, token: Uint8Array<ArrayBuffer>): Promise<ServerStep> {
    if (this.#resumeTried) throw new ProtocolError("Cannot try a second resume token: expected a log-in");
    this.#resumeTried = true;
    const grant = await this.#policy.resumeSession(token, hello);
    if (grant === null) return { kind: "reply", message: { type: "resume-failed" } };
    checkEpochGrows(hello.keyShare, grant.lastEpoch);
    return await this.#establish(hello, grant, await answerExchange(hello.keyShare), null);
  }

  async #establish(
    hello: Hello,
    grant: SessionGrant,
    exchange: KeyExchange,
    serverFinal: string | null,
  ): Promise<ServerStep> {
    const { config, resumeToken } = grant;
    const keyShare = exchange.server;
    const keys = await deriveServerKeys(exchange, config.sessionId, this.#exporter);
    const proof = serverFinal === null ? {} : { scram: serverFinal };
    const message = { type: "welcome", ...proof, config, resumeToken, keyShare } as const;
    return { kind: "established", message, sessionId: config.sessionId, keys, hello };
  }
}

/**
 * A server's keys for the epoch of an answered exchange.
 *
 * @param exporter of the connection on which the exchange took place
 */
export function deriveServerKeys(
  exchange: KeyExchange,
  sessionId: number,
  exporter: KeyExporter,
): Promise<EpochKeys> {
  const context = exporterContext(sessionId, exchange.client.epoch);
  return deriveEpochKeys("server", exchange, exporter(DATA_KEYS_EXPORTER_LABEL, context));
}

/**
 * Epochs only grow: a repeated one would bring two keys under one number.
 *
 * @throws {ProtocolError} when the share's epoch is not higher than `lastEpoch`
 */
export function checkEpochGrows(share: ClientKeyShare, lastEpoch: number): void {
  if (share.epoch > lastEpoch) return;
  throw new ProtocolError(`Cannot use epoch "${share.epoch}": expected more than ${lastEpoch}`);
}
