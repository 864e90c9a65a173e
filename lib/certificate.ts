/**
 * X.509 certificates of servers: makes a self-signed one, and checks a pair that an operator brings (RFC 5280).
 *
 * The certificate library is loaded only when a certificate must be made: it takes about 100 ms.
 */

import { createPrivateKey, X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { UsageError } from "./errors.ts";

/** A certificate (or chain, leaf first) and its private key as PEM texts. */
export interface CertificatePair {
  readonly certPem: string;
  readonly keyPem: string;
}

/** What a self-signed certificate says. */
export interface SelfSignedOptions {
  /** Common name of the subject. */
  readonly name: string;
  /** DNS names and IP addresses by which clients reach the server. */
  readonly hosts: readonly string[];
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number;
  readonly validDays: number;
}

const DAY_MS = 86_400_000;
/** Clocks of client and server may differ by this. */
const BACKDATE_MS = DAY_MS;
const SERIAL_BYTES = 16;

/** Makes an ECDSA P-256 key and a certificate for TLS servers that it signs itself. */
export async function makeSelfSignedCertificate(options: SelfSignedOptions): Promise<CertificatePair> {
  // the library's dependency injection needs the metadata API before it is evaluated
  await import("reflect-metadata");
  const x509 = await import("@peculiar/x509");
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const keys = (await crypto.subtle.generateKey(algorithm, true, [
    "sign",
    "verify",
  ])) as unknown as CryptoKeyPair;
  const hosts = options.hosts.map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value }) as const);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: makeSerial(),
    name: [{ CN: [options.name] }],
    notBefore: new Date(options.nowMs - BACKDATE_MS),
    notAfter: new Date(options.nowMs + options.validDays * DAY_MS),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      ...(hosts.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(hosts)]),
    ],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certPem: `${certificate.toString("pem")}\n`,
    keyPem: `${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`,
  };
}

/**
 * Checks that a pair can serve TLS now.
 *
 * @param nowMs milliseconds since the Unix epoch
 * @throws {UsageError} when a part cannot be read, both do not belong together, or the time is outside of its validity
 */
export function checkCertificatePair(pair: CertificatePair, nowMs: number): void {
  const certificate = checkKeyPair(pair);
  if (nowMs < Date.parse(certificate.validFrom) || nowMs > Date.parse(certificate.validTo)) {
    throw new UsageError(
      `Cannot use the certificate of "${certificate.subject}" now: expected a time from ${certificate.validFrom} to ${certificate.validTo}`,
    );
  }
}

/**
 * Checks that certificate and key belong together; the time is left to whoever judges the certificate.
 *
 * @throws {UsageError} when a part cannot be read, or both do not belong together
 */
export function checkKeyPair(pair: CertificatePair): X509Certificate {
  const certificate = readPem("certificate", () => new X509Certificate(pair.certPem));
  const key = readPem("private key", () => createPrivateKey(pair.keyPem));
  if (certificate.checkPrivateKey(key)) return certificate;
  throw new UsageError(
    `Cannot use the certificate of "${certificate.subject}": the private key is another's`,
  );
}

/**
 * SHA-256 of the leaf certificate, as people compare it: upper-case hexadecimal bytes with colons.
 *
 * @throws {UsageError} when `certPem` is not a certificate
 */
export function certificateFingerprint(certPem: string): string {
  return readPem("certificate", () => new X509Certificate(certPem)).fingerprint256;
}

/** Positive and random (RFC 5280, section 4.1.2.2), in hexadecimal. */
function makeSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SERIAL_BYTES));
  bytes[0] = (bytes[0]! & 0x7f) | 0x01;
  return bytes.toHex();
}

function readPem<Value>(what: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    // OpenSSL's words ("no start line") help nobody: they stay in the cause
    throw new UsageError(`Cannot read the ${what}: expected PEM text`, { cause: error });
  }
}
