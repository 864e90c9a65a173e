/** Certificate authorities and certificates for tests, good ones and every kind of bad one. */

import type { CertificatePair } from "../../lib/certificate.ts";
import {
  type CertificateUse,
  issueCertificate,
  makeAuthority,
  makeKey,
  makeRevocationList,
} from "../../lib/ca_issue.ts";
import { readPem } from "../../lib/pem.ts";
import { loadX509, serialText } from "../../lib/x509.ts";

export const DAY_MS = 86_400_000;

/** A certificate with its key. */
export interface TestCertificate extends CertificatePair {
  readonly serial: string;
  readonly der: Uint8Array<ArrayBuffer>;
}

export interface TestIssue {
  readonly use?: CertificateUse;
  readonly hosts?: readonly string[];
  readonly nowMs?: number;
  readonly validDays?: number;
}

/** One authority; everything is issued at `nowMs` unless a test says otherwise. */
export class TestAuthority {
  readonly pair: CertificatePair;
  readonly nowMs: number;

  private constructor(pair: CertificatePair, nowMs: number) {
    this.pair = pair;
    this.nowMs = nowMs;
  }

  static async make(name = "test authority", nowMs = Date.now()): Promise<TestAuthority> {
    return new TestAuthority(await makeAuthority({ name, nowMs, validDays: 3650 }), nowMs);
  }

  get certPem(): string {
    return this.pair.certPem;
  }

  async issue(name: string, options: TestIssue = {}): Promise<TestCertificate> {
    const { use = "client", hosts = [], nowMs = this.nowMs, validDays = 30 } = options;
    const key = await makeKey();
    const { publicKey, keyPem } = key;
    const issued = await issueCertificate(this.pair, { name, use, hosts, nowMs, validDays, publicKey });
    return { ...issued, keyPem, der: derOf(issued.certPem) };
  }

  /** A revocation list of these serials. */
  revocations(...serials: readonly string[]): Promise<string> {
    return makeRevocationList(
      this.pair,
      serials.map((serial) => ({ serial, revokedMs: this.nowMs })),
      this.nowMs,
    );
  }

  /** A certificate of any form: what the real authority would never issue. */
  async issueOdd(odd: OddCertificate): Promise<TestCertificate> {
    const x509 = await loadX509();
    const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
    const issuer = odd.issuer ?? this.pair;
    const issuerCertificate = new x509.X509Certificate(issuer.certPem);
    const pkcs8 = readPem(issuer.keyPem, "key")[0]!.der;
    const key = await makeKey();
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: odd.serial ?? "1234",
      subject: odd.subject,
      issuer: issuerCertificate.subjectName.toJSON(),
      notBefore: new Date(this.nowMs - DAY_MS),
      notAfter: new Date(this.nowMs + 30 * DAY_MS),
      signingAlgorithm: algorithm,
      publicKey: key.publicKey,
      signingKey: await crypto.subtle.importKey("pkcs8", pkcs8, algorithm, false, ["sign"]),
      extensions: [
        new x509.BasicConstraintsExtension(odd.isAuthority ?? false, odd.pathLength, true),
        ...(odd.purposes === undefined ? [] : [new x509.ExtendedKeyUsageExtension([...odd.purposes])]),
        ...(odd.names === undefined ? [] : [new x509.SubjectAlternativeNameExtension([...odd.names])]),
      ],
    });
    const certPem = `${certificate.toString("pem")}\n`;
    return {
      certPem,
      keyPem: key.keyPem,
      der: derOf(certPem),
      serial: serialText(certificate.serialNumber),
    };
  }
}

export interface OddCertificate {
  readonly subject: Record<string, string[]>[];
  readonly serial?: string;
  readonly purposes?: readonly string[];
  readonly names?: readonly { type: "dns" | "email"; value: string }[];
  readonly isAuthority?: boolean;
  readonly pathLength?: number;
  /** Who signs; the authority if not given. */
  readonly issuer?: CertificatePair;
}

/** The bytes of the first block of a PEM text. */
export function derOf(pem: string): Uint8Array<ArrayBuffer> {
  return readPem(pem, "test")[0]!.der;
}
