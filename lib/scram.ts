/**
 * SCRAM-SHA-256, both roles (RFC 5802 and RFC 7677), with the channel binding handed in as a value (RFC 9266).
 *
 * Texts in, texts out; nonces are handed in. Log-in order:
 *
 *   client-first   gs2-header n=user,r=client-nonce
 *   server-first   r=client-nonce server-nonce,s=salt,i=iterations
 *   client-final   c=base64(gs2-header binding),r=both nonces,p=client proof
 *   server-final   v=server signature
 */

import { decodeBase64 } from "./base64.ts";
import { concatBytes, equalBytes } from "./bytes.ts";
import { ProtocolError, RefusedError } from "./errors.ts";
import { HASH_BYTES, hmacSha256, sha256 } from "./hash.ts";
import { PBKDF2_MAX_ITERATIONS, PBKDF2_MIN_ITERATIONS } from "./limits.ts";
import type { ScramKeys, Verifier } from "./password.ts";

/** Random bytes behind a nonce. */
export const NONCE_RANDOM_BYTES = 18;
/** Longest user name, in bytes of UTF-8 as it travels. */
const MAX_USER_BYTES = 256;
/** Longest salt that a client accepts. */
const MAX_SALT_BYTES = 128;
const MAX_NONCE_LENGTH = 256;

/** What ties the log-in to the connection below it. */
export interface ChannelBinding {
  /** gs2-header without authorisation identity: `p=tls-exporter,,` or, without binding, `n,,`. */
  readonly gs2Header: string;
  /** Binding data: 32 bytes of the TLS exporter, or none. */
  readonly data: Uint8Array;
}

/** The binding of RFC 9266, section 4. `data` is exported with this label and an empty context. */
export const TLS_EXPORTER_LABEL = "EXPORTER-Channel-Binding";

/** @param data 32 bytes exported with {@link TLS_EXPORTER_LABEL} */
export function tlsExporterBinding(data: Uint8Array): ChannelBinding {
  return { gs2Header: "p=tls-exporter,,", data };
}

/** Makes a nonce of printable characters without comma from {@link NONCE_RANDOM_BYTES} random bytes. */
export function nonceText(random: Uint8Array): string {
  return random.toBase64();
}

/** The client's side of one log-in. Call {@link first}, {@link final} and {@link verify} in this order. */
export class ScramClient {
  readonly #user: string;
  readonly #nonce: string;
  readonly #binding: ChannelBinding;
  #serverSignature: Uint8Array | null = null;

  /** @param user as `prepareText` returned it */
  constructor(user: string, nonce: string, binding: ChannelBinding) {
    this.#user = user;
    this.#nonce = nonce;
    this.#binding = binding;
  }

  /** client-first-message. */
  first(): string {
    return this.#binding.gs2Header + this.#firstBare();
  }

  /**
   * Answers server-first with client-final.
   *
   * @param keysFor stretches the password with the server's salt and iterations, which were found to be in bounds
   * @throws {ProtocolError} when server-first is ill-formed, its nonce is not ours or its iterations are out of bounds
   */
  async final(
    serverFirst: string,
    keysFor: (salt: Uint8Array<ArrayBuffer>, iterations: number) => Promise<ScramKeys>,
  ): Promise<string> {
    const { nonce, salt, iterations } = parseServerFirst(serverFirst);
    if (!nonce.startsWith(this.#nonce) || nonce.length === this.#nonce.length) {
      throw new ProtocolError("Cannot use the server's nonce: expected ours with an addition");
    }
    const keys = await keysFor(salt, iterations);
    const withoutProof = `c=${bindingText(this.#binding)},r=${nonce}`;
    const authMessage = `${this.#firstBare()},${serverFirst},${withoutProof}`;
    const signature = await hmacSha256(await sha256(keys.clientKey), authMessage);
    this.#serverSignature = await hmacSha256(keys.serverKey, authMessage);
    return `${withoutProof},p=${xorBytes(keys.clientKey, signature).toBase64()}`;
  }

  /**
   * Checks server-final: the proof that the server knows the verifier of this password and sits at the other end of
   * this very connection.
   *
   * @throws {RefusedError} when it does not hold
   */
  verify(serverFinal: string): void {
    const match = /^v=([^,]+)$/.exec(serverFinal);
    const signature = match === null ? null : decodeBase64(match[1]!);
    const expected = this.#serverSignature;
    if (expected !== null && signature !== null && equalBytes(signature, expected)) return;
    throw new RefusedError(
      `The server could not prove that it knows the password of user "${this.#user}": expected its signature`,
    );
  }

  #firstBare(): string {
    return `n=${escapeName(this.#user)},r=${this.#nonce}`;
  }
}

/** The server's side of one log-in. Call {@link challenge} once, then {@link finish} once. */
export class ScramServer {
  readonly user: string;
  readonly #clientFirstBare: string;
  readonly #nonce: string;
  readonly #binding: ChannelBinding;

  /**
   * @param clientFirst client-first-message
   * @param serverNonce our addition to the client's nonce
   * @param binding what this connection's binding is; a client that uses another kind, or none, is refused
   * @throws {ProtocolError} when the message is ill-formed or has another gs2-header
   */
  constructor(clientFirst: string, serverNonce: string, binding: ChannelBinding) {
    const { gs2Header, bare, user, nonce } = parseClientFirst(clientFirst);
    if (gs2Header !== binding.gs2Header) {
      throw new ProtocolError(
        `Cannot use SCRAM channel binding "${gs2Header}": expected "${binding.gs2Header}" (SCRAM-SHA-256-PLUS)`,
      );
    }
    this.user = user;
    this.#clientFirstBare = bare;
    this.#nonce = nonce + serverNonce;
    this.#binding = binding;
  }

  /** server-first-message for the verifier of {@link user}. */
  challenge(verifier: Verifier): string {
    return `r=${this.#nonce},s=${verifier.salt.toBase64()},i=${verifier.iterations}`;
  }

  /**
   * Judges client-final.
   *
   * @param verifier the same as for {@link challenge}
   * @returns server-final, or null when the binding, the nonce or the proof is wrong; all three take the same time
   * @throws {ProtocolError} when the message is ill-formed
   */
  async finish(clientFinal: string, verifier: Verifier): Promise<string | null> {
    const { withoutProof, proof } = parseClientFinal(clientFinal);
    const authMessage = `${this.#clientFirstBare},${this.challenge(verifier)},${withoutProof}`;
    const [signature, serverSignature] = await Promise.all([
      hmacSha256(verifier.storedKey, authMessage),
      hmacSha256(verifier.serverKey, authMessage),
    ]);
    const proven = equalBytes(await sha256(xorBytes(proof, signature)), verifier.storedKey);
    const expected = `c=${bindingText(this.#binding)},r=${this.#nonce}`;
    const bound = equalBytes(utf8(withoutProof), utf8(expected));
    return proven && bound ? `v=${serverSignature.toBase64()}` : null;
  }
}

/** Printable ASCII without comma: RFC 5802's `printable`. */
const PRINTABLE = "[\\x21-\\x2b\\x2d-\\x7e]";
const CLIENT_FIRST = new RegExp(`^((?:n|y|p=[A-Za-z0-9.-]+),,)(n=([^,]+),r=(${PRINTABLE}+))$`);
const SERVER_FIRST = new RegExp(`^r=(${PRINTABLE}+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]{0,9})$`);
const CLIENT_FINAL = new RegExp(`^(c=[A-Za-z0-9+/=]+,r=${PRINTABLE}+),p=([A-Za-z0-9+/=]+)$`);

function parseClientFirst(text: string) {
  const [, gs2Header, bare, name, nonce] = CLIENT_FIRST.exec(text) ?? [];
  const user = name === undefined ? null : unescapeName(name);
  if (gs2Header === undefined || bare === undefined || user === null || nonce === undefined) {
    throw new ProtocolError("Cannot read SCRAM client-first message: expected gs2-header, n= and r=");
  }
  if (nonce.length > MAX_NONCE_LENGTH || utf8(user).length > MAX_USER_BYTES) {
    throw new ProtocolError(
      `Cannot use SCRAM client-first message: user name or nonce over ${MAX_USER_BYTES} bytes`,
    );
  }
  return { gs2Header, bare, user, nonce };
}

function parseServerFirst(text: string) {
  const [, nonce, saltText, iterationsText] = SERVER_FIRST.exec(text) ?? [];
  const salt = saltText === undefined ? null : decodeBase64(saltText);
  if (nonce === undefined || salt === null || salt.length === 0 || salt.length > MAX_SALT_BYTES) {
    throw new ProtocolError("Cannot read SCRAM server-first message: expected r=, s= and i=");
  }
  const iterations = Number(iterationsText);
  if (iterations < PBKDF2_MIN_ITERATIONS || iterations > PBKDF2_MAX_ITERATIONS) {
    throw new ProtocolError(
      `Cannot use "${iterations}" PBKDF2 iterations: expected ${PBKDF2_MIN_ITERATIONS} to ${PBKDF2_MAX_ITERATIONS}`,
    );
  }
  return { nonce, salt, iterations };
}

function parseClientFinal(text: string) {
  const [, withoutProof, proofText] = CLIENT_FINAL.exec(text) ?? [];
  const proof = proofText === undefined ? null : decodeBase64(proofText);
  if (withoutProof === undefined || proof?.length !== HASH_BYTES) {
    throw new ProtocolError(
      `Cannot read SCRAM client-final message: expected c=, r= and p= of ${HASH_BYTES} bytes`,
    );
  }
  return { withoutProof, proof };
}

/** The `c=` attribute: base64 of gs2-header and binding data. */
function bindingText(binding: ChannelBinding): string {
  return concatBytes(utf8(binding.gs2Header), binding.data).toBase64();
}

/** RFC 5802, section 5.1: `,` and `=` cannot stand in a user name as they are. */
function escapeName(user: string): string {
  return user.replaceAll("=", "=3D").replaceAll(",", "=2C");
}

function unescapeName(name: string): string | null {
  if (/=(?!2C|3D)/.test(name)) return null;
  return name.replaceAll("=2C", ",").replaceAll("=3D", "=");
}

/** Both have the same length. */
function xorBytes(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(a, (byte, i) => byte ^ b[i]!);
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
