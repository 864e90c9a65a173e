/**
 * Judges the certificate that a client shows in TLS: chain, time, purpose, revocation, and the user it names
 * (RFC 5280, section 6, as far as a VPN needs it).
 *
 * It is a second opinion beside the TLS library's, which also checks name constraints and the strength of signatures:
 * both must agree. A signature is checked before anything else of a certificate is believed.
 */

import { X509Certificate } from "node:crypto";
import { userOf } from "./certificate_name.ts";
import { listProblem, readRevocationLists, type RevocationList } from "./certificate_revocation.ts";
import { UsageError } from "./errors.ts";
import {
  certificateBlocks,
  type CertificateFacts,
  CLIENT_AUTH,
  loadX509,
  readCertificate,
  type X509Library,
} from "./x509.ts";

/** Whom a server believes. Made by {@link readClientTrust}. */
export interface ClientTrust {
  readonly authorities: readonly Authority[];
  /** Null when revocation is not checked. */
  readonly revocations: readonly RevocationList[] | null;
  /** The authorities as PEM text, for the TLS library. */
  readonly caPem: string;
}

/** A certificate that may have issued another. */
interface Authority {
  readonly facts: CertificateFacts;
  readonly certificate: X509Certificate;
}

/** What a server keeps of an accepted certificate. */
export interface ClientCertificate {
  readonly user: string;
  /** As `serialText` writes it. */
  readonly serial: string;
  readonly fingerprint: string;
  readonly issuer: string;
  /** Milliseconds since the Unix epoch. */
  readonly notAfterMs: number;
}

/** A certificate that is accepted, or the reason why not, for the client to read. */
export type CertificateVerdict = { readonly certificate: ClientCertificate } | { readonly problem: string };

/** Texts of the files that a {@link ClientTrust} is made of, with the names for error messages. */
export interface TrustSources {
  readonly ca: { readonly pem: string; readonly what: string };
  /** PEM or DER. */
  readonly crl: { readonly content: Uint8Array<ArrayBuffer>; readonly what: string } | null;
}

/** Longest way from a client's certificate to an authority that is trusted. */
const MAX_CHAIN = 5;

/**
 * Reads the certificate authorities and revocation lists.
 *
 * @param nowMs milliseconds since the Unix epoch
 * @throws {UsageError} when one is damaged, is no authority, has expired, or a list is out of date
 */
export async function readClientTrust({ ca, crl }: TrustSources, nowMs: number): Promise<ClientTrust> {
  const x509 = await loadX509();
  const authorities = certificateBlocks(ca.pem, ca.what).map(({ der }) => authorityOf(x509, der, ca.what));
  for (const { facts } of authorities) {
    if (!facts.isAuthority || !facts.maySignCertificates)
      throw new UsageError(`Cannot use ${ca.what}: "${facts.subject}" is no certificate authority`);
    const problem = timeProblem(facts, nowMs);
    if (problem !== null) throw new UsageError(`Cannot use ${ca.what}: the certificate authority ${problem}`);
  }
  const issuers = authorities.map(({ facts }) => facts.der);
  const revocations = crl === null ? null : await readRevocationLists(x509, crl.content, issuers, crl.what);
  const stale = revocations?.map((list) => listProblem(list, nowMs)).find((problem) => problem !== null);
  if (stale !== undefined) throw new UsageError(`Cannot use ${crl?.what ?? ""}: ${stale}`);
  return { authorities, revocations, caPem: ca.pem };
}

/**
 * Judges a client's certificate.
 *
 * @param chain DER, the client's own first, then what it sent with it in any order
 * @param nowMs milliseconds since the Unix epoch
 */
export async function judgeClientCertificate(
  chain: readonly Uint8Array<ArrayBuffer>[],
  trust: ClientTrust,
  nowMs: number,
): Promise<CertificateVerdict> {
  const x509 = await loadX509();
  try {
    const way = findWay(x509, chain.slice(0, MAX_CHAIN + 1), trust);
    if (way === null) return { problem: "the certificate was issued by another certificate authority" };
    const problem = wayProblem(way, nowMs) ?? leafProblem(way[0]!, trust, way, nowMs);
    if (problem !== null) return { problem };
    const { serial, fingerprint, issuer, notAfterMs } = way[0]!;
    return { certificate: { user: userOf(way[0]!), serial, fingerprint, issuer, notAfterMs } };
  } catch (error) {
    if (error instanceof UsageError) return { problem: error.message };
    throw error;
  }
}

/**
 * Why a session that was opened with `certificate` must end now; null when it may go on.
 *
 * @param nowMs milliseconds since the Unix epoch
 */
export function certificateObjection(
  certificate: ClientCertificate,
  trust: ClientTrust,
  nowMs: number,
): string | null {
  const { issuer, serial, notAfterMs } = certificate;
  const revoked = trust.revocations?.find((list) => list.issuer === issuer && list.revoked.has(serial));
  if (revoked !== undefined) return "the certificate was revoked";
  return nowMs > notAfterMs ? `the certificate expired at ${formatTime(notAfterMs)}` : null;
}

function authorityOf(x509: X509Library, der: Uint8Array<ArrayBuffer>, what: string): Authority {
  const facts = readCertificate(x509, der, what);
  return { facts, certificate: new X509Certificate(der) };
}

/** The certificates from the client's own to a trusted authority, each signed by the next; null when there is no way. */
function findWay(
  x509: X509Library,
  chain: readonly Uint8Array<ArrayBuffer>[],
  trust: ClientTrust,
): readonly CertificateFacts[] | null {
  const [own, ...others] = chain.map((der) => readOpenSsl(der));
  if (own === undefined) return null;
  const way: X509Certificate[] = [own];
  for (let top = own; way.length <= MAX_CHAIN;) {
    const anchor = trust.authorities.find(({ certificate }) => hasIssued(certificate, top));
    if (anchor !== undefined) {
      // only now is anything but the signatures read: every one of them leads to a trusted authority
      const below = way.map((certificate) => readCertificate(x509, derOf(certificate), "the certificate"));
      return [...below, anchor.facts];
    }
    const next = others.find((other) => !way.includes(other) && hasIssued(other, top));
    if (next === undefined) return null;
    way.push(next);
    top = next;
  }
  return null;
}

function hasIssued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  try {
    return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  } catch {
    return false; // a key of a kind that cannot be used
  }
}

/** What is wrong with any certificate of the way, the trusted authority included. */
function wayProblem(way: readonly CertificateFacts[], nowMs: number): string | null {
  for (const [place, facts] of way.entries()) {
    const which = place === 0 ? "the certificate" : `the certificate authority "${facts.subject}"`;
    const problem = timeProblem(facts, nowMs);
    if (problem !== null) return `${which} ${problem}`;
    if (place === 0) continue;
    if (!facts.isAuthority || !facts.maySignCertificates) return `${which} may not issue certificates`;
    if (facts.pathLength !== null && place - 1 > facts.pathLength)
      return `${which} may not stand so high above the certificate`;
  }
  return null;
}

function leafProblem(
  leaf: CertificateFacts,
  trust: ClientTrust,
  way: readonly CertificateFacts[],
  nowMs: number,
): string | null {
  if (leaf.isAuthority) return "the certificate is one of a certificate authority, expected one for a client";
  if (!leaf.purposes.includes(CLIENT_AUTH))
    return "the certificate is for another purpose, expected one for TLS clients (clientAuth)";
  if (trust.revocations === null) return null;
  for (const facts of way.slice(0, -1)) {
    const list = trust.revocations.find(({ issuer }) => issuer === facts.issuer);
    // an intermediate authority may have no list of its own; who issued the client's certificate must
    if (list === undefined && facts === leaf)
      return "the server has no revocation list of the certificate's issuer";
    if (list === undefined) continue;
    if (list.revoked.has(facts.serial)) return "the certificate was revoked";
    const problem = listProblem(list, nowMs);
    if (problem !== null) return problem;
  }
  return null;
}

function timeProblem({ notBeforeMs, notAfterMs }: CertificateFacts, nowMs: number): string | null {
  if (nowMs > notAfterMs) return `expired at ${formatTime(notAfterMs)}`;
  if (nowMs < notBeforeMs) return `is not valid before ${formatTime(notBeforeMs)}`;
  return null;
}

function formatTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString().replace(/\.000Z$/, "Z");
}

function readOpenSsl(der: Uint8Array<ArrayBuffer>): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (error) {
    throw new UsageError("the certificate cannot be read", { cause: error });
  }
}

function derOf(certificate: X509Certificate): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(certificate.raw);
}
