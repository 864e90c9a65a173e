/** What makes a server the same one after a restart: certificate, secret and inner IPv6 network. */

import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import { addressFromBytes, makePrefix, parsePrefix } from "./address.ts";
import { errorCode } from "./caught.ts";
import { caPaths } from "./ca_store.ts";
import { type CertificatePair, checkCertificatePair, makeSelfSignedCertificate } from "./certificate.ts";
import { type ClientTrust, readClientTrust } from "./certificate_check.ts";
import type { ServerConfig } from "./config_server.ts";
import { UsageError } from "./errors.ts";
import { readPlainFile } from "./private_file.ts";
import type { ServerAuth } from "./server_certificates.ts";
import { keepOnce } from "./state_file.ts";

/** Ten years: nobody checks the dates of a self-signed certificate whose owner proves the password. */
const SELF_SIGNED_DAYS = 3650;
/** Bytes of the secret that fake and derived salts come from. */
const SECRET_BYTES = 32;

/**
 * Loads the operator's certificate, or makes a self-signed one on the first start.
 *
 * @param nowMs milliseconds since the Unix epoch
 * @throws {UsageError} when the operator's files cannot be used
 */
export async function loadCertificate(
  config: Pick<ServerConfig, "certificateFiles" | "stateDir" | "listen">,
  nowMs: number,
): Promise<CertificatePair> {
  const { certificateFiles: files, stateDir } = config;
  if (files !== null) {
    const pair = { certPem: readPemFile("--cert", files.cert), keyPem: readPemFile("--key", files.key) };
    checkCertificatePair(pair, nowMs);
    return pair;
  }
  const pem = await keepOnce(stateDir, "server.pem", async () => {
    const name = hostname();
    const hosts = [...new Set([config.listen.host, name].filter((host) => host !== ""))];
    const made = await makeSelfSignedCertificate({ name, hosts, nowMs, validDays: SELF_SIGNED_DAYS });
    return made.certPem + made.keyPem;
  });
  // Both in one file, so that they cannot come apart.
  const pair = { certPem: pemBlocks(pem, "CERTIFICATE"), keyPem: pemBlocks(pem, "PRIVATE KEY") };
  checkCertificatePair(pair, nowMs);
  return pair;
}

/**
 * Reads whose certificates clients may log in with.
 *
 * @param nowMs milliseconds since the Unix epoch
 * @throws {UsageError} when a file is missing, damaged or out of date
 */
export async function loadServerAuth(config: ServerConfig, nowMs: number): Promise<ServerAuth> {
  const { mode, knownUsersOnly } = config.auth;
  const modes = config.users.flatMap(({ name, auth }) => (auth === null ? [] : [[name, auth] as const]));
  return {
    mode,
    userModes: new Map(modes),
    trust: await loadClientTrust(config, nowMs),
    knownUsersOnly,
    knownUsers: new Set(config.users.map(({ name }) => name)),
  };
}

/** The files that {@link loadServerAuth} reads; empty when it reads none. */
export function authFiles({ auth, stateDir }: ServerConfig): readonly string[] {
  if (auth.ca === null) return [];
  if (auth.ca === "own") return [caPaths(stateDir).cert, caPaths(stateDir).crl];
  return auth.ca.crl === null ? [auth.ca.ca] : [auth.ca.ca, auth.ca.crl];
}

async function loadClientTrust(config: ServerConfig, nowMs: number): Promise<ClientTrust | null> {
  const [ca, crl] = authFiles(config);
  if (ca === undefined) return null;
  const list = crl === undefined ? null : { content: readPlainFile(crl, "--crl"), what: `"${crl}"` };
  const pem = readPlainFile(ca, "--ca").toString("utf8");
  return await readClientTrust({ ca: { pem, what: `"${ca}"` }, crl: list }, nowMs);
}

/** The secret of this server; made on the first start. */
export async function loadServerSecret(stateDir: string): Promise<Uint8Array> {
  const text = await keepOnce(stateDir, "server.secret", () => `${randomBytes(SECRET_BYTES).toHex()}\n`);
  if (new RegExp(`^[0-9a-f]{${2 * SECRET_BYTES}}$`).test(text.trim())) return Uint8Array.fromHex(text.trim());
  throw new UsageError(
    `Cannot use "${stateDir}/server.secret": expected ${SECRET_BYTES} bytes in hexadecimal`,
  );
}

/** The server's inner addresses with prefix length: IPv4, then IPv6 if there is one. */
export async function loadAddresses(config: ServerConfig): Promise<readonly string[]> {
  const { address4, address6, stateDir, tun } = config;
  if (address6 === null) return [address4.text];
  if (address6 !== "random") return [address4.text, address6.text];
  const kept = await keepOnce(stateDir, `server-${tun}.ipv6`, () => `${makeUniqueLocalAddress()}\n`);
  return [address4.text, parsePrefix(kept.trim()).text];
}

/**
 * The first address of a unique local /64 chosen at random (RFC 4193, section 3.2: fd00::/8, a 40-bit random global ID,
 * here with a random subnet ID too).
 */
function makeUniqueLocalAddress(): string {
  const bytes = new Uint8Array(16);
  bytes.set(randomBytes(8));
  bytes[0] = 0xfd;
  bytes[15] = 1;
  return makePrefix(addressFromBytes(bytes), 64).text;
}

function randomBytes(count: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(count));
}

function pemBlocks(pem: string, label: string): string {
  const block = new RegExp(`-----BEGIN ${label}-----[^-]+-----END ${label}-----\\n?`, "g");
  return (pem.match(block) ?? []).join("");
}

function readPemFile(flag: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(`${flag}: Cannot read "${path}" (${errorCode(error)}): expected a PEM file`);
  }
}
