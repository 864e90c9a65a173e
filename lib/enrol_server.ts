/** The server's side of enrolment: a one-time token and a signing request in, a profile with a certificate out. */

import { openAuthority } from "./ca_authority.ts";
import { readRequest } from "./ca_issue.ts";
import { UsageError } from "./errors.ts";
import { claimEnrolToken, findEnrolToken } from "./enrol_store.ts";
import type { Refusal } from "./handshake.ts";
import type { Enrolment } from "./handshake_server.ts";
import { readPem } from "./pem.ts";

const PROBLEMS = {
  unknown: "the token is wrong",
  used: "the token was used before",
  expired: "the token has expired",
} as const;

/**
 * Issues a certificate for the key of a signing request, if the token is good; the token is used up by that.
 *
 * @param nowMs milliseconds since the Unix epoch
 * @throws {OmailError} when the authority's files cannot be used
 */
export async function enrolClient(
  stateDir: string,
  token: Uint8Array<ArrayBuffer>,
  request: Uint8Array<ArrayBuffer>,
  nowMs: number,
): Promise<Enrolment> {
  const found = findEnrolToken(stateDir, token, nowMs);
  const user = found.record?.user ?? "";
  // nothing of the request is read before the token was found good
  if (found.state === "unknown") return refuse(PROBLEMS.unknown, user, { guessed: true });
  if (found.state !== "good") return refuse(PROBLEMS[found.state], user);
  const { validDays, profile } = found.record;
  const authority = openAuthority(stateDir);
  try {
    const publicKey = await readRequest(request);
    if (!claimEnrolToken(stateDir, token)) return refuse(PROBLEMS.used, user);
    const issued = await authority.issue(
      { name: user, use: "client", hosts: [], validDays, publicKey },
      nowMs,
    );
    const [certificate] = readPem(issued.certPem, "the new certificate");
    return { profile, certificate: certificate!.der, user, serial: issued.serial };
  } catch (error) {
    if (error instanceof UsageError) return refuse(error.message, user);
    throw error;
  }
}

function refuse(problem: string, user: string, more: Pick<Refusal, "guessed"> = {}): Enrolment {
  return { refusal: { code: "refused", reason: `Cannot enrol: ${problem}`, ...more }, user };
}
