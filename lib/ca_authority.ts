/** The built-in certificate authority at work: what `omail-server cert` and enrolment do with its files. */

import {
  issueCertificate,
  type CertificateUse,
  makeAuthority,
  makeKey,
  makeRevocationList,
  publicKeyOf,
} from "./ca_issue.ts";
import {
  type CaPair,
  caPaths,
  hasAuthority,
  readAuthorityFiles,
  readCrl,
  readIssued,
  withAuthorityLock,
  writeAuthorityFiles,
  writeCrl,
  writeIssued,
} from "./ca_store.ts";
import { nameProblem } from "./certificate_name.ts";
import { readRevocationLists, type RevokedEntry } from "./certificate_revocation.ts";
import { UsageError } from "./errors.ts";
import { readPem } from "./pem.ts";
import { type CertificateFacts, loadX509, readCertificate, SERVER_AUTH, serialText } from "./x509.ts";

/** One issued certificate as `cert list` shows it. */
export interface IssuedEntry {
  readonly serial: string;
  readonly name: string;
  readonly use: CertificateUse;
  readonly hosts: readonly string[];
  readonly state: "valid" | "expired" | "revoked" | "not yet valid";
  /** Milliseconds since the Unix epoch. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly revokedMs: number | null;
  readonly fingerprint: string;
  readonly certPem: string;
}

/** What to issue. */
export interface IssueRequest {
  readonly name: string;
  readonly use: CertificateUse;
  readonly hosts: readonly string[];
  readonly validDays: number;
  /** Of a key that its owner keeps; a new one is made where it is missing. */
  readonly publicKey?: CryptoKey;
}

/** What was issued; the key is null when its owner has it. */
export interface Issued {
  readonly serial: string;
  readonly certPem: string;
  readonly keyPem: string | null;
}

/**
 * Makes the authority of a state directory.
 *
 * @param nowMs milliseconds since the Unix epoch
 * @throws {UsageError} when there is one already, or the name cannot be used
 */
export async function initAuthority(
  stateDir: string,
  options: { readonly name: string; readonly validDays: number },
  nowMs: number,
): Promise<CaPair> {
  checkName(options.name);
  return await withAuthorityLock(stateDir, async () => {
    if (hasAuthority(stateDir)) {
      throw new UsageError(
        `Cannot make a certificate authority in "${stateDir}": there is one already, expected none`,
      );
    }
    const pair = await makeAuthority({ ...options, nowMs });
    writeAuthorityFiles(stateDir, pair, await makeRevocationList(pair, [], nowMs));
    return pair;
  });
}

/** Opens the authority of a state directory. @throws {UsageError} when there is none, or its files are damaged */
export function openAuthority(stateDir: string): CertificateAuthority {
  return new CertificateAuthority(stateDir, readAuthorityFiles(stateDir));
}

/** An authority whose key is at hand. */
export class CertificateAuthority {
  readonly #stateDir: string;
  readonly #pair: CaPair;

  constructor(stateDir: string, pair: CaPair) {
    this.#stateDir = stateDir;
    this.#pair = pair;
  }

  get certPem(): string {
    return this.#pair.certPem;
  }

  /** @throws {UsageError} when the name or a host cannot be used */
  async issue(request: IssueRequest, nowMs: number): Promise<Issued> {
    checkName(request.name);
    request.hosts.forEach(checkHost);
    const key = request.publicKey === undefined ? await makeKey() : null;
    const publicKey = request.publicKey ?? key!.publicKey;
    const issued = await issueCertificate(this.#pair, { ...request, nowMs, publicKey });
    writeIssued(this.#stateDir, issued.serial, issued.certPem);
    return { ...issued, keyPem: key?.keyPem ?? null };
  }

  /** Issues a certificate again, with the same names and key and a new time. */
  async renew(entry: IssuedEntry, validDays: number, nowMs: number): Promise<Issued> {
    const publicKey = await publicKeyOf(entry.certPem);
    const { name, use, hosts } = entry;
    return await this.issue({ name, use, hosts, validDays, publicKey }, nowMs);
  }

  /** Adds serials to the revocation list; those on it already keep their time. */
  async revoke(serials: readonly string[], nowMs: number): Promise<void> {
    await withAuthorityLock(this.#stateDir, async () => {
      const known = await this.#revoked();
      const added = serials.filter((serial) => !known.has(serial));
      const entries = [...known.values(), ...added.map((serial) => ({ serial, revokedMs: nowMs }))];
      writeCrl(this.#stateDir, await makeRevocationList(this.#pair, entries, nowMs));
    });
  }

  /** All certificates, the newest first. @throws {UsageError} naming the file that is damaged */
  async list(nowMs: number): Promise<readonly IssuedEntry[]> {
    const x509 = await loadX509();
    const revoked = await this.#revoked();
    const entries = readIssued(this.#stateDir).map(({ path, certPem }) => {
      const facts = readCertificate(x509, readPem(certPem, `"${path}"`)[0]!.der, `"${path}"`);
      return entryOf(facts, certPem, revoked.get(facts.serial) ?? null, nowMs);
    });
    return entries.toSorted((a, b) => b.notBeforeMs - a.notBeforeMs || a.serial.localeCompare(b.serial));
  }

  /**
   * The certificates that an operator means by a serial number, or the beginning of one, or a name.
   *
   * @throws {UsageError} when there is none
   */
  async find(wanted: string, nowMs: number): Promise<readonly IssuedEntry[]> {
    const all = await this.list(nowMs);
    const serial = serialText(wanted.replaceAll(":", ""));
    const bySerial = all.filter((entry) => entry.serial === serial);
    const byName = all.filter((entry) => entry.name === wanted);
    const byStart = /^[0-9a-f]{6,}$/.test(serial)
      ? all.filter((entry) => entry.serial.startsWith(serial))
      : [];
    const found = [bySerial, byName, byStart].find((entries) => entries.length > 0);
    if (found !== undefined) return found;
    throw new UsageError(
      `No certificate of "${wanted}" was issued: expected a name or serial number of omail-server cert list`,
    );
  }

  async #revoked(): Promise<ReadonlyMap<string, RevokedEntry>> {
    const what = `"${caPaths(this.#stateDir).crl}"`;
    const content = new TextEncoder().encode(readCrl(this.#stateDir));
    const issuer = readPem(this.#pair.certPem, "the certificate authority")[0]!.der;
    const lists = await readRevocationLists(await loadX509(), content, [issuer], what);
    return new Map(lists.flatMap((list) => [...list.revoked]));
  }
}

function entryOf(
  facts: CertificateFacts,
  certPem: string,
  revoked: RevokedEntry | null,
  nowMs: number,
): IssuedEntry {
  const { serial, notBeforeMs, notAfterMs, fingerprint, dnsNames, ipAddresses } = facts;
  const inTime = nowMs < notBeforeMs ? "not yet valid" : nowMs > notAfterMs ? "expired" : "valid";
  return {
    serial,
    name: facts.commonNames[0] ?? "",
    use: facts.purposes.includes(SERVER_AUTH) ? "server" : "client",
    hosts: [...dnsNames, ...ipAddresses],
    state: revoked === null ? inTime : "revoked",
    notBeforeMs,
    notAfterMs,
    revokedMs: revoked?.revokedMs ?? null,
    fingerprint,
    certPem,
  };
}

function checkName(name: string): void {
  const problem = nameProblem(name);
  if (problem !== null) throw new UsageError(`Cannot issue a certificate: ${problem}`);
}

/** Letters, digits, dots, hyphens, colons and a leading wildcard: DNS names and addresses. */
function checkHost(host: string): void {
  if (/^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._:-]{0,252})$/.test(host) || /^[0-9a-fA-F:.]+$/.test(host)) return;
  throw new UsageError(`Cannot issue a certificate for "${host}": expected a DNS name or an IP address`);
}
