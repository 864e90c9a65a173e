/**
 * Requests and replies of the Unix control socket: HTTP with JSON bodies, each with a strict schema.
 *
 * `GET /status` answers with a status of `status.ts`; `POST /kick`, `/reload`, `/certificates`, `/rekey`, `/users` and
 * `/stop` answer with
 * {@link DoneReply}. A failure is any status but 200 with {@link ErrorReply}.
 */

import * as v from "valibot";
import { EXIT, NotRunningError, OmailError, PrivilegeError, RefusedError, UsageError } from "./errors.ts";
import type { ClientStatus, ServerStatus } from "./status.ts";

/** What can be asked of a running program. */
export const ADMIN_ROUTES = {
  status: { method: "GET", path: "/status" },
  kick: { method: "POST", path: "/kick" },
  reload: { method: "POST", path: "/reload" },
  unban: { method: "POST", path: "/unban" },
  certificates: { method: "POST", path: "/certificates" },
  rekey: { method: "POST", path: "/rekey" },
  users: { method: "POST", path: "/users" },
  stop: { method: "POST", path: "/stop" },
} as const;

export type AdminAction = keyof typeof ADMIN_ROUTES;

/** Longest name or reason taken from a request. */
const MAX_TEXT_LENGTH = 256;
/** Session IDs are 32 bits wide and not zero. */
const MAX_SESSION_ID = 2 ** 32 - 1;

const shortText = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_TEXT_LENGTH));
const count = v.pipe(v.number(), v.minValue(0));

const kickRequest = v.union([
  v.strictObject({ session: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(MAX_SESSION_ID)) }),
  v.strictObject({ user: shortText }),
]);

/** Whom to disconnect: one session, or all of a user. */
export type KickRequest = v.InferOutput<typeof kickRequest>;

/** @throws {UsageError} when the body is not a {@link KickRequest} */
export function parseKickRequest(body: unknown): KickRequest {
  const result = v.safeParse(kickRequest, body);
  if (result.success) return result.output;
  throw new UsageError(`Cannot kick ${JSON.stringify(body)}: expected {"session": ID} or {"user": NAME}`);
}

const unbanRequest = v.strictObject({ value: shortText });

/** Whom to let in again: an address or the name of a user. */
export type UnbanRequest = v.InferOutput<typeof unbanRequest>;

/** @throws {UsageError} when the body is not an {@link UnbanRequest} */
export function parseUnbanRequest(body: unknown): UnbanRequest {
  const result = v.safeParse(unbanRequest, body);
  if (result.success) return result.output;
  throw new UsageError(`Cannot unban ${JSON.stringify(body)}: expected {"value": ADDRESS or USER}`);
}

/** The body of requests without content. @throws {UsageError} when it has any */
export function parseEmptyRequest(body: unknown): void {
  if (!v.is(v.strictObject({}), body))
    throw new UsageError("Cannot read the request: expected an empty object");
}

const doneReply = v.strictObject({ done: v.string() });

/** What was done, for a person to read. */
export type DoneReply = v.InferOutput<typeof doneReply>;

const errorReply = v.strictObject({ error: v.string(), exitStatus: v.pipe(v.number(), v.integer()) });

/** Why it was not done, with the exit status that the asking command ends with. */
export type ErrorReply = v.InferOutput<typeof errorReply>;

/** @throws {OmailError} when the reply is not a {@link DoneReply} */
export function parseDoneReply(body: unknown): DoneReply {
  return parseReply(doneReply, body);
}

/** Makes an error of an {@link ErrorReply}, of the class that belongs to its exit status. */
export function errorFromReply(body: unknown): OmailError {
  const { error, exitStatus } = parseReply(errorReply, body);
  const known = [UsageError, NotRunningError, RefusedError, PrivilegeError];
  const status = [EXIT.usage, EXIT.notRunning, EXIT.refused, EXIT.privilege].findIndex(
    (code) => code === exitStatus,
  );
  const ErrorClass = known[status] ?? OmailError;
  return new ErrorClass(error);
}

const traffic = { rxBytes: count, txBytes: count, rxPackets: count, txPackets: count };
const path = {
  ...traffic,
  epoch: v.nullable(count),
  rttMs: v.nullable(count),
  lossPercent: count,
  recordLimit: count,
  datagramBytes: v.nullable(count),
  pathMtu: v.nullable(count),
};
const transport = v.picklist(["udp", "tcp"]);
const counts = v.record(v.string(), count);

// Fields that a newer program adds are kept out of the way, so that an older command can still read its status.
const serverStatus = v.object({
  tun: v.string(),
  address: v.string(),
  uptimeSeconds: count,
  startedAt: v.optional(count),
  build: v.optional(v.object({ version: v.string(), commit: v.string() })),
  sessions: v.array(
    v.object({
      ...path,
      id: count,
      user: v.string(),
      endpoint: v.string(),
      addresses: v.array(v.string()),
      connectedAt: count,
      lastSeenAt: count,
      transport,
      state: v.picklist(["connected", "silent", "reconnecting"]),
    }),
  ),
  gone: v.array(
    v.object({
      id: count,
      user: v.string(),
      addresses: v.array(v.string()),
      endedAt: count,
      reason: v.string(),
    }),
  ),
  bans: v.optional(
    v.array(v.object({ subject: v.picklist(["address", "user"]), value: v.string(), secondsLeft: count })),
  ),
  refusals: v.optional(counts),
  events: v.optional(v.object({ logins: counts, loginMethods: counts, ends: counts, bans: counts })),
  audit: v.optional(v.object({ written: counts, waiting: count, lost: count, failing: v.boolean() })),
  totals: v.object({ ...traffic, drops: counts }),
});

const clientStatus = v.object({
  ...path,
  state: v.picklist(["connecting", "connected", "reconnecting"]),
  server: v.string(),
  transport,
  reason: v.nullable(v.string()),
  addresses: v.array(v.string()),
  connectedAt: v.nullable(count),
  lastSeenAt: v.nullable(count),
  sessionId: v.nullable(count),
  drops: counts,
});

/** @throws {OmailError} when the body is not a server's status */
export function parseServerStatus(body: unknown): ServerStatus {
  return parseReply(serverStatus, body);
}

/** @throws {OmailError} when the body is not a client's status */
export function parseClientStatus(body: unknown): ClientStatus {
  return parseReply(clientStatus, body);
}

function parseReply<Schema extends v.GenericSchema>(schema: Schema, body: unknown): v.InferOutput<Schema> {
  const result = v.safeParse(schema, body);
  if (result.success) return result.output;
  const place = v.getDotPath(result.issues[0]) ?? "the whole";
  throw new OmailError(
    `Cannot read the program's reply at ${place}: expected that of the same version of OMail VPN`,
  );
}
