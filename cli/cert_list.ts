/** `omail-server cert list` and `show`: what was issued, and what became of it. */

import type { CommandDef } from "citty";
import { type IssuedEntry, openAuthority } from "../lib/ca_authority.ts";
import { formatDay, printLine, serverInstance } from "./cert_common.ts";
import { command } from "./command.ts";
import { columns, rows } from "./status_text.ts";
import { INSTANCE_FLAGS, JSON_FLAG } from "./tunnel_flags.ts";

/** Version of what `--json` prints. */
const SCHEMA_VERSION = 1;

export const certListCommand: CommandDef = command({
  name: "list",
  description: "List the certificates that were issued, the newest first",
  args: { ...JSON_FLAG, ...INSTANCE_FLAGS },
  run: async ({ flags }) => {
    const { stateDir } = await serverInstance(flags);
    const entries = await openAuthority(stateDir).list(Date.now());
    if (flags["json"] === true) return printJson(entries);
    const head = ["serial", "name", "for", "state", "until"];
    const table = entries.map((entry) => [
      entry.serial,
      entry.name,
      entry.use,
      entry.state,
      formatDay(entry.notAfterMs),
    ]);
    process.stdout.write(columns([head, ...table]));
  },
});

export const certShowCommand: CommandDef = command({
  name: "show",
  description: "Show certificates that were issued",
  args: {
    certificate: {
      type: "positional",
      description: "Its name, or its serial number or the beginning of it",
      required: true,
    },
    ...JSON_FLAG,
    ...INSTANCE_FLAGS,
  },
  run: async ({ flags, positionals }) => {
    const { stateDir } = await serverInstance(flags);
    const entries = await openAuthority(stateDir).find(positionals[0] ?? "", Date.now());
    if (flags["json"] === true) return printJson(entries);
    process.stdout.write(entries.map(describe).join("\n"));
  },
});

function describe(entry: IssuedEntry): string {
  const revoked = entry.revokedMs === null ? [] : [["revoked", new Date(entry.revokedMs).toISOString()]];
  const facts = rows([
    ["serial", entry.serial],
    ["name", entry.name],
    ["for", entry.use],
    ...(entry.hosts.length === 0 ? [] : ([["hosts", entry.hosts.join(", ")]] as const)),
    ["state", entry.state],
    ["from", new Date(entry.notBeforeMs).toISOString()],
    ["until", new Date(entry.notAfterMs).toISOString()],
    ...(revoked as [string, string][]),
    ["SHA-256", entry.fingerprint],
  ]);
  return `${facts}${entry.certPem}`;
}

function printJson(entries: readonly IssuedEntry[]): void {
  printLine(JSON.stringify({ version: SCHEMA_VERSION, certificates: entries }));
}
