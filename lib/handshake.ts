/**
 * The log-in on the control channel: its order of messages, and what both roles share.
 *
 * Below is TLS 1.3 with ALPN `omail/1`. A full log-in takes two round trips, a resumption one:
 *
 *   client                                                            server
 *   hello {version, client, features, addresses, auth: {scram: client-first}, keyShare} ->
 *                                          <- challenge {scram: server-first}
 *   proof {scram: client-final}            ->
 *                                          <- welcome {scram: server-final, config, resumeToken, keyShare}
 *
 * For a user with a second factor, instead of `welcome`:
 *
 *                                          <- totp-request {scram: server-final}
 *   totp {code}                            ->
 *                                          <- welcome {scram: server-final, config, resumeToken, keyShare}
 *
 *   hello {..., auth: {resume: token}, keyShare}  ->
 *                                          <- welcome {config, resumeToken, keyShare}
 *                                      or  <- resume-failed, and the client says hello again with SCRAM
 *
 * Then, in any order, for as long as the connection stands:
 *
 *   client: rekey {keyShare of a higher epoch}  -> server: rekey-reply {keyShare}
 *   server: rekey-request                       -> client: rekey, soon
 *   either: ping -> pong;  goodbye {code, reason} and the connection closes
 *
 * SCRAM is SCRAM-SHA-256-PLUS with the binding `tls-exporter` (RFC 5802, RFC 7677, RFC 9266): nobody in the middle
 * can pass it on. A client believes nothing of `welcome` before the server's signature in it was checked. It sends a
 * resume token only to the certificate that proved itself by SCRAM before. The first epoch of a session is 0; a
 * resumption continues with an epoch higher than any proposed before. The server can open records of an epoch before
 * its answer leaves; it seals with the new key when a record from the client proves that the client has it.
 */

import type { GoodbyeCode, SessionConfig } from "./control_message.ts";
import type { EpochKeys } from "./data_plane_message.ts";

/**
 * The TLS exporter of the connection (RFC 8446, section 7.5).
 *
 * @returns 32 bytes, equal at both ends
 */
export type KeyExporter = (label: string, context: Uint8Array) => Uint8Array<ArrayBuffer>;

/** A source of `length` random bytes, good enough for keys. */
export type RandomBytes = (length: number) => Uint8Array<ArrayBuffer>;

/** A session as the client holds it after a log-in. */
export interface ClientGrant {
  readonly config: SessionConfig;
  readonly resumeToken: Uint8Array<ArrayBuffer>;
  readonly keys: EpochKeys;
  /** The session existed before: only its keys are new. */
  readonly resumed: boolean;
}

/** Why a server ends a connection during the log-in. */
export interface Refusal {
  readonly code: GoodbyeCode;
  readonly reason: string;
  /** The client guessed at a secret, and wrongly: it counts towards a lock-out. */
  readonly guessed?: true;
}
