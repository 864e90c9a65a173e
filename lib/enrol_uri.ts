/**
 * The one-time token by which a client gets its certificate, as a URI for a QR code:
 *
 *   omail://vpn.example.org:51820/1/TOKEN/PIN
 *
 * The 1 is the version, TOKEN 16 random bytes, PIN the SHA-256 fingerprint of the server's certificate or its
 * authority's, both in base64url (RFC 4648, section 5) without padding. That is about 100 characters.
 */

import { formatHostPort, type HostPort, parseHostPort } from "./address.ts";
import { UsageError } from "./errors.ts";
import { FINGERPRINT_BYTES, fingerprintBytes, formatFingerprint } from "./fingerprint.ts";
import { DEFAULT_PORT } from "./limits.ts";

/** What a token says. */
export interface EnrolUri {
  readonly server: HostPort;
  readonly token: Uint8Array<ArrayBuffer>;
  /** As `formatFingerprint` writes it. */
  readonly pin: string;
}

/** Random bytes of a token: nobody guesses it. */
export const ENROL_TOKEN_BYTES = 16;
/** Longest URI that is written or read, in characters: a larger QR code is hard to scan. */
export const MAX_ENROL_URI_LENGTH = 400;

const SCHEME = "omail://";
const VERSION = "1";
const EXPECTED = "expected omail://HOST:PORT/1/TOKEN/PIN as omail-server profile --qr prints it";

/** Whether a text means to be such a URI, right or wrong. */
export function isEnrolUri(text: string): boolean {
  return text.trim().toLowerCase().startsWith(SCHEME);
}

/** @throws {UsageError} when it would be too long for a QR code */
export function formatEnrolUri({ server, token, pin }: EnrolUri): string {
  const uri = [SCHEME + formatHostPort(server), VERSION, toText(token), toText(fingerprintBytes(pin))].join(
    "/",
  );
  if (uri.length <= MAX_ENROL_URI_LENGTH) return uri;
  throw new UsageError(
    `Cannot put the server "${server.host}" into a token: the URI has ${uri.length} characters, expected at most ${MAX_ENROL_URI_LENGTH}`,
  );
}

/**
 * Reads a URI.
 *
 * @throws {UsageError} when it is cut off, damaged or of another version; the token is not repeated
 */
export function parseEnrolUri(text: string): EnrolUri {
  const uri = text.trim();
  if (uri.length > MAX_ENROL_URI_LENGTH || !isEnrolUri(uri))
    throw new UsageError(`Cannot read the enrolment token: ${EXPECTED}`);
  const [host = "", version = "", token = "", pin = "", ...more] = uri.slice(SCHEME.length).split("/");
  if (version !== "" && /^[0-9]+$/.test(version) && version !== VERSION) {
    throw new UsageError(
      `Cannot read the enrolment token: it has version "${version}", expected ${VERSION}; take an omail-client that is as new`,
    );
  }
  const tokenBytes = fromText(token, ENROL_TOKEN_BYTES);
  const pinBytes = fromText(pin, FINGERPRINT_BYTES);
  if (version !== VERSION || more.length > 0 || tokenBytes === null || pinBytes === null)
    throw new UsageError(`Cannot read the enrolment token: it is cut off or damaged, ${EXPECTED}`);
  const server = parseHostPort(host, DEFAULT_PORT);
  if (server.host === "")
    throw new UsageError(`Cannot read the enrolment token: it names no server, ${EXPECTED}`);
  return { server, token: tokenBytes, pin: formatFingerprint(pinBytes) };
}

function toText(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

/** The bytes of a text that is canonical; null when it is not. */
function fromText(text: string, length: number): Uint8Array<ArrayBuffer> | null {
  try {
    const bytes = Uint8Array.fromBase64(text, { alphabet: "base64url", lastChunkHandling: "loose" });
    return bytes.length === length && toText(bytes) === text ? bytes : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
