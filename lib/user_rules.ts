/** What follows from a user's record: who is refused and why, and what a change means to a live session. Pure. */

import { parseNetwork, prefixContains } from "./address.ts";
import { equalBytes } from "./bytes.ts";
import type { GoodbyeCode } from "./control_message.ts";
import { UsageError } from "./errors.ts";
import { formatSize, type UserRecord } from "./user_record.ts";

/** How a session ends. */
export interface Ending {
  readonly code: GoodbyeCode;
  readonly reason: string;
}

/** What a user has used, and when it is. */
export interface Moment {
  /** Milliseconds since the Unix epoch. */
  readonly wallMs: number;
  /** Bytes of this month. */
  readonly usedBytes: number;
}

/** The calendar month of a moment in UTC, for example `2026-11`: the time in which a quota counts. */
export function monthOf(wallMs: number): string {
  return new Date(wallMs).toISOString().slice(0, 7);
}

/** The first day of the month after that of `wallMs`, in UTC, for example `2026-12-01`. */
export function nextMonthDay(wallMs: number): string {
  const now = new Date(wallMs);
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1, 1)).toISOString().slice(0, 10);
}

/** Why a user who has proved the password is not let in, for the user to read; null when nothing speaks against it. */
export function refusalOf(record: UserRecord, { wallMs, usedBytes }: Moment): string | null {
  const { enabled, expiresAtMs, limits } = record;
  if (!enabled) return "This user is disabled";
  if (expiresAtMs !== null && wallMs >= expiresAtMs) {
    return `This user expired on ${new Date(expiresAtMs).toISOString().slice(0, 16)}Z`;
  }
  if (limits.quotaBytes !== null && usedBytes >= limits.quotaBytes) {
    const quota = formatSize(limits.quotaBytes);
    return `The quota of ${quota} a month is used up: it starts again on ${nextMonthDay(wallMs)} (UTC)`;
  }
  return null;
}

/** Why a user with `count` sessions gets no further one; null when it does. */
export function deviceRefusal({ limits }: UserRecord, count: number): string | null {
  if (limits.devices === null || count < limits.devices) return null;
  return `This user may have ${limits.devices} ${limits.devices === 1 ? "device" : "devices"} at once, and has ${count}`;
}

/**
 * Whether a session that was opened under `before` ends under `after`.
 *
 * @param after undefined when the user is gone
 */
export function endingOf(before: UserRecord, after: UserRecord | undefined, moment: Moment): Ending | null {
  if (after === undefined) return { code: "refused", reason: "This user was removed" };
  const refusal = refusalOf(after, moment);
  if (refusal !== null) return { code: "refused", reason: refusal };
  if (!equalBytes(before.verifier.storedKey, after.verifier.storedKey)) {
    return { code: "refused", reason: "The password of this user was changed" };
  }
  // the client logs in again and gets them
  if (!sameTexts(before.addresses, after.addresses)) {
    return { code: "replaced", reason: "The addresses of this user were changed" };
  }
  return null;
}

/**
 * Looks whether a record is one that can log in, and goes together with those of all other users.
 *
 * @throws {UsageError} when a one-time code is wanted without a password, an address or a network is another user's
 * already, or two addresses are of one family
 */
export function checkFits(record: UserRecord, others: readonly UserRecord[]): void {
  const { name, addresses, networks, auth, totp } = record;
  if (auth === "cert" && totp !== null) {
    throw new UsageError(
      `Cannot ask "${name}" for a one-time code, which follows a password: expected auth "both", or no code`,
    );
  }
  const isV6 = addresses.map((text) => text.includes(":"));
  if (isV6.length > new Set(isV6).size) {
    throw new UsageError(
      `Cannot give "${name}" the addresses "${addresses.join('" and "')}": expected one of each family at most`,
    );
  }
  for (const other of others) {
    const taken =
      addresses.find((text) => other.addresses.includes(text)) ??
      networks.find((text) => other.networks.some((theirs) => overlap(text, theirs)));
    if (taken === undefined) continue;
    throw new UsageError(
      `Cannot give "${taken}" to "${name}": it is "${other.name}"'s, expected another one`,
    );
  }
}

/** Whether two networks have an address in common. */
function overlap(a: string, b: string): boolean {
  const [one, two] = [parseNetwork(a), parseNetwork(b)];
  return prefixContains(one, two.address) || prefixContains(two, one.address);
}

/** Whether both lists have the same texts in the same order. */
export function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}
