/**
 * Data keys of one epoch: a hybrid of ML-KEM-768 and X25519, mixed with the TLS connection by HKDF-SHA-256.
 *
 *   client share = ML-KEM-768 encapsulation key (1184) | X25519 public key (32)
 *   server share = ML-KEM-768 ciphertext (1088)        | X25519 public key (32)
 *   secret       = ML-KEM-768 shared secret (32)       | X25519 shared secret (32)
 *   salt         = TLS exporter, 32 bytes, label "EXPORTER-omail-data-keys",
 *                  context = session ID (u32 big-endian) | epoch (u16 big-endian)
 *   each output  = HKDF-SHA-256(salt, secret, info = its label | SHA-256(client share | server share))
 *
 * Shares and secrets are concatenated in the order of X25519MLKEM768 (draft-ietf-tls-ecdhe-mlkem). HKDF is RFC 5869,
 * ML-KEM is FIPS 203, X25519 is RFC 7748, the exporter is RFC 8446, section 7.5. The four outputs are a 32-byte
 * AES-256-GCM key and a 4-byte nonce salt for each direction.
 */

import { concatBytes, writeUint16, writeUint32 } from "./bytes.ts";
import type { ClientKeyShare, ServerKeyShare } from "./control_message.ts";
import type { EpochKeys } from "./data_plane_message.ts";
import { ProtocolError } from "./errors.ts";
import { sha256 } from "./hash.ts";
import { KEY_BYTES, NONCE_SALT_BYTES } from "./limits.ts";

/** TLS exporter label of the HKDF salt. */
export const DATA_KEYS_EXPORTER_LABEL = "EXPORTER-omail-data-keys";
/** Bytes of the HKDF salt. */
export const EXPORTER_BYTES = 32;

/** HKDF `info` labels in ASCII, each followed by the hash of both shares. */
export const KEY_LABELS = {
  clientKey: "omail/1 client-to-server key",
  clientSalt: "omail/1 client-to-server salt",
  serverKey: "omail/1 server-to-client key",
  serverSalt: "omail/1 server-to-client salt",
} as const;

/** The four outputs as bytes; `client` is the direction from client to server. */
export interface EpochSecrets {
  readonly clientKey: Uint8Array<ArrayBuffer>;
  readonly clientSalt: Uint8Array<ArrayBuffer>;
  readonly serverKey: Uint8Array<ArrayBuffer>;
  readonly serverSalt: Uint8Array<ArrayBuffer>;
}

/** What a client keeps while it waits for the server's share. */
export interface ClientExchange {
  readonly share: ClientKeyShare;
  readonly x25519: CryptoKey;
  readonly mlkem768: CryptoKey;
}

/** Both shares of one finished exchange and the secret they made. */
export interface KeyExchange {
  readonly client: ClientKeyShare;
  readonly server: ServerKeyShare;
  /** 64 bytes; {@link deriveEpochKeys} wipes them. */
  readonly secret: Uint8Array<ArrayBuffer>;
}

/** Which end of the session the keys are for. */
export type Role = "client" | "server";

/** Makes fresh key pairs for an epoch. */
export async function startExchange(epoch: number): Promise<ClientExchange> {
  const [x25519, mlkem768] = await Promise.all([makeX25519(), makeMlkem768()]);
  const share = { epoch, x25519: x25519.public, mlkem768: mlkem768.public };
  return { share, x25519: x25519.private, mlkem768: mlkem768.private };
}

/**
 * The server's half: makes its share and the secret.
 *
 * @throws {ProtocolError} when the client's share is not a pair of valid public keys
 */
export async function answerExchange(client: ClientKeyShare): Promise<KeyExchange> {
  const x25519 = await makeX25519();
  const [classic, quantumSafe] = await Promise.all([
    agreeX25519(x25519.private, client.x25519),
    encapsulate(client.mlkem768),
  ]);
  const server = { epoch: client.epoch, x25519: x25519.public, mlkem768: quantumSafe.ciphertext };
  return { client, server, secret: joinAndWipe(quantumSafe.secret, classic) };
}

/**
 * The client's other half.
 *
 * @throws {ProtocolError} when the server's share is for another epoch or not valid
 */
export async function finishExchange(exchange: ClientExchange, server: ServerKeyShare): Promise<KeyExchange> {
  const client = exchange.share;
  if (server.epoch !== client.epoch) {
    throw new ProtocolError(`Cannot use a key share for epoch "${server.epoch}": expected ${client.epoch}`);
  }
  const [classic, quantumSafe] = await Promise.all([
    agreeX25519(exchange.x25519, server.x25519),
    decapsulate(exchange.mlkem768, server.mlkem768),
  ]);
  return { client, server, secret: joinAndWipe(quantumSafe, classic) };
}

/** Context of the TLS exporter: session ID and epoch, so that no two epochs share a salt. */
export function exporterContext(sessionId: number, epoch: number): Uint8Array<ArrayBuffer> {
  const context = new Uint8Array(6);
  writeUint32(context, 0, sessionId);
  writeUint16(context, 4, epoch);
  return context;
}

/**
 * Derives the four outputs as bytes.
 *
 * @param salt {@link EXPORTER_BYTES} bytes of the TLS exporter
 */
export async function deriveEpochSecrets(
  exchange: KeyExchange,
  salt: Uint8Array<ArrayBuffer>,
): Promise<EpochSecrets> {
  const { client, server } = exchange;
  const transcript = await sha256(
    concatBytes(client.mlkem768, client.x25519, server.mlkem768, server.x25519),
  );
  const key = await crypto.subtle.importKey("raw", exchange.secret, "HKDF", false, ["deriveBits"]);
  const expand = async (label: string, length: number): Promise<Uint8Array<ArrayBuffer>> => {
    const info = concatBytes(new TextEncoder().encode(label), transcript);
    const parameters = { name: "HKDF", hash: "SHA-256", salt, info };
    return new Uint8Array(await crypto.subtle.deriveBits(parameters, key, length * 8));
  };
  const [clientKey, clientSalt, serverKey, serverSalt] = await Promise.all([
    expand(KEY_LABELS.clientKey, KEY_BYTES),
    expand(KEY_LABELS.clientSalt, NONCE_SALT_BYTES),
    expand(KEY_LABELS.serverKey, KEY_BYTES),
    expand(KEY_LABELS.serverSalt, NONCE_SALT_BYTES),
  ]);
  return { clientKey, clientSalt, serverKey, serverSalt };
}

/**
 * Derives the keys of an epoch as one end uses them. The exchange's secret and the raw keys are wiped.
 */
export async function deriveEpochKeys(
  role: Role,
  exchange: KeyExchange,
  salt: Uint8Array<ArrayBuffer>,
): Promise<EpochKeys> {
  const secrets = await deriveEpochSecrets(exchange, salt);
  const [clientKey, serverKey] = await Promise.all([
    importAesKey(secrets.clientKey),
    importAesKey(secrets.serverKey),
  ]);
  wipe(exchange.secret);
  wipe(secrets.clientKey);
  wipe(secrets.serverKey);
  const client = { key: clientKey, salt: secrets.clientSalt };
  const server = { key: serverKey, salt: secrets.serverSalt };
  const [send, receive] = role === "client" ? [client, server] : [server, client];
  return {
    epoch: exchange.client.epoch,
    sendKey: send.key,
    sendSalt: send.salt,
    receiveKey: receive.key,
    receiveSalt: receive.salt,
  };
}

/** Overwrites key material. The engine may hold copies; this is best effort, as in every collected language. */
export function wipe(bytes: Uint8Array): void {
  bytes.fill(0);
}

interface KeyPair {
  readonly private: CryptoKey;
  readonly public: Uint8Array<ArrayBuffer>;
}

async function makeX25519(): Promise<KeyPair> {
  // the declared type covers algorithms of a single key, too
  const pair = (await crypto.subtle.generateKey({ name: "X25519" }, false, [
    "deriveBits",
  ])) as unknown as CryptoKeyPair;
  return {
    private: pair.privateKey,
    public: new Uint8Array(await crypto.subtle.exportKey("raw", pair.publicKey)),
  };
}

/** X25519 with the check of RFC 7748, section 6.1: an all-zero result (a point of small order) is refused. */
async function agreeX25519(own: CryptoKey, peer: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const peerKey = await crypto.subtle.importKey("raw", peer, { name: "X25519" }, false, []);
  const secret = await orProtocolError("X25519 public key", () =>
    crypto.subtle.deriveBits({ name: "X25519", public: peerKey }, own, 256),
  );
  const bytes = new Uint8Array(secret);
  if (bytes.every((byte) => byte === 0)) throw invalidShare("X25519 public key");
  return bytes;
}

/** ML-KEM of Web Crypto ("Modern Algorithms in the Web Cryptography API"), which TypeScript's library lacks. */
interface MlkemCrypto {
  generateKey(algorithm: Mlkem, extractable: boolean, usages: readonly string[]): Promise<CryptoKeyPair>;
  exportKey(format: "raw-public", key: CryptoKey): Promise<ArrayBuffer>;
  importKey(
    format: "raw-public",
    key: Uint8Array,
    algorithm: Mlkem,
    extractable: boolean,
    usages: readonly string[],
  ): Promise<CryptoKey>;
  encapsulateBits(
    algorithm: Mlkem,
    key: CryptoKey,
  ): Promise<{ sharedKey: ArrayBuffer; ciphertext: ArrayBuffer }>;
  decapsulateBits(algorithm: Mlkem, key: CryptoKey, ciphertext: Uint8Array): Promise<ArrayBuffer>;
}
interface Mlkem {
  readonly name: "ML-KEM-768";
}
const MLKEM: Mlkem = { name: "ML-KEM-768" };
const mlkem = crypto.subtle as unknown as MlkemCrypto;

async function makeMlkem768(): Promise<KeyPair> {
  const pair = await mlkem.generateKey(MLKEM, false, ["decapsulateBits"]);
  return {
    private: pair.privateKey,
    public: new Uint8Array(await mlkem.exportKey("raw-public", pair.publicKey)),
  };
}

/** The import makes the checks of FIPS 203, section 7.2. */
async function encapsulate(peer: Uint8Array) {
  const name = "ML-KEM-768 encapsulation key";
  const key = await orProtocolError(name, () =>
    mlkem.importKey("raw-public", peer, MLKEM, false, ["encapsulateBits"]),
  );
  const { sharedKey, ciphertext } = await mlkem.encapsulateBits(MLKEM, key);
  return { secret: new Uint8Array(sharedKey), ciphertext: new Uint8Array(ciphertext) };
}

/** A wrong ciphertext of the right length yields another secret, not an error (FIPS 203, implicit rejection). */
async function decapsulate(own: CryptoKey, ciphertext: Uint8Array): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await mlkem.decapsulateBits(MLKEM, own, ciphertext));
}

/**
 * It may seal and open, so that one import serves both ends in a process that holds both. Extractable, because node:crypto
 * takes no other (`engine_sync.ts`); it never leaves this process all the same.
 */
function importAesKey(raw: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", raw, "AES-GCM", true, ["encrypt", "decrypt"]);
}

function joinAndWipe(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = concatBytes(first, second);
  wipe(first);
  wipe(second);
  return joined;
}

/** Web Crypto reports a bad public key as DOMException; to us it is the peer's fault. */
async function orProtocolError<Result>(what: string, run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof DOMException) throw invalidShare(what);
    throw error;
  }
}

function invalidShare(what: string): ProtocolError {
  return new ProtocolError(`Cannot use the peer's "${what}": expected a valid one`);
}
