/** What a client shows of itself and how it recognises the server, read from files or from a profile. */

import { checkKeyPair } from "./certificate.ts";
import type { ClientConfig } from "./config_client.ts";
import { UsageError } from "./errors.ts";
import { isPem } from "./pem.ts";
import { readPlainFile, readPrivateFile } from "./private_file.ts";
import type { ServerTrust, TlsIdentity } from "./tls_control.ts";
import { certificateBlocks } from "./x509.ts";

/** What a client's TLS is started with. */
export interface ClientIdentity {
  readonly trust: ServerTrust | null;
  readonly identity: TlsIdentity | null;
  /** Milliseconds since the Unix epoch at which our own certificate ends; null without one. */
  readonly endsMs: number | null;
}

/**
 * Reads certificates and key.
 *
 * @throws {UsageError} when a file cannot be read or used, or others can read the key
 */
export function loadClientIdentity({ ca, pins, certificate }: ClientConfig): ClientIdentity {
  const caPem = ca === null ? null : readText(ca, "--ca");
  if (caPem !== null) certificateBlocks(caPem, nameOf(ca!, "--ca"));
  const trust = caPem === null && pins.length === 0 ? null : { caPem, pins };
  return { trust, ...(certificate === null ? { identity: null, endsMs: null } : readIdentity(certificate)) };
}

/** A certificate with less time than this is spoken of at each start. */
const SOON_MS = 30 * 86_400_000;

/** What to say of a certificate that ends soon; null when there is time. */
export function endsSoon(endsMs: number | null, nowMs: number): string | null {
  if (endsMs === null || endsMs - nowMs > SOON_MS) return null;
  const day = new Date(endsMs).toISOString().slice(0, 10);
  return `Our certificate ${endsMs > nowMs ? "ends" : "ended"} on ${day}: ask the operator for a new profile or one-time token`;
}

function readIdentity({ cert, key }: { readonly cert: string; readonly key: string }): {
  identity: TlsIdentity;
  endsMs: number;
} {
  const certPem = readText(cert, "--cert");
  certificateBlocks(certPem, nameOf(cert, "--cert"));
  const keyPem = isPem(key) ? key : readPrivateFile(key, "--key");
  const { validTo } = checkKeyPair({ certPem, keyPem });
  return { identity: { certPem, keyPem }, endsMs: Date.parse(validTo) };
}

/** A setting is the name of a file, or the PEM text itself. */
function readText(setting: string, flag: string): string {
  if (isPem(setting)) return setting;
  try {
    return readPlainFile(setting, flag).toString("utf8");
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${error.message}: expected a PEM file`);
  }
}

/** Names a setting in an error message. */
function nameOf(setting: string, flag: string): string {
  return isPem(setting) ? flag : `"${setting}"`;
}
