/** Writes a status for people: aligned rows, IEC units, and `#` lines for what needs attention. */

import type { ClientStatus, PathStatus, ServerStatus, SessionStatus } from "../lib/status.ts";

/** Loss in percent above which a path is worth a remark: TCP slows down visibly. */
const LOSS_REMARK_PERCENT = 1;
/** Ended sessions are told of for an hour, the last few of them. */
const GONE_REMARK_MS = 3_600_000;
const GONE_REMARKS = 3;

/** @param now milliseconds since the Unix epoch */
export function formatServerStatus(status: ServerStatus, now: number): string {
  const { totals, sessions } = status;
  const head = rows([
    ["interface", status.tun],
    ["address", status.address],
    ["up", formatSpan(status.uptimeSeconds * 1000)],
    ["sessions", String(sessions.length)],
    ["received", `${formatBytes(totals.rxBytes)} (${totals.rxPackets} packets)`],
    ["sent", `${formatBytes(totals.txBytes)} (${totals.txPackets} packets)`],
  ]);
  const table =
    sessions.length === 0 ? "" : `\n${columns([SESSION_HEAD, ...sessions.map((s) => sessionRow(s, now))])}`;
  const remarks = [
    ...sessions.flatMap((session) => sessionRemarks(session, now)),
    ...goneRemarks(status.gone, now),
  ];
  return head + table + health([...remarks, ...dropRemark(totals.drops)]);
}

/** @param now milliseconds since the Unix epoch */
export function formatClientStatus(status: ClientStatus, now: number): string {
  const head = rows([
    ["state", status.state],
    ["server", status.server],
    ["transport", status.transport],
    ["addresses", status.addresses.join(", ") || "none"],
    ["connected", status.connectedAt === null ? "never" : formatAgo(now - status.connectedAt)],
    ["last heard", status.lastSeenAt === null ? "never" : formatAgo(now - status.lastSeenAt)],
    ["received", `${formatBytes(status.rxBytes)} (${status.rxPackets} packets)`],
    ["sent", `${formatBytes(status.txBytes)} (${status.txPackets} packets)`],
    ["round trip", formatRtt(status.rttMs)],
    ["loss", formatPercent(status.lossPercent)],
    ["path MTU", formatPathMtu(status)],
  ]);
  const remarks: string[] = [];
  if (status.state === "connecting") remarks.push("The server has not answered yet; the log says why");
  if (status.state === "reconnecting")
    remarks.push("The connection was lost; routes stay in place until it is back");
  if (status.reason !== null) remarks.push(`Not connected because: ${status.reason}`);
  if (status.lossPercent >= LOSS_REMARK_PERCENT)
    remarks.push(`The path loses ${formatPercent(status.lossPercent)} of the records`);
  return head + health([...remarks, ...dropRemark(status.drops)]);
}

const SESSION_HEAD = [
  "id",
  "user",
  "state",
  "path",
  "endpoint",
  "addresses",
  "last heard",
  "received",
  "sent",
  "round trip",
  "loss",
  "path MTU",
];

function sessionRow(session: SessionStatus, now: number): string[] {
  return [
    String(session.id),
    session.user,
    session.state,
    session.transport,
    session.endpoint,
    session.addresses.join(","),
    formatAgo(now - session.lastSeenAt),
    formatBytes(session.rxBytes),
    formatBytes(session.txBytes),
    formatRtt(session.rttMs),
    formatPercent(session.lossPercent),
    formatPathMtu(session),
  ];
}

/** One decimal at most: `3 %`, `0.6 %`. */
function formatPercent(percent: number): string {
  return `${Number(percent.toFixed(1))} %`;
}

function sessionRemarks(session: SessionStatus, now: number): string[] {
  const remarks: string[] = [];
  const silentMs = now - session.lastSeenAt;
  if (session.state === "silent")
    remarks.push(`Session ${session.id} (${session.user}) is silent for ${formatSpan(silentMs)}`);
  if (session.lossPercent >= LOSS_REMARK_PERCENT) {
    remarks.push(
      `Session ${session.id} (${session.user}) loses ${formatPercent(session.lossPercent)} of its records`,
    );
  }
  return remarks;
}

function goneRemarks(gone: ServerStatus["gone"], now: number): string[] {
  return gone
    .filter(({ endedAt }) => now - endedAt < GONE_REMARK_MS)
    .slice(0, GONE_REMARKS)
    .map(
      ({ id, user, endedAt, reason }) =>
        `Session ${id} (${user}) ended ${formatAgo(now - endedAt)}: ${reason}`,
    );
}

function dropRemark(drops: Readonly<Partial<Record<string, number>>>): string[] {
  const counted = Object.entries(drops).filter(([, count]) => (count ?? 0) > 0);
  return counted.length === 0
    ? []
    : [`Dropped: ${counted.map(([reason, count]) => `${reason} ${count}`).join(", ")}`];
}

function health(remarks: readonly string[]): string {
  return remarks.length === 0 ? "" : `\n${remarks.map((remark) => `# ${remark}\n`).join("")}`;
}

/** Names and values below each other, the values aligned. */
export function rows(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}\n`).join("");
}

/** A table with its columns aligned. */
export function columns(table: readonly (readonly string[])[]): string {
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map((row) => (row[column] ?? "").length)),
  );
  const line = (row: readonly string[]) =>
    row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ");
  return table.map((row) => `${line(row).trimEnd()}\n`).join("");
}

/** Bytes in IEC units with three digits or so, for example `1.21 GiB`. */
export function formatBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return unit === 0 ? `${bytes} B` : `${value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0)} ${units[unit]}`;
}

/** A length of time in its two largest units, for example `1 h 12 min`. */
export function formatSpan(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), "d"],
    [Math.floor(seconds / 3600) % 24, "h"],
    [Math.floor(seconds / 60) % 60, "min"],
    [seconds % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  const shown = parts.slice(first, first + 2).filter(([count]) => count > 0);
  return shown.map(([count, unit]) => `${count} ${unit}`).join(" ");
}

function formatAgo(milliseconds: number): string {
  return milliseconds < 1000 ? "now" : `${formatSpan(milliseconds)} ago`;
}

/** At least so much, for nothing larger is tried; unknown before the first answered probe. */
function formatPathMtu({ pathMtu }: PathStatus): string {
  return pathMtu === null ? "unknown" : `${pathMtu} B`;
}

function formatRtt(milliseconds: number | null): string {
  return milliseconds === null ? "unknown" : `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms`;
}
