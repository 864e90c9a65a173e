/** Strict domain names (RFC 1123, section 2.1; RFC 1035, section 2.3.4): what may go into a resolver's settings. */

import { UsageError } from "./errors.ts";

/** Longest name without its final dot, and longest label. */
const MAX_NAME_LENGTH = 253;
const LABEL = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * Reads a domain name; a final dot is dropped, letters become lower case.
 *
 * @throws {UsageError} when it is not labels of letters, digits, "-" and "_", joined by dots
 */
export function parseDomainName(text: string): string {
  const name = text.toLowerCase().replace(/\.$/, "");
  if (name.length > MAX_NAME_LENGTH || !name.split(".").every((label) => LABEL.test(label))) {
    throw new UsageError(`Cannot read domain "${text}": expected a name, for example corp.example.org`);
  }
  return name;
}
