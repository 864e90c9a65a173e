/** What the server's sessions mean for the audit log. */

import { formatHostPort, type HostPort } from "./address.ts";
import type { AuditSink, LoginMethod } from "./audit_event.ts";
import type { Hello } from "./control_message.ts";
import type { Ban } from "./lockout.ts";
import type { Log } from "./log.ts";
import type { ServerSession } from "./server_sessions.ts";

type Session = ServerSession<unknown>;

/** How the client of a session that was opened or resumed just now proved who it is. */
export function loginMethod({ certificate }: Session, { auth }: Hello): LoginMethod {
  if ("resume" in auth) return "resume";
  if ("certificate" in auth) return "certificate";
  return certificate === null ? "password" : "password+certificate";
}

/** A client got its session, or came back to it. */
export function recordLogin(audit: AuditSink, session: Session, method: LoginMethod): void {
  audit.record({
    type: "login",
    user: session.user,
    session: session.id,
    endpoint: formatHostPort(session.controlEndpoint),
    addresses: session.lease.map((prefix) => prefix.address.text),
    method,
  });
}

/** A client was turned away; `user` is who it said it is, or empty. */
export function recordRefusal(audit: AuditSink, user: string, endpoint: HostPort, reason: string): void {
  audit.record({
    type: "refused",
    user: user === "" ? null : user,
    endpoint: formatHostPort(endpoint),
    reason,
  });
}

/** Somebody is shut out from now on: told in the log, too. */
export function recordBans(audit: AuditSink, log: Log, bans: readonly Ban[]): void {
  for (const { subject, value, failures, seconds } of bans) {
    log.warn(`too many failed log-ins: ${subject} shut out`, { [subject]: value, failures, seconds });
    audit.record({ type: "ban", subject, value, failures, seconds });
  }
}

/** A session ended; its counters are the newest that the data plane told. */
export function recordEnd(
  audit: AuditSink,
  session: Session,
  code: string,
  reason: string,
  wallMs: number,
): void {
  const { stats } = session;
  audit.record({
    type: "disconnected",
    user: session.user,
    session: session.id,
    endpoint: formatHostPort(session.controlEndpoint),
    code,
    reason,
    seconds: Math.max(0, Math.round((wallMs - session.connectedAtMs) / 1000)),
    rxBytes: stats?.rxBytes ?? 0,
    txBytes: stats?.txBytes ?? 0,
    rxPackets: stats?.rxPackets ?? 0,
    txPackets: stats?.txPackets ?? 0,
  });
}
