/**
 * Counts a server's security events since its start, by names from closed lists.
 *
 * Plain numbers, copied when somebody asks. No name comes from a client, so that what is printed of them
 * (`metrics.ts`) neither grows with who knocks nor tells who did.
 */

import { AUDIT_EVENT_TYPES, type AuditEventType, LOGIN_METHODS, type LoginMethod } from "./audit_event.ts";

/** How a log-in ended. */
export const LOGIN_RESULTS = [
  /** A session was opened or resumed. */
  "succeeded",
  /** A password, one-time code or enrolment token was wrong. */
  "wrong-credentials",
  /** Address or user is shut out after too many of these. */
  "shut-out",
  /** No place or no inner address is free. */
  "full",
  /** The credentials are no good (certificate, disabled, expired, quota, from where), or not what is asked for. */
  "not-allowed",
] as const;

export type LoginResult = (typeof LOGIN_RESULTS)[number];

/** What ended a session. */
export const END_CAUSES = [
  /** The client said goodbye. */
  "left",
  /** Neither channel was heard for too long. */
  "timeout",
  /** The user came back and took its place. */
  "replaced",
  /** An operator's `kick`. */
  "kicked",
  /** The user was removed, disabled or changed, has expired, or is over its quota or devices. */
  "account",
  /** The certificate was revoked or has expired, or something else must be proved now. */
  "proof",
  /** Its resume token came twice. */
  "token-reused",
  /** The server stops. */
  "shutdown",
] as const;

export type EndCause = (typeof END_CAUSES)[number];

/** Who can be shut out. */
export type BanSubject = "address" | "user";

/** One number for each name of a closed list. */
export class NamedCounts<Name extends string> {
  readonly #counts: Map<Name, number>;

  constructor(names: readonly Name[]) {
    this.#counts = new Map(names.map((name) => [name, 0]));
  }

  add(name: Name): void {
    this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
  }

  /** All of them, those at 0 included. */
  snapshot(): Record<Name, number> {
    return Object.fromEntries(this.#counts) as Record<Name, number>;
  }
}

/** What happened, by kind and name; see {@link EventCounts}. */
export interface EventStatus {
  readonly logins: Readonly<Record<string, number>>;
  /** Those that succeeded, by how the client proved who it is. */
  readonly loginMethods: Readonly<Record<string, number>>;
  readonly ends: Readonly<Record<string, number>>;
  /** Lock-outs that began, by whom they shut out. */
  readonly bans: Readonly<Record<string, number>>;
}

/** The counts of one server. */
export class EventCounts {
  readonly logins = new NamedCounts<LoginResult>(LOGIN_RESULTS);
  readonly loginMethods = new NamedCounts<LoginMethod>(LOGIN_METHODS);
  readonly ends = new NamedCounts<EndCause>(END_CAUSES);
  readonly bans = new NamedCounts<BanSubject>(["address", "user"]);

  snapshot(): EventStatus {
    return {
      logins: this.logins.snapshot(),
      loginMethods: this.loginMethods.snapshot(),
      ends: this.ends.snapshot(),
      bans: this.bans.snapshot(),
    };
  }
}

/** State of the audit log of a running server. */
export interface AuditStatus {
  /** Lines that this process wrote, by type. */
  readonly written: Readonly<Record<string, number>>;
  /** Events that are not on disk yet. */
  readonly waiting: number;
  /** Events since the start that found no room to wait. */
  readonly lost: number;
  /** The last attempt to write failed. */
  readonly failing: boolean;
}

/** Lines of an audit log, by type. */
export function auditLineCounts(): NamedCounts<AuditEventType> {
  return new NamedCounts(AUDIT_EVENT_TYPES);
}
