/** What the server's sessions mean for the audit log. */

import { formatHostPort, type HostPort } from "./address.ts";
import type { AuditSink, LoginMethod } from "./audit_event.ts";
import type { ServerSession } from "./server_sessions.ts";

type Session = ServerSession<unknown>;

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

/** A client was turned away; `user` is who it said it is. */
export function recordRefusal(
  audit: AuditSink,
  user: string | null,
  endpoint: HostPort,
  reason: string,
): void {
  audit.record({ type: "refused", user, endpoint: formatHostPort(endpoint), reason });
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
