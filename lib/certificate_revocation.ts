/**
 * Certificate revocation lists (RFC 5280, section 5): reads them, checks who signed them, and finds revoked serials.
 *
 * Indirect and delta lists are refused: their entries would mean something else.
 */

import { UsageError } from "./errors.ts";
import { type PemBlock, readPem, writePem } from "./pem.ts";
import { serialText, type X509Library } from "./x509.ts";

/** The label that OpenSSL writes and RFC 7468, section 6, wants. */
export const CRL_LABEL = "X509 CRL";

/** One revoked certificate. */
export interface RevokedEntry {
  /** As `serialText` writes it. */
  readonly serial: string;
  /** Milliseconds since the Unix epoch. */
  readonly revokedMs: number;
}

/** A list whose signature was checked. */
export interface RevocationList {
  /** Issuer's name as the library writes it; equal to `CertificateFacts.issuer` of what it covers. */
  readonly issuer: string;
  readonly thisUpdateMs: number;
  /** The list must not be used from then on; null when it does not say. */
  readonly nextUpdateMs: number | null;
  /** By serial. */
  readonly revoked: ReadonlyMap<string, RevokedEntry>;
}

/**
 * Reads the lists of a PEM or DER file.
 *
 * @param issuers certificates (DER) one of which must have signed each list
 * @param what names the file in error messages
 * @throws {UsageError} when a list is damaged, of a kind that is not supported, or signed by nobody of `issuers`
 */
export async function readRevocationLists(
  x509: X509Library,
  content: Uint8Array<ArrayBuffer>,
  issuers: readonly Uint8Array<ArrayBuffer>[],
  what: string,
): Promise<readonly RevocationList[]> {
  return await Promise.all(blocksOf(content, what).map((block) => readList(x509, block, issuers, what)));
}

/**
 * Why a list cannot be relied on at this time; null when it can.
 *
 * @param nowMs milliseconds since the Unix epoch
 */
export function listProblem(list: RevocationList, nowMs: number): string | null {
  if (list.nextUpdateMs === null || nowMs <= list.nextUpdateMs) return null;
  return `the revocation list of "${list.issuer}" is out of date since ${new Date(list.nextUpdateMs).toISOString()}, expected a newer one`;
}

function blocksOf(content: Uint8Array<ArrayBuffer>, what: string): readonly PemBlock[] {
  const text = new TextDecoder().decode(content);
  // DER begins with the tag of a SEQUENCE
  if (content[0] === 0x30 && !text.includes("-----BEGIN")) return [{ label: CRL_LABEL, der: content }];
  const blocks = readPem(text, what);
  const other = blocks.find(({ label }) => label !== CRL_LABEL && label !== "CRL");
  if (other === undefined) return blocks;
  throw new UsageError(`Cannot read ${what}: it holds "${other.label}", expected revocation lists only`);
}

async function readList(
  x509: X509Library,
  { der }: PemBlock,
  issuers: readonly Uint8Array<ArrayBuffer>[],
  what: string,
): Promise<RevocationList> {
  try {
    const crl = new x509.X509Crl(der);
    const odd = crl.extensions.find(({ critical }) => critical);
    if (odd !== undefined)
      throw new UsageError(`Cannot use ${what}: its critical extension ${odd.type} is not supported`);
    const signer = await signerOf(x509, crl, issuers);
    if (signer === null) {
      throw new UsageError(
        `Cannot use ${what}: it is damaged, or was not signed by the certificate authority; its issuer is "${crl.issuer}"`,
      );
    }
    const entries = crl.entries.map(({ serialNumber, revocationDate }) => {
      const serial = serialText(serialNumber);
      return [serial, { serial, revokedMs: revocationDate.getTime() }] as const;
    });
    return {
      issuer: crl.issuer,
      thisUpdateMs: crl.thisUpdate.getTime(),
      nextUpdateMs: crl.nextUpdate?.getTime() ?? null,
      revoked: new Map(entries),
    };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`Cannot read ${what}: expected a certificate revocation list`, { cause: error });
  }
}

/** The certificate that signed the list; null when none of them did. */
async function signerOf(
  x509: X509Library,
  crl: InstanceType<X509Library["X509Crl"]>,
  issuers: readonly Uint8Array<ArrayBuffer>[],
): Promise<Uint8Array<ArrayBuffer> | null> {
  for (const der of issuers) {
    const issuer = new x509.X509Certificate(der);
    if (issuer.subject !== crl.issuer) continue;
    if (await crl.verify({ publicKey: issuer.publicKey }).catch(() => false)) return der;
  }
  return null;
}

/** A list as PEM text. */
export function writeRevocationList(der: Uint8Array<ArrayBuffer>): string {
  return writePem({ label: CRL_LABEL, der });
}
