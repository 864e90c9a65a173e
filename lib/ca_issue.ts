/**
 * A small certificate authority (RFC 5280): makes its own certificate, those of servers and clients, and its
 * revocation list.
 *
 * All keys are ECDSA P-256. Ed25519 works in Bun's TLS 1.3 as well, on both sides, but other tools that may have to
 * read our files (phones, hardware tokens, old OpenSSL) know P-256 more often.
 */

import { isIP } from "node:net";
import type { CertificatePair } from "./certificate.ts";
import { type RevokedEntry, writeRevocationList } from "./certificate_revocation.ts";
import { UsageError } from "./errors.ts";
import { readPem, writePem } from "./pem.ts";
import { CLIENT_AUTH, loadX509, readCertificate, SERVER_AUTH, serialText, type X509Library } from "./x509.ts";

/** What a certificate is for. */
export type CertificateUse = "client" | "server";

/** What the authority's own certificate says. */
export interface AuthorityOptions {
  readonly name: string;
  /** Milliseconds since the Unix epoch. */
  readonly nowMs: number;
  readonly validDays: number;
}

/** What an issued certificate says. */
export interface IssueOptions extends AuthorityOptions {
  readonly use: CertificateUse;
  /** DNS names and IP addresses, for servers. */
  readonly hosts: readonly string[];
  readonly publicKey: CryptoKey;
}

/** A certificate that was issued. */
export interface IssuedCertificate {
  readonly certPem: string;
  /** As `serialText` writes it. */
  readonly serial: string;
}

/** A new key, and its private half as PKCS #8 in PEM. */
export interface NewKey {
  readonly publicKey: CryptoKey;
  readonly privateKey: CryptoKey;
  readonly keyPem: string;
}

const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;
const SIGNING_ALGORITHM = { ...KEY_ALGORITHM, hash: "SHA-256" } as const;
const DAY_MS = 86_400_000;
/** Clocks of client and server may differ by this. */
const BACKDATE_MS = DAY_MS;
const SERIAL_BYTES = 16;
/** CRL number (RFC 5280, section 5.2.3). */
const CRL_NUMBER = "2.5.29.20";

/** Makes a P-256 key. */
export async function makeKey(): Promise<NewKey> {
  const { publicKey, privateKey } = (await crypto.subtle.generateKey(KEY_ALGORITHM, true, [
    "sign",
    "verify",
  ])) as CryptoKeyPair;
  const der = new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey));
  return { publicKey, privateKey, keyPem: writePem({ label: "PRIVATE KEY", der }) };
}

/** Makes a certificate authority that may issue certificates for servers and clients, but no further authorities. */
export async function makeAuthority(options: AuthorityOptions): Promise<CertificatePair> {
  const x509 = await loadX509();
  const key = await makeKey();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: makeSerial(),
    name: [{ CN: [options.name] }],
    ...validity(options.nowMs, options.validDays, Number.POSITIVE_INFINITY),
    signingAlgorithm: SIGNING_ALGORITHM,
    keys: key,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(key.publicKey),
    ],
  });
  return { certPem: certificatePem(certificate), keyPem: key.keyPem };
}

/**
 * Issues a certificate; it ends with the authority at the latest.
 *
 * @throws {UsageError} when the authority's files do not fit together or cannot be read
 */
export async function issueCertificate(
  authority: CertificatePair,
  options: IssueOptions,
): Promise<IssuedCertificate> {
  const x509 = await loadX509();
  const issuer = readAuthority(x509, authority);
  const serialNumber = makeSerial();
  const hosts = options.hosts.map((value) => ({ type: isIP(value) === 0 ? "dns" : "ip", value }) as const);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber,
    subject: [{ CN: [options.name] }],
    issuer: issuer.subjectName.toJSON(),
    ...validity(options.nowMs, options.validDays, issuer.notAfter.getTime()),
    signingAlgorithm: SIGNING_ALGORITHM,
    publicKey: options.publicKey,
    signingKey: await importSigningKey(authority.keyPem),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([options.use === "server" ? SERVER_AUTH : CLIENT_AUTH]),
      ...(hosts.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(hosts)]),
      await x509.SubjectKeyIdentifierExtension.create(options.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(await issuer.publicKey.export()),
    ],
  });
  return { certPem: certificatePem(certificate), serial: serialText(serialNumber) };
}

/**
 * Makes the authority's revocation list. It is good for as long as the authority: it lies beside the server that
 * reads it, so nobody can hold a newer one back.
 *
 * @param nowMs milliseconds since the Unix epoch; also the list's number
 * @returns PEM text
 */
export async function makeRevocationList(
  authority: CertificatePair,
  entries: readonly RevokedEntry[],
  nowMs: number,
): Promise<string> {
  const x509 = await loadX509();
  const issuer = readAuthority(x509, authority);
  const crl = await x509.X509CrlGenerator.create({
    issuer: issuer.subjectName.toJSON(),
    thisUpdate: new Date(nowMs),
    nextUpdate: issuer.notAfter,
    signingAlgorithm: SIGNING_ALGORITHM,
    signingKey: await importSigningKey(authority.keyPem),
    entries: entries.map(({ serial, revokedMs }) => ({
      serialNumber: serial,
      revocationDate: new Date(revokedMs),
    })),
    extensions: [
      await x509.AuthorityKeyIdentifierExtension.create(await issuer.publicKey.export()),
      new x509.Extension(CRL_NUMBER, false, derInteger(nowMs)),
    ],
  });
  return writeRevocationList(new Uint8Array(crl.rawData));
}

/** Makes a certificate signing request (PKCS #10, RFC 2986). @returns DER */
export async function makeRequest(key: NewKey, name: string): Promise<Uint8Array<ArrayBuffer>> {
  const x509 = await loadX509();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [{ CN: [name] }],
    keys: key,
    signingAlgorithm: SIGNING_ALGORITHM,
  });
  return new Uint8Array(request.rawData);
}

/**
 * The public key of a signing request. Nothing else of it counts: the name comes from whoever allowed the request.
 *
 * @param der hostile bytes
 * @throws {UsageError} when it is damaged, its signature is wrong, or its key is not P-256
 */
export async function readRequest(der: Uint8Array<ArrayBuffer>): Promise<CryptoKey> {
  const x509 = await loadX509();
  try {
    const request = new x509.Pkcs10CertificateRequest(der);
    const { publicKey } = request;
    const isP256 = publicKey.algorithm.name === "ECDSA" && "namedCurve" in publicKey.algorithm;
    if (isP256 && publicKey.algorithm.namedCurve === "P-256" && (await request.verify()))
      return await publicKey.export();
  } catch (error) {
    // whatever the library throws: hostile bytes must not do more than this
    throw new UsageError("Cannot read the signing request: expected PKCS #10", { cause: error });
  }
  throw new UsageError("Cannot use the signing request: expected a P-256 key that has signed it");
}

/** The public key of an issued certificate, to issue it again. */
export async function publicKeyOf(certPem: string): Promise<CryptoKey> {
  const x509 = await loadX509();
  const [block] = readPem(certPem, "the certificate");
  return await new x509.X509Certificate(block!.der).publicKey.export();
}

function readAuthority(
  x509: X509Library,
  { certPem }: CertificatePair,
): InstanceType<X509Library["X509Certificate"]> {
  const [block] = readPem(certPem, "the certificate authority");
  const { isAuthority } = readCertificate(x509, block!.der, "the certificate authority");
  if (isAuthority) return new x509.X509Certificate(block!.der);
  throw new UsageError("Cannot issue with this certificate: it is no certificate authority");
}

async function importSigningKey(keyPem: string): Promise<CryptoKey> {
  const [block] = readPem(keyPem, "the certificate authority's key");
  try {
    return await crypto.subtle.importKey("pkcs8", block!.der, KEY_ALGORITHM, false, ["sign"]);
  } catch (error) {
    throw new UsageError("Cannot read the certificate authority's key: expected PKCS #8 with a P-256 key", {
      cause: error,
    });
  }
}

function validity(nowMs: number, days: number, lastMs: number): { notBefore: Date; notAfter: Date } {
  return {
    notBefore: new Date(nowMs - BACKDATE_MS),
    notAfter: new Date(Math.min(nowMs + days * DAY_MS, lastMs)),
  };
}

function certificatePem(certificate: { readonly rawData: ArrayBuffer }): string {
  return writePem({ label: "CERTIFICATE", der: new Uint8Array(certificate.rawData) });
}

/** Positive and random (RFC 5280, section 4.1.2.2), in hexadecimal. */
function makeSerial(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(SERIAL_BYTES));
  bytes[0] = (bytes[0]! & 0x7f) | 0x01;
  return bytes.toHex();
}

/** DER of a positive INTEGER (X.690, section 8.3). */
function derInteger(value: number): Uint8Array<ArrayBuffer> {
  const hex = value.toString(16);
  // a leading zero byte keeps it positive
  const bytes = Uint8Array.fromHex(`00${hex.length % 2 === 0 ? "" : "0"}${hex}`);
  const shortest = bytes[1]! >= 0x80 ? bytes : bytes.subarray(1);
  return Uint8Array.from([0x02, shortest.length, ...shortest]);
}
