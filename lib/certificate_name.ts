/**
 * The user that a certificate names, and which names are allowed there.
 *
 * The name is the subject's common name; a certificate without one is taken by its first e-mail address or DNS name
 * (RFC 5280, sections 4.1.2.6 and 4.2.1.6). Names end in logs, files and on terminals, so what could mean something
 * else there is refused.
 */

import { UsageError } from "./errors.ts";

/** What a certificate says about whose it is. */
export interface CertificateNames {
  readonly commonNames: readonly string[];
  readonly emails: readonly string[];
  readonly dnsNames: readonly string[];
}

/** Longest common name: ub-common-name of RFC 5280, appendix A.1. */
export const MAX_NAME_LENGTH = 64;

/**
 * Why `name` cannot name a user or a host; null when it can. The name is in the text only where that is harmless.
 */
export function nameProblem(name: string): string | null {
  if (name === "") return "the name is empty, expected at least one character";
  if (/\p{C}/u.test(name)) return "the name holds control or invisible characters, expected printable text";
  if (name.length > MAX_NAME_LENGTH)
    return `the name has ${name.length} characters, expected at most ${MAX_NAME_LENGTH}`;
  if (/[/\\]/.test(name) || /^\.+$/.test(name)) return `the name "${name}" is a path, expected a plain name`;
  if (name !== name.trim() || name.startsWith("-"))
    return `the name "${name}" begins or ends with white space or begins with "-", expected a plain name`;
  return null;
}

/**
 * The user named by a certificate, in Unicode form NFKC as log-ins use it.
 *
 * @throws {UsageError} when it names nobody, several, or in a way that is not allowed
 */
export function userOf({ commonNames, emails, dnsNames }: CertificateNames): string {
  if (commonNames.length > 1) {
    throw new UsageError(
      `the certificate has ${commonNames.length} common names, expected one that names the user`,
    );
  }
  const name = (commonNames[0] ?? emails[0] ?? dnsNames[0])?.normalize("NFKC");
  if (name === undefined) {
    throw new UsageError("the certificate names nobody, expected a common name or an alternative name");
  }
  const problem = nameProblem(name);
  if (problem !== null) throw new UsageError(problem);
  return name;
}
