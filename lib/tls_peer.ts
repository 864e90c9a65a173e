/** What a TLS peer showed of itself: its certificates as bytes, and whether they lead to a pinned one. */

import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";

/** id-kp-serverAuth of RFC 5280, section 4.2.1.12. */
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
/** Certificates kept of a peer; more are not looked at. */
const MAX_CERTIFICATES = 8;

/** What a peer showed. */
export interface PeerCertificates {
  /** DER, the peer's own first; empty when it showed none. */
  readonly chain: readonly Uint8Array<ArrayBuffer>[];
  /** Why the TLS library does not accept the chain; null when it does. */
  readonly objection: string | null;
}

/** The certificates of a peer whose TLS handshake is done. */
export function peerCertificates(socket: TLSSocket): PeerCertificates {
  const chain: Uint8Array<ArrayBuffer>[] = [];
  const seen = new Set<string>();
  // Bun gives no object at all where there is no certificate
  let certificate: DetailedCertificate | undefined = socket.getPeerCertificate(true);
  while (certificate?.raw !== undefined && chain.length < MAX_CERTIFICATES) {
    // the issuer of a self-signed certificate is itself
    if (seen.has(certificate.fingerprint256)) break;
    seen.add(certificate.fingerprint256);
    chain.push(Uint8Array.from(certificate.raw));
    certificate = certificate.issuerCertificate;
  }
  const objection = socket.authorized ? null : String(socket.authorizationError);
  return { chain, objection };
}

/** As node:tls types it, but that fields may be missing. */
interface DetailedCertificate {
  readonly raw?: Uint8Array;
  readonly fingerprint256: string;
  readonly issuerCertificate?: DetailedCertificate;
}

/**
 * Whether a chain begins with a pinned certificate (`own`), or leads to a pinned authority (`authority`): the first is
 * one for servers, every certificate on the way is signed by the next and in its time, and all but the first are
 * authorities. The name in an authority's certificate for the server is left to the caller.
 *
 * @param chain DER, the server's own first
 * @param pins SHA-256 fingerprints, upper-case hexadecimal bytes with colons
 * @param nowMs milliseconds since the Unix epoch
 */
export function pinnedBy(
  chain: readonly Uint8Array<ArrayBuffer>[],
  pins: readonly string[],
  nowMs: number,
): "own" | "authority" | null {
  const certificates = chain.map((der) => new X509Certificate(der));
  const [own] = certificates;
  if (own === undefined) return null;
  if (pins.includes(own.fingerprint256)) return "own";
  // a client's certificate of the same authority must not pass for the server's
  if (!own.keyUsage?.includes(SERVER_AUTH)) return null;
  let top = own;
  for (let depth = 1; depth < MAX_CERTIFICATES; depth++) {
    if (!isInTime(top, nowMs)) return null;
    const issuer = certificates.find((other) => other !== top && hasIssued(other, top));
    if (issuer === undefined) return null;
    if (pins.includes(issuer.fingerprint256)) return isInTime(issuer, nowMs) ? "authority" : null;
    top = issuer;
  }
  return null;
}

function hasIssued(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return issuer.ca && certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}

function isInTime({ validFrom, validTo }: X509Certificate, nowMs: number): boolean {
  return nowMs >= Date.parse(validFrom) && nowMs <= Date.parse(validTo);
}
