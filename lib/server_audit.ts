/** What happens to the server's sessions, for the audit log and for the counts. */

import { formatHostPort, type HostPort } from "./address.ts";
import type { AuditSink, LoginMethod } from "./audit_event.ts";
import type { GoodbyeCode, Hello } from "./control_message.ts";
import { type EndCause, EventCounts, type LoginResult } from "./event_counts.ts";
import type { Refusal } from "./handshake.ts";
import type { Ban } from "./lockout.ts";
import type { Log } from "./log.ts";
import type { ServerSession } from "./server_sessions.ts";

type Session = ServerSession<unknown>;

/** How a session ended. */
export interface SessionEnd {
  readonly code: GoodbyeCode;
  readonly reason: string;
  readonly cause: EndCause;
}

export const TAKEN_OVER: SessionEnd = {
  code: "replaced",
  reason: "A new log-in took the session's place",
  cause: "replaced",
};
export const TIMED_OUT: SessionEnd = {
  code: "timeout",
  reason: "Nothing was heard of the client",
  cause: "timeout",
};
export const TOKEN_REUSED: SessionEnd = {
  code: "bye",
  reason: "The session's resume token was used twice: log in again",
  cause: "token-reused",
};

/** @param reason as the client told it */
export function leftBy(reason: string): SessionEnd {
  return { code: "bye", reason: `The client left: ${reason}`, cause: "left" };
}

/** The record of one server. */
export class ServerRecord {
  readonly counts = new EventCounts();
  /** Log-ins that were refused. */
  refusals = 0;
  readonly #audit: AuditSink;
  readonly #log: Log;

  constructor(audit: AuditSink, log: Log) {
    this.#audit = audit;
    this.#log = log;
  }

  /** A client got its session, or came back to it. */
  login(session: Session, hello: Hello): void {
    const method = loginMethod(session, hello);
    this.counts.logins.add("succeeded");
    this.counts.loginMethods.add(method);
    this.#audit.record({
      type: "login",
      user: session.user,
      session: session.id,
      endpoint: formatHostPort(session.controlEndpoint),
      addresses: session.lease.map((prefix) => prefix.address.text),
      method,
    });
  }

  /**
   * A client was turned away; `user` is who it said it is, or empty.
   *
   * @param shutOut a ban is in the audit log once, not with every further knock
   */
  refused(user: string, endpoint: HostPort, refusal: Refusal, shutOut: boolean): void {
    this.refusals += 1;
    this.counts.logins.add(loginResult(refusal, shutOut));
    if (shutOut) return;
    this.#audit.record({
      type: "refused",
      user: user === "" ? null : user,
      endpoint: formatHostPort(endpoint),
      reason: refusal.reason,
    });
  }

  /** Somebody is shut out from now on: told in the log, too. */
  banned(bans: readonly Ban[]): void {
    for (const { subject, value, failures, seconds } of bans) {
      this.counts.bans.add(subject);
      this.#log.warn(`too many failed log-ins: ${subject} shut out`, { [subject]: value, failures, seconds });
      this.#audit.record({ type: "ban", subject, value, failures, seconds });
    }
  }

  /** Somebody is let in again. */
  lifted(bans: readonly Ban[]): void {
    for (const { subject, value } of bans) this.#audit.record({ type: "unban", subject, value });
  }

  /** A resume token came a second time. */
  tokenReused(session: Session, endpoint: HostPort): void {
    const fields = { user: session.user, session: session.id, endpoint: formatHostPort(endpoint) };
    this.#log.warn("a resume token came a second time: its session ends", fields);
    this.#audit.record({ type: "token-reused", ...fields });
  }

  /** A session ended; its traffic is the newest that the data plane told. */
  ended(session: Session, { code, reason, cause }: SessionEnd, wallMs: number): void {
    this.counts.ends.add(cause);
    const { stats } = session;
    this.#audit.record({
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
}

/** How the client of a session that was opened or resumed just now proved who it is. */
function loginMethod({ certificate }: Session, { auth }: Hello): LoginMethod {
  if ("resume" in auth) return "resume";
  if ("certificate" in auth) return "certificate";
  return certificate === null ? "password" : "password+certificate";
}

function loginResult({ code, guessed }: Refusal, shutOut: boolean): LoginResult {
  if (guessed === true) return "wrong-credentials";
  if (shutOut) return "shut-out";
  return code === "pool-exhausted" ? "full" : "not-allowed";
}
