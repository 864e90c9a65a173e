/**
 * Reads X.509 certificates and revocation lists (RFC 5280) with @peculiar/x509.
 *
 * The library is loaded only when it is needed: that takes about 100 ms.
 */

import type * as x509Library from "@peculiar/x509";
import { X509Certificate as OpenSslCertificate } from "node:crypto";
import type { CertificateNames } from "./certificate_name.ts";
import { UsageError } from "./errors.ts";
import { type PemBlock, readPem } from "./pem.ts";

/** The certificate library. */
export type X509Library = typeof x509Library;

/** id-kp-serverAuth and id-kp-clientAuth of RFC 5280, section 4.2.1.12. */
export const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
export const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** What is used of a certificate. */
export interface CertificateFacts extends CertificateNames {
  readonly der: Uint8Array<ArrayBuffer>;
  /** As {@link serialText} writes it. */
  readonly serial: string;
  /** SHA-256, upper-case hexadecimal bytes with colons. */
  readonly fingerprint: string;
  /** Names as RFC 4514 writes them, for people. */
  readonly subject: string;
  readonly issuer: string;
  readonly ipAddresses: readonly string[];
  /** Milliseconds since the Unix epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Object identifiers of the extended key usage; empty when the certificate has none. */
  readonly purposes: readonly string[];
  /** Basic constraints say that it may issue others. */
  readonly isAuthority: boolean;
  /** Most authorities below it; null is no limit. */
  readonly pathLength: number | null;
  /** The key usage lets it sign certificates, or the extension is missing. */
  readonly maySignCertificates: boolean;
}

/** Loads the library; its dependency injection needs the metadata API before it is evaluated. */
export async function loadX509(): Promise<X509Library> {
  await import("reflect-metadata");
  return await import("@peculiar/x509");
}

/**
 * Reads one certificate.
 *
 * @param what names it in the error message
 * @throws {UsageError} when it is no certificate
 */
export function readCertificate(
  x509: X509Library,
  der: Uint8Array<ArrayBuffer>,
  what: string,
): CertificateFacts {
  try {
    return factsOf(x509, der);
  } catch (error) {
    // whatever the two libraries throw: hostile bytes must not do more than this
    throw new UsageError(`Cannot read ${what}: expected an X.509 certificate`, { cause: error });
  }
}

/** All certificates of a PEM text. @throws {UsageError} when there is none, or another thing among them */
export function certificateBlocks(pem: string, what: string): readonly PemBlock[] {
  const blocks = readPem(pem, what);
  const other = blocks.find(({ label }) => label !== "CERTIFICATE");
  if (other === undefined) return blocks;
  throw new UsageError(`Cannot read ${what}: it holds "${other.label}", expected certificates only`);
}

/** A serial number in lower-case hexadecimal without leading zeros, the one form in which they are compared. */
export function serialText(hex: string): string {
  return hex.toLowerCase().replace(/^0+(?=.)/, "");
}

function factsOf(x509: X509Library, der: Uint8Array<ArrayBuffer>): CertificateFacts {
  const certificate = new x509.X509Certificate(der);
  const names = certificate.getExtension(x509.SubjectAlternativeNameExtension)?.names.items ?? [];
  const alternatives = (type: string): string[] =>
    names.filter((name) => name.type === type).map((name) => name.value);
  const constraints = certificate.getExtension(x509.BasicConstraintsExtension);
  const keyUsage = certificate.getExtension(x509.KeyUsagesExtension);
  return {
    der,
    serial: serialText(certificate.serialNumber),
    fingerprint: new OpenSslCertificate(der).fingerprint256,
    subject: certificate.subject,
    issuer: certificate.issuer,
    commonNames: certificate.subjectName.getField("CN"),
    emails: alternatives("email"),
    dnsNames: alternatives("dns"),
    ipAddresses: alternatives("ip"),
    notBeforeMs: certificate.notBefore.getTime(),
    notAfterMs: certificate.notAfter.getTime(),
    purposes: (certificate.getExtension(x509.ExtendedKeyUsageExtension)?.usages ?? []).map(String),
    isAuthority: constraints?.ca ?? false,
    pathLength: constraints?.pathLength ?? null,
    maySignCertificates: keyUsage === null || (keyUsage.usages & x509.KeyUsageFlags.keyCertSign) !== 0,
  };
}
