/**
 * Passwords as SCRAM-SHA-256 knows them: PBKDF2 on the client's side, verifiers on the server's (RFC 5802, section 3;
 * RFC 7677).
 *
 * A server keeps verifiers only: whoever steals one can neither log in with it nor read the password from it.
 */

import { equalBytes } from "./bytes.ts";
import { UsageError } from "./errors.ts";
import { HASH_BYTES, hmacSha256, sha256 } from "./hash.ts";
import { PBKDF2_ITERATIONS } from "./limits.ts";
import { longJob } from "./long_job.ts";

/** Bytes of a salt that we make. */
export const SALT_BYTES = 16;

/** What a server stores of a password. */
export interface Verifier {
  readonly salt: Uint8Array<ArrayBuffer>;
  /** PBKDF2 iterations. */
  readonly iterations: number;
  /** SHA-256 of the client key: checks a proof, makes none. */
  readonly storedKey: Uint8Array<ArrayBuffer>;
  /** Signs the server's answer. */
  readonly serverKey: Uint8Array<ArrayBuffer>;
}

/** What a client computes from a password: ClientKey and ServerKey of RFC 5802. */
export interface ScramKeys {
  readonly clientKey: Uint8Array<ArrayBuffer>;
  readonly serverKey: Uint8Array<ArrayBuffer>;
}

/**
 * Prepares a user name or password for hashing: Unicode NFKC, and nothing that a keyboard could not have meant.
 *
 * A conservative SASLprep (RFC 4013): it maps what SASLprep maps by NFKC, and refuses all of Unicode's control,
 * format, private and unassigned characters where SASLprep refuses most and drops a few. ASCII is the same in both.
 *
 * @param what the word for the value in the error message; the value itself is not repeated
 * @throws {UsageError} when the text is empty or has such a character
 */
export function prepareText(text: string, what: "password" | "user name"): string {
  const prepared = text.normalize("NFKC");
  if (prepared === "") throw new UsageError(`Cannot use an empty ${what}: expected at least one character`);
  if (/\p{C}/u.test(prepared)) {
    throw new UsageError(
      `Cannot use this ${what}: it holds control or unassigned characters, expected printable text`,
    );
  }
  return prepared;
}

/**
 * Stretches a password: PBKDF2-HMAC-SHA-256 with 32 bytes of output, `Hi()` of RFC 5802.
 *
 * @param password as {@link prepareText} returned it
 */
export async function saltPassword(
  password: string,
  salt: Uint8Array<ArrayBuffer>,
  iterations: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const secret = new TextEncoder().encode(password);
  const key = await crypto.subtle.importKey("raw", secret, "PBKDF2", false, ["deriveBits"]);
  const parameters = { name: "PBKDF2", hash: "SHA-256", salt, iterations };
  return new Uint8Array(await longJob(() => crypto.subtle.deriveBits(parameters, key, HASH_BYTES * 8)));
}

/** Derives both keys of a client from the output of {@link saltPassword}. */
export async function scramKeys(saltedPassword: Uint8Array<ArrayBuffer>): Promise<ScramKeys> {
  const [clientKey, serverKey] = await Promise.all([
    hmacSha256(saltedPassword, "Client Key"),
    hmacSha256(saltedPassword, "Server Key"),
  ]);
  return { clientKey, serverKey };
}

/**
 * Makes the verifier of a password.
 *
 * @throws {UsageError} when the password cannot be used; see {@link prepareText}
 */
export async function makeVerifier(
  password: string,
  salt: Uint8Array<ArrayBuffer>,
  iterations = PBKDF2_ITERATIONS,
): Promise<Verifier> {
  const salted = await saltPassword(prepareText(password, "password"), salt, iterations);
  const { clientKey, serverKey } = await scramKeys(salted);
  return { salt, iterations, storedKey: await sha256(clientKey), serverKey };
}

/**
 * The salt for a user of one server: stable, so that a user who exists and one who does not look alike, also across
 * restarts.
 *
 * @param serverSecret random bytes that the server keeps for good
 */
export async function saltForUser(
  serverSecret: Uint8Array<ArrayBuffer>,
  user: string,
): Promise<Uint8Array<ArrayBuffer>> {
  return (await hmacSha256(serverSecret, `omail/1 salt ${user}`)).slice(0, SALT_BYTES);
}

/** The verifier of a user who does not exist: no proof matches it, and making it costs the same for every name. */
export async function fakeVerifier(serverSecret: Uint8Array<ArrayBuffer>, user: string): Promise<Verifier> {
  const [salt, storedKey, serverKey] = await Promise.all([
    saltForUser(serverSecret, user),
    hmacSha256(serverSecret, `omail/1 stored key ${user}`),
    hmacSha256(serverSecret, `omail/1 server key ${user}`),
  ]);
  return { salt, iterations: PBKDF2_ITERATIONS, storedKey, serverKey };
}

/** Keeps the costly result for the last salt, so that a reconnecting client does not stretch its password again. */
export class PasswordKeys {
  #password: string;
  #last: { salt: Uint8Array; iterations: number; keys: ScramKeys } | null = null;

  /** @throws {UsageError} when the password cannot be used; see {@link prepareText} */
  constructor(password: string) {
    this.#password = prepareText(password, "password");
  }

  /** The keys for a server's salt and iterations; the caller has judged the iterations. */
  async keysFor(salt: Uint8Array<ArrayBuffer>, iterations: number): Promise<ScramKeys> {
    const last = this.#last;
    if (last !== null && last.iterations === iterations && equalBytes(last.salt, salt)) return last.keys;
    const keys = await scramKeys(await saltPassword(this.#password, salt, iterations));
    this.#last = { salt, iterations, keys };
    return keys;
  }
}
