/** Audit lines as a person reads them, and the choice of lines that a person asks for. Pure. */

import type { AuditLine } from "../lib/audit_chain.ts";
import { parseDuration } from "../lib/config_field.ts";
import { UsageError } from "../lib/errors.ts";

/** Which lines are wanted; what is absent does not narrow. */
export interface AuditQuery {
  readonly user?: string;
  readonly type?: string;
  /** Milliseconds since the Unix epoch. */
  readonly sinceMs?: number;
}

/**
 * Reads `--since`: an age such as `30m` or `7d`, or a date such as `2026-11-25` or `2026-11-25T20:00:00Z`.
 *
 * @returns milliseconds since the Unix epoch
 * @throws {UsageError} when it is neither
 */
export function parseSince(text: string, nowMs: number): number {
  const days = /^([0-9]{1,5})d$/.exec(text);
  if (days !== null) return nowMs - Number(days[1]) * 86_400_000;
  const date = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(date)) return date;
  try {
    return nowMs - parseDuration(text);
  } catch {
    throw new UsageError(
      `--since: Cannot use "${text}": expected an age such as 30m, 12h or 7d, or a date such as 2026-11-25`,
    );
  }
}

/** Whether a line is wanted. A user's lines are also the bans of the user and what an administrator did to it. */
export function matches(line: AuditLine, query: AuditQuery): boolean {
  const { user, value, target, name } = line.fields;
  if (query.sinceMs !== undefined && Date.parse(line.time) < query.sinceMs) return false;
  if (query.type !== undefined && line.type !== query.type) return false;
  return query.user === undefined || [user, value, target, name].includes(query.user);
}

/** One line of text. */
export function formatAuditLine({ seq, time, type, fields }: AuditLine): string {
  const words = Object.entries(fields).map(([key, value]) => `${key}=${formatValue(value)}`);
  return [String(seq).padStart(6), time, type.padEnd(12), ...words].join(" ");
}

function formatValue(value: unknown): string {
  if (Array.isArray(value)) return value.map(String).join(",");
  // quoted where a name or reason from outside could pass for another field
  return typeof value === "string" && !/^[\w.:[\]/+-]+$/.test(value) ? JSON.stringify(value) : String(value);
}
