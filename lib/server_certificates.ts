/** What a server makes of its clients' certificates: who may log in with one, and how long that lasts. */

import { type AuthMode, missingProof, needsPassword, type Proofs, takesCertificate } from "./auth_mode.ts";
import {
  certificateObjection,
  type ClientCertificate,
  type ClientTrust,
  judgeClientCertificate,
} from "./certificate_check.ts";
import type { Refusal } from "./handshake.ts";
import type { CertificateStanding } from "./handshake_server.ts";
import type { PeerCertificates } from "./tls_peer.ts";

/** How clients prove who they are. May change while a server runs. */
export interface ServerAuth {
  /** For users without a mode of their own. */
  readonly mode: AuthMode;
  readonly userModes: ReadonlyMap<string, AuthMode>;
  /** Whose certificates are accepted; null accepts none. */
  readonly trust: ClientTrust | null;
  /** A certificate is accepted only for a user who is known otherwise, too. */
  readonly knownUsersOnly: boolean;
  /** Users who are known though they have no password. */
  readonly knownUsers: ReadonlySet<string>;
}

/** What holds where nothing else was said: passwords only. */
export const PASSWORD_ONLY: ServerAuth = {
  mode: "password",
  userModes: new Map(),
  trust: null,
  knownUsersOnly: false,
  knownUsers: new Set(),
};

/** An accepted certificate, or why there is none. */
export type JudgedPeer = CertificateStanding & { readonly certificate?: ClientCertificate };

/**
 * Judges what a client showed in TLS.
 *
 * @param hasPassword whether a user is known by a password
 * @param nowMs milliseconds since the Unix epoch
 */
export async function judgePeer(
  peer: PeerCertificates,
  auth: ServerAuth,
  hasPassword: (user: string) => boolean,
  nowMs: number,
): Promise<JudgedPeer> {
  if (auth.trust === null || !acceptsCertificates(auth) || peer.chain.length === 0) return { kind: "none" };
  const verdict = await judgeClientCertificate(peer.chain, auth.trust, nowMs);
  if ("problem" in verdict) return refused(verdict.problem);
  const { certificate } = verdict;
  // ours says why; the TLS library's opinion counts as well
  if (peer.objection !== null) return refused(`the TLS library does not accept it (${peer.objection})`);
  const isKnown = hasPassword(certificate.user) || auth.knownUsers.has(certificate.user);
  if (auth.knownUsersOnly && !isKnown) return refused(`its user "${certificate.user}" is not known here`);
  return { kind: "accepted", user: certificate.user, certificate };
}

/**
 * Why these proofs are not enough for a user; null when they are. Before the user is known (`null`) only what no user
 * could log in with is refused.
 */
export function proofRefusal(user: string | null, proofs: Proofs, auth: ServerAuth): Refusal | null {
  const modes = user === null ? [auth.mode, ...auth.userModes.values()] : [modeOf(user, auth)];
  const missing = modes.map((mode) => missingProof(mode, proofs));
  if (missing.includes(null)) return null;
  return { code: "refused", reason: `Cannot log in: ${missing[0]}` };
}

/** Users who need a certificate on a server that accepts none. */
export function usersShutOut({ trust, userModes }: ServerAuth): readonly string[] {
  if (trust !== null) return [];
  return [...userModes].filter(([, mode]) => mode === "cert" || mode === "both").map(([user]) => user);
}

function modeOf(user: string, { mode, userModes }: ServerAuth): AuthMode {
  return userModes.get(user) ?? mode;
}

/** Whether certificates are of any use on this server. */
export function acceptsCertificates({ mode, userModes }: ServerAuth): boolean {
  return takesCertificate(mode) || [...userModes.values()].some(takesCertificate);
}

/** What a session was opened with; `certificate` is null when it was opened by password alone. */
export interface SessionProofs {
  readonly user: string;
  readonly certificate: ClientCertificate | null;
  readonly byPassword: boolean;
}

/**
 * Why what a session was opened with is not enough any more; null when it may go on.
 *
 * @param nowMs milliseconds since the Unix epoch
 */
export function proofsProblem(
  session: SessionProofs,
  auth: ServerAuth,
  hasPassword: (user: string) => boolean,
  nowMs: number,
): string | null {
  const { user, certificate, byPassword } = session;
  if (certificate !== null && auth.trust === null) return "Certificates are no longer accepted";
  const objection = certificate && auth.trust && certificateObjection(certificate, auth.trust, nowMs);
  if (objection !== null) return `Your certificate is no longer good: ${objection}`;
  const proofs = { password: byPassword, certificate: certificate !== null };
  const missing = missingProof(modeOf(user, auth), proofs);
  if (missing !== null) return `What you must prove was changed: ${missing}`;
  if (certificate === null) return null;
  if (needsPassword(modeOf(user, auth))) return hasPassword(user) ? null : "The user was removed";
  const isKnown = hasPassword(user) || auth.knownUsers.has(user);
  return auth.knownUsersOnly && !isKnown ? "The user was removed" : null;
}

function refused(problem: string): JudgedPeer {
  return {
    kind: "refused",
    refusal: { code: "refused", reason: `Your certificate was refused: ${problem}` },
  };
}
