/**
 * Messages of the control channel: JSON texts in UTF-8 with a strict schema each.
 *
 * A message is an object with a `type`; unknown types, unknown keys and wrong values are errors. Byte strings are
 * base64 (RFC 4648, section 4, with padding) on the wire and `Uint8Array` here. The order of messages is described
 * in `handshake.ts`.
 */

import * as v from "valibot";
import { parseAddress, parseNetwork, parsePrefix } from "./address.ts";
import { decodeBase64 } from "./base64.ts";
import { parseDomainName } from "./domain_name.ts";
import { ENROL_TOKEN_BYTES } from "./enrol_uri.ts";
import { ProtocolError, UsageError } from "./errors.ts";
import {
  MAX_EPOCH,
  MAX_MTU_BYTES,
  MAX_PUSHED_DNS,
  MAX_PUSHED_DOMAINS,
  MAX_PUSHED_ROUTES,
  MIN_MTU_BYTES,
} from "./limits.ts";

/** Version of this message set; another one is refused. */
export const CONTROL_VERSION = 1;
/** X25519 public key (RFC 7748). */
export const X25519_BYTES = 32;
/** ML-KEM-768 encapsulation key and ciphertext (FIPS 203, table 3). */
export const MLKEM768_KEY_BYTES = 1184;
export const MLKEM768_CIPHERTEXT_BYTES = 1088;
/** Random bytes of a resume token. */
export const RESUME_TOKEN_BYTES = 32;

/** Why a connection is ended; the words on the wire. */
export const GOODBYE_CODES = [
  /** The client leaves for good: its session ends. */
  "bye",
  /** Credentials or policy: trying again cannot help. */
  "refused",
  /** The other side broke the protocol. */
  "protocol",
  /** The other side was too slow or silent. */
  "timeout",
  /** No inner address or no place is free. */
  "pool-exhausted",
  /** The server stops; coming back later may help. */
  "shutdown",
  /** Another connection has taken the session over. */
  "replaced",
  /** A bug or a system error on the sender's side. */
  "internal",
] as const;

/** One of {@link GOODBYE_CODES}. */
export type GoodbyeCode = (typeof GOODBYE_CODES)[number];

/** Longest reason in a `goodbye`, in UTF-16 units. */
export const MAX_REASON_LENGTH = 500;
/** Longest SCRAM message that is accepted, in characters. */
const MAX_SCRAM_LENGTH = 2048;
/** Longest signing request, certificate, and profile of an enrolment. */
const MAX_REQUEST_BYTES = 2048;
const MAX_CERTIFICATE_BYTES = 8192;
const MAX_PROFILE_LENGTH = 32_768;
/** Longest one-time code, in characters. */
const MAX_CODE_LENGTH = 16;
/** Longest time an endpoint may ask for, in milliseconds: one day. */
const MAX_TIMER_MS = 86_400_000;

const uint = (max: number) =>
  v.pipe(
    v.number(),
    v.integer(),
    v.minValue(0),
    v.maxValue(max),
    // JSON has a zero below zero, which would be another message when it is written again
    v.check((value) => !Object.is(value, -0), "expected 0"),
  );
/** Printable text: it ends in logs and on terminals, so control characters and the like are refused. */
const text = (max: number) =>
  v.pipe(v.string(), v.maxLength(max), v.regex(/^\P{C}*$/u, "expected printable text"));

/** Base64 text of exactly `length` bytes. */
const bytes = (length: number) =>
  v.pipe(
    v.string(),
    v.maxLength(Math.ceil(length / 3) * 4),
    v.rawTransform(({ dataset, addIssue, NEVER }): Uint8Array<ArrayBuffer> => {
      const decoded = decodeBase64(dataset.value);
      if (decoded?.length === length) return decoded;
      addIssue({ message: `expected base64 of ${length} bytes` });
      return NEVER;
    }),
  );

/** Base64 text of 1 to `most` bytes. */
const bytesUpTo = (most: number) =>
  v.pipe(
    v.string(),
    v.maxLength(Math.ceil(most / 3) * 4),
    v.rawTransform(({ dataset, addIssue, NEVER }): Uint8Array<ArrayBuffer> => {
      const decoded = decodeBase64(dataset.value);
      if (decoded !== null && decoded.length > 0 && decoded.length <= most) return decoded;
      addIssue({ message: `expected base64 of 1 to ${most} bytes` });
      return NEVER;
    }),
  );

/** Text that one of the strict readers of `address.ts` accepts. */
const readable = (read: (text: string) => unknown, expected: string, longest = 64) =>
  v.pipe(
    text(longest),
    v.check(
      (value) => canRead(read, value),
      ({ input }) => `Invalid value: Expected ${expected} but received "${input}"`,
    ),
  );

const scramText = v.pipe(text(MAX_SCRAM_LENGTH), v.minLength(1));
const epoch = uint(MAX_EPOCH);
const interfaceAddress = readable(parsePrefix, "an address with prefix length");
const features = v.strictObject({
  /** Records with virtio headers (super-packets) are accepted. */
  offload: v.boolean(),
});

const clientKeyShare = v.strictObject({
  epoch,
  x25519: bytes(X25519_BYTES),
  mlkem768: bytes(MLKEM768_KEY_BYTES),
});
const serverKeyShare = v.strictObject({
  epoch,
  x25519: bytes(X25519_BYTES),
  mlkem768: bytes(MLKEM768_CIPHERTEXT_BYTES),
});

const ping = v.strictObject({ type: v.literal("ping") });
const pong = v.strictObject({ type: v.literal("pong") });
const goodbye = v.strictObject({
  type: v.literal("goodbye"),
  code: v.picklist(GOODBYE_CODES),
  reason: text(MAX_REASON_LENGTH),
});

const hello = v.strictObject({
  type: v.literal("hello"),
  version: uint(MAX_EPOCH),
  /** Name and version of the client program, for the server's log. */
  client: text(64),
  features,
  /** Inner addresses the client would like to have again. */
  addresses: v.pipe(v.array(readable(parseAddress, "an address")), v.maxLength(4)),
  auth: v.union([
    v.strictObject({ scram: scramText }),
    v.strictObject({ resume: bytes(RESUME_TOKEN_BYTES) }),
    // the certificate that the client showed in TLS
    v.strictObject({ certificate: v.literal(true) }),
  ]),
  keyShare: clientKeyShare,
});
const enrol = v.strictObject({
  type: v.literal("enrol"),
  version: uint(MAX_EPOCH),
  /** The one-time token. */
  token: bytes(ENROL_TOKEN_BYTES),
  /** Certificate signing request (PKCS #10, DER). */
  request: bytesUpTo(MAX_REQUEST_BYTES),
});
const proof = v.strictObject({ type: v.literal("proof"), scram: scramText });
/** Answer to `totp-request`. */
const totp = v.strictObject({ type: v.literal("totp"), code: v.pipe(text(MAX_CODE_LENGTH), v.minLength(1)) });
const rekey = v.strictObject({ type: v.literal("rekey"), keyShare: clientKeyShare });

const challenge = v.strictObject({ type: v.literal("challenge"), scram: scramText });
const enrolled = v.strictObject({
  type: v.literal("enrolled"),
  /** A profile without certificate and key (`profile.ts`). */
  profile: text(MAX_PROFILE_LENGTH),
  /** The client's new certificate (DER). */
  certificate: bytesUpTo(MAX_CERTIFICATE_BYTES),
});
/** The password was right, and a one-time code is wanted too; the proof of the server comes before the code goes out. */
const totpRequest = v.strictObject({ type: v.literal("totp-request"), scram: scramText });
const resumeFailed = v.strictObject({ type: v.literal("resume-failed") });

const sessionConfig = v.strictObject({
  sessionId: v.pipe(uint(0xffff_ffff), v.minValue(1)),
  /** The client's inner addresses with the prefix length of the tunnel's network. */
  addresses: v.pipe(v.array(interfaceAddress), v.minLength(1), v.maxLength(4)),
  /** Inner MTU in bytes. */
  mtu: v.pipe(uint(MAX_MTU_BYTES), v.minValue(MIN_MTU_BYTES)),
  routes: v.pipe(v.array(readable(parseNetwork, "a network")), v.maxLength(MAX_PUSHED_ROUTES)),
  dns: v.pipe(v.array(readable(parseAddress, "an address")), v.maxLength(MAX_PUSHED_DNS)),
  /** Domains that complete short names, and whose names are for `dns`; absent is none. */
  searchDomains: v.optional(
    v.pipe(v.array(readable(parseDomainName, "a domain name", 253)), v.maxLength(MAX_PUSHED_DOMAINS)),
  ),
  timers: v.strictObject({
    keepaliveMs: uint(MAX_TIMER_MS),
    sessionTimeoutMs: uint(MAX_TIMER_MS),
    rekeyAfterMs: v.pipe(uint(MAX_TIMER_MS), v.minValue(50)),
  }),
  features,
});
const welcome = v.strictObject({
  type: v.literal("welcome"),
  /** server-final message; absent where the server's certificate proves it: after a resumption, or without password. */
  scram: v.optional(scramText),
  config: sessionConfig,
  resumeToken: bytes(RESUME_TOKEN_BYTES),
  keyShare: serverKeyShare,
});
const rekeyRequest = v.strictObject({ type: v.literal("rekey-request") });
const rekeyReply = v.strictObject({ type: v.literal("rekey-reply"), keyShare: serverKeyShare });

const clientMessage = v.variant("type", [hello, enrol, proof, totp, rekey, ping, pong, goodbye]);
const serverMessage = v.variant("type", [
  challenge,
  enrolled,
  totpRequest,
  resumeFailed,
  welcome,
  rekeyRequest,
  rekeyReply,
  ping,
  pong,
  goodbye,
]);

/** What a client offers for one epoch: an X25519 public key and an ML-KEM-768 encapsulation key. */
export type ClientKeyShare = v.InferOutput<typeof clientKeyShare>;
/** What a server answers: an X25519 public key and an ML-KEM-768 ciphertext. */
export type ServerKeyShare = v.InferOutput<typeof serverKeyShare>;
/** What a server tells a client about its session. */
export type SessionConfig = v.InferOutput<typeof sessionConfig>;
export type Hello = v.InferOutput<typeof hello>;
export type Enrol = v.InferOutput<typeof enrol>;
export type Welcome = v.InferOutput<typeof welcome>;
export type Goodbye = v.InferOutput<typeof goodbye>;
/** Any message a client sends. */
export type ClientMessage = v.InferOutput<typeof clientMessage>;
/** Any message a server sends. */
export type ServerMessage = v.InferOutput<typeof serverMessage>;

/** @throws {ProtocolError} when `body` is not exactly one message of a client */
export function decodeClientMessage(body: Uint8Array): ClientMessage {
  return decode(clientMessage, body);
}

/** @throws {ProtocolError} when `body` is not exactly one message of a server */
export function decodeServerMessage(body: Uint8Array): ServerMessage {
  return decode(serverMessage, body);
}

/** Writes a message as JSON in UTF-8; byte strings become base64. */
export function encodeMessage(message: ClientMessage | ServerMessage): Uint8Array {
  const json = JSON.stringify(message, (_key, value: unknown) =>
    value instanceof Uint8Array ? value.toBase64() : value,
  );
  return new TextEncoder().encode(json);
}

/** Makes a `goodbye`; a reason that is too long is cut, what cannot be printed becomes `?`. */
export function goodbyeMessage(code: GoodbyeCode, reason: string): Goodbye {
  return { type: "goodbye", code, reason: reason.slice(0, MAX_REASON_LENGTH).replaceAll(/\p{C}/gu, "?") };
}

function decode<Schema extends typeof clientMessage | typeof serverMessage>(
  schema: Schema,
  body: Uint8Array,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, parseJson(body), { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const where = v.getDotPath(issue) ?? "message";
  throw new ProtocolError(`Cannot read control message at "${where}": ${issue.message}`);
}

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body));
  } catch (error) {
    // TypeError: not UTF-8; SyntaxError: not JSON. The text itself may hold a secret and is not repeated.
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
    throw new ProtocolError("Cannot read control message: expected JSON in UTF-8");
  }
}

function canRead(read: (text: string) => unknown, value: string): boolean {
  try {
    read(value);
    return true;
  } catch (error) {
    if (error instanceof UsageError) return false;
    throw error;
  }
}
