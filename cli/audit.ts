/** `omail-server audit show|verify`: reads the audit log of an instance, whether its server runs or not. */

import type { CommandDef } from "citty";
import { ChainChecker, decodeAuditLine } from "../lib/audit_chain.ts";
import { auditFiles, readAuditLines, readHead } from "../lib/audit_log.ts";
import { OmailError, UsageError } from "../lib/errors.ts";
import { type AuditQuery, formatAuditLine, matches, parseSince } from "./audit_text.ts";
import { command } from "./command.ts";
import { type FlagValues, valueFlag } from "./flags.ts";
import { findInstance } from "./instance.ts";
import { INSTANCE_FLAGS, JSON_FLAG } from "./tunnel_flags.ts";

/** Flags that choose lines and are no settings. */
const QUERY_FLAGS = {
  user: valueFlag("NAME", "Only what concerns this user"),
  since: valueFlag("TIME", "Only what is younger: an age such as 12h or 7d, or a date such as 2026-11-25"),
  type: valueFlag("TYPE", "Only one kind, for example login, refused, disconnected, admin, ban, revoked"),
} as const;

const showCommand = command({
  name: "show",
  description: "Print the audit log, the oldest line first",
  args: { ...QUERY_FLAGS, ...JSON_FLAG, ...INSTANCE_FLAGS },
  run: ({ flags }) => show(flags),
});

const verifyCommand = command({
  name: "verify",
  description: "Check that no line of the audit log was changed or removed",
  args: {
    expect: valueFlag("SEQ:HASH", "A line that must be there, as an earlier verify printed it"),
    ...INSTANCE_FLAGS,
  },
  run: ({ flags }) => verify(flags),
});

export const auditCommand: CommandDef = {
  meta: { name: "audit", description: "Show and check the record of log-ins, refusals and changes" },
  subCommands: { show: showCommand, verify: verifyCommand },
};

async function show(flags: FlagValues): Promise<void> {
  const { files, rest } = await locate(flags);
  const query: AuditQuery = {
    ...(typeof rest["user"] === "string" ? { user: rest["user"] } : {}),
    ...(typeof rest["type"] === "string" ? { type: rest["type"] } : {}),
    ...(typeof rest["since"] === "string" ? { sinceMs: parseSince(rest["since"], Date.now()) } : {}),
  };
  for (const text of readAuditLines(files)) {
    const line = decodeAuditLine(text);
    if (line === null || !matches(line, query)) continue;
    process.stdout.write(`${flags["json"] === true ? text : formatAuditLine(line)}\n`);
  }
}

async function verify(flags: FlagValues): Promise<void> {
  const { files, rest } = await locate(flags);
  const expected = typeof rest["expect"] === "string" ? readExpected(rest["expect"]) : null;
  const lines = readAuditLines(files);
  const checker = new ChainChecker();
  for (const line of lines) checker.next(line);
  checker.finish(readHead(files.head));
  for (const { seq, text } of checker.problems) process.stdout.write(`line ${seq}: ${text}\n`);
  if (checker.problems.length > 0)
    throw new OmailError(`The audit log "${files.current}" is not as it was written`);
  const end = checker.end;
  if (expected !== null && !lines.some((line) => line.endsWith(`"hash":"${expected.hash}"}`)))
    throw new OmailError(`The audit log "${files.current}" has no line ${expected.seq} with that hash`);
  const place = end === null ? "" : `; the last one is ${end.seq}:${end.hash}`;
  process.stdout.write(`${checker.lines} lines, none changed or removed${place}\n`);
}

function readExpected(text: string): { seq: string; hash: string } {
  const match = /^([0-9]+):([0-9a-f]{64})$/.exec(text);
  if (match !== null) return { seq: match[1] ?? "", hash: match[2] ?? "" };
  throw new UsageError(`--expect: Cannot use "${text}": expected the SEQ:HASH that audit verify printed`);
}

/** Parts the flags of this command from those that find the instance. */
async function locate(flags: FlagValues) {
  const own = new Set(["user", "since", "type", "expect"]);
  const split = (wanted: boolean) =>
    Object.fromEntries(Object.entries(flags).filter(([name]) => own.has(name) === wanted));
  const { instance } = await findInstance("server", split(false));
  return { files: auditFiles(instance), rest: split(true) };
}
