/**
 * What the audit log records: who came in, who was refused, who left and why, and what an administrator changed.
 *
 * A closed list, so that no event can carry a secret by accident. Whoever decides something records it through an
 * {@link AuditSink}; `audit_log.ts` is the one that writes to disk. Add a kind here, and its words to `cli/audit_text.ts`.
 */

/** How a client proved who it is. */
export const LOGIN_METHODS = ["password", "certificate", "password+certificate", "resume"] as const;

export type LoginMethod = (typeof LOGIN_METHODS)[number];

/** One event. `user` is a name as the client gave it; endpoints are `HOST:PORT`; counters are bytes and packets. */
export type AuditEvent =
  | { readonly type: "started"; readonly version: string }
  | { readonly type: "stopped"; readonly reason: string }
  | {
      readonly type: "login";
      readonly user: string;
      readonly session: number;
      readonly endpoint: string;
      /** Inner addresses. */
      readonly addresses: readonly string[];
      readonly method: LoginMethod;
    }
  | {
      readonly type: "refused";
      /** Null when the client was turned away before it said who it is. */
      readonly user: string | null;
      readonly endpoint: string;
      readonly reason: string;
    }
  | {
      readonly type: "disconnected";
      readonly user: string;
      readonly session: number;
      readonly endpoint: string;
      /** A goodbye code of `control_message.ts`. */
      readonly code: string;
      readonly reason: string;
      readonly seconds: number;
      readonly rxBytes: number;
      readonly txBytes: number;
      readonly rxPackets: number;
      readonly txPackets: number;
    }
  /** A change by an administrator, for example `user add`, target `alice`; `actor` is from {@link auditActor}. */
  | {
      readonly type: "admin";
      readonly actor: string;
      readonly action: string;
      readonly target: string;
      readonly detail?: string;
    }
  /** Too many failures: `subject` is shut out for `seconds`. */
  | {
      readonly type: "ban";
      readonly subject: "address" | "user";
      readonly value: string;
      readonly failures: number;
      readonly seconds: number;
    }
  | { readonly type: "unban"; readonly subject: "address" | "user"; readonly value: string }
  | { readonly type: "revoked"; readonly serial: string; readonly name: string; readonly reason: string }
  /** A client made its certificate with a one-time token. */
  | {
      readonly type: "enrolled";
      readonly user: string;
      readonly endpoint: string;
      readonly serial: string;
    }
  /** A resume token came a second time: it was copied, and the session was ended. */
  | {
      readonly type: "token-reused";
      readonly user: string;
      readonly session: number;
      readonly endpoint: string;
    }
  /** Something that a person should look at, such as events that were lost on a full disk. */
  | { readonly type: "alarm"; readonly reason: string }
  /** Written by the log itself: files up to this line were deleted to make room. */
  | { readonly type: "pruned"; readonly throughSeq: number; readonly throughHash: string }
  /** Written by the log itself: at its start the last line was not the one that had been written last. */
  | { readonly type: "chain-broken"; readonly expectedSeq: number; readonly expectedHash: string };

export type AuditEventType = AuditEvent["type"];

const EVERY_TYPE: Readonly<Record<AuditEventType, true>> = {
  started: true,
  stopped: true,
  login: true,
  refused: true,
  disconnected: true,
  admin: true,
  ban: true,
  unban: true,
  revoked: true,
  enrolled: true,
  "token-reused": true,
  alarm: true,
  pruned: true,
  "chain-broken": true,
};

/** All types of events. */
export const AUDIT_EVENT_TYPES = Object.keys(EVERY_TYPE) as readonly AuditEventType[];

/** Where events go. */
export interface AuditSink {
  /** Takes an event over; never throws and never waits. */
  record(event: AuditEvent): void;
  /** False when events cannot be written and the configuration wants no log-in without its record. */
  readonly mayLogIn: boolean;
}

/** Forgets everything, for tests and for programs without an audit log. */
export const NO_AUDIT: AuditSink = { record: () => undefined, mayLogIn: true };

/**
 * Who acts at a command line.
 *
 * @param uid the user's number
 * @param loginUid the number under which the person logged in; null when that is not known
 * @param env for the name that sudo(8) keeps
 */
export function auditActor(
  uid: number | undefined,
  loginUid: number | null,
  env: Readonly<Record<string, string | undefined>>,
): string {
  const name = env["SUDO_USER"] ?? "";
  const origins = [
    ...(loginUid === null ? [] : [`logged in as uid ${loginUid}`]),
    ...(name === "" ? [] : [`sudo from ${name}`]),
  ];
  return `uid ${uid ?? "?"}${origins.length === 0 ? "" : ` (${origins.join(", ")})`}`;
}
