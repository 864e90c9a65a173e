/** Users as text and as JSON. Nothing secret is in either. */

import type { AuthMode } from "../lib/auth_mode.ts";
import { formatRate, formatSize, type UserRecord } from "../lib/user_record.ts";
import { type Moment, monthOf, refusalOf } from "../lib/user_rules.ts";

/** A user as `user show --json` prints it. Times are milliseconds since the Unix epoch; null is no limit. */
export function userJson(record: UserRecord, moment: Moment): object {
  const { name, enabled, totp, verifier: _verifier, ...settings } = record;
  return {
    name,
    enabled,
    refusal: refusalOf(record, moment),
    totp: totp !== null,
    ...settings,
    usage: { month: monthOf(moment.wallMs), bytes: moment.usedBytes },
  };
}

/** One line for each user, in columns. */
export function formatUserList(users: readonly { record: UserRecord; moment: Moment }[]): string {
  if (users.length === 0) return "There are no users: add one with omail-server user add NAME\n";
  const rows = users.map(({ record, moment }) => [
    record.name,
    stateOf(record, moment),
    record.auth ?? "-",
    record.totp === null ? "-" : "totp",
    list(record.groups),
    list(record.addresses),
    usageText(record, moment),
  ]);
  const table = [["NAME", "STATE", "AUTH", "2ND FACTOR", "GROUPS", "ADDRESSES", "THIS MONTH"], ...rows];
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => Bun.stringWidth(row[column]!))));
  return table
    .map(
      (row) =>
        `${row
          .map((text, column) => pad(text, widths[column]!))
          .join("  ")
          .trimEnd()}\n`,
    )
    .join("");
}

function pad(text: string, width: number): string {
  return text + " ".repeat(width - Bun.stringWidth(text));
}

const MUST_PROVE: Readonly<Record<AuthMode, string>> = {
  password: "a password",
  cert: "a certificate",
  both: "a certificate and a password",
  any: "a certificate or a password",
};

/** Everything about one user, a line each. */
export function formatUser(record: UserRecord, moment: Moment): string {
  const { limits } = record;
  const rows: readonly (readonly [string, string])[] = [
    ["user", record.name],
    ["state", refusalOf(record, moment) ?? "enabled"],
    ["must prove", record.auth === null ? "what the server wants of everybody" : MUST_PROVE[record.auth]],
    ["second factor", record.totp === null ? "none" : "one-time codes (TOTP)"],
    ["expires", record.expiresAtMs === null ? "never" : new Date(record.expiresAtMs).toISOString()],
    ["groups", list(record.groups)],
    ["addresses", list(record.addresses)],
    ["networks behind", list(record.networks)],
    ["routes", list(record.routes)],
    ["devices", limits.devices === null ? "any number" : `${limits.devices}`],
    ["rate up", limits.upBitsPerSecond === null ? "no limit" : formatRate(limits.upBitsPerSecond)],
    ["rate down", limits.downBitsPerSecond === null ? "no limit" : formatRate(limits.downBitsPerSecond)],
    ["packets a second", limits.packetsPerSecond === null ? "no limit" : `${limits.packetsPerSecond}`],
    [monthOf(moment.wallMs), usageText(record, moment)],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `${`${label}:`.padEnd(width + 1)} ${value}\n`).join("");
}

function stateOf(record: UserRecord, moment: Moment): string {
  if (!record.enabled) return "disabled";
  if (record.expiresAtMs !== null && moment.wallMs >= record.expiresAtMs) return "expired";
  return refusalOf(record, moment) === null ? "enabled" : "quota used up";
}

function usageText({ limits }: UserRecord, { usedBytes }: Moment): string {
  const used = formatSize(usedBytes);
  return limits.quotaBytes === null ? used : `${used} of ${formatSize(limits.quotaBytes)}`;
}

function list(texts: readonly string[]): string {
  return texts.length === 0 ? "-" : texts.join(",");
}
