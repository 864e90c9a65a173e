/** `omail-server cert issue` and `renew`: certificates for clients as files, for the server in its state directory. */

import type { CommandDef } from "citty";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Issued, openAuthority } from "../lib/ca_authority.ts";
import { type CaPair, writeServerPair } from "../lib/ca_store.ts";
import { UsageError } from "../lib/errors.ts";
import type { Instance } from "../lib/instance.ts";
import { writePrivateFile } from "../lib/private_file.ts";
import { recordChange } from "./audit_record.ts";
import {
  daysFlag,
  DEFAULT_DAYS,
  formatDay,
  printLine,
  readDays,
  readList,
  serverInstance,
  tellServer,
} from "./cert_common.ts";
import { command, type CommandInput } from "./command.ts";
import { listFlag, switchFlag, valueFlag } from "./flags.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

const DAY_MS = 86_400_000;

const OUT_FLAG = { out: valueFlag("DIR", "Directory for the files (default: this one)") } as const;

export const certIssueCommand: CommandDef = command({
  name: "issue",
  description: "Issue a certificate for a client, or for this server",
  args: {
    name: {
      type: "positional",
      description: "User that the certificate names, or the server's name",
      required: true,
    },
    server: switchFlag("For this server, which takes it over at once"),
    host: listFlag("HOST", "Names and addresses by which clients reach the server"),
    days: daysFlag(DEFAULT_DAYS),
    ...OUT_FLAG,
    ...INSTANCE_FLAGS,
  },
  run: (input) => issue(input),
});

export const certRenewCommand: CommandDef = command({
  name: "renew",
  description: "Issue a certificate again, with the same name and, for a client, the same key",
  args: {
    certificate: {
      type: "positional",
      description: "Its name, or its serial number as cert list shows it",
      required: true,
    },
    days: daysFlag(DEFAULT_DAYS),
    ...OUT_FLAG,
    ...INSTANCE_FLAGS,
  },
  run: (input) => renew(input),
});

async function issue({ flags, positionals }: CommandInput): Promise<void> {
  const name = positionals[0] ?? "";
  const hosts = readList(flags, "host");
  const validDays = readDays(flags, DEFAULT_DAYS);
  const forServer = flags["server"] === true;
  if (!forServer && hosts.length > 0)
    throw new UsageError("Cannot use --host for a client: expected --server with it");
  if (forServer && hosts.length === 0)
    throw new UsageError("Cannot issue a server's certificate without a host: expected --host HOST");
  const instance = await serverInstance(flags);
  if (forServer) return await issueServerCertificate(instance, { name, hosts, validDays });
  const authority = openAuthority(instance.stateDir);
  const files = clientFiles(flags["out"], name);
  files.forEach(refuseExisting);
  const issued = await authority.issue({ name, use: "client", hosts, validDays }, Date.now());
  const [certFile, keyFile, caFile] = files;
  writePrivateFile(certFile, issued.certPem, { replace: false });
  writePrivateFile(keyFile, issued.keyPem ?? "", { replace: false });
  if (!existsSync(caFile)) writePrivateFile(caFile, authority.certPem, { replace: false });
  await tellIssued(instance, "cert issue", name, issued, validDays);
  printLine(`Log in with: omail-client --cert ${certFile} --key ${keyFile} --ca ${caFile} --server HOST`);
}

async function renew({ flags, positionals }: CommandInput): Promise<void> {
  const validDays = readDays(flags, DEFAULT_DAYS);
  const instance = await serverInstance(flags);
  const authority = openAuthority(instance.stateDir);
  const found = await authority.find(positionals[0] ?? "", Date.now());
  const entry = found.find(({ state }) => state !== "revoked");
  if (entry === undefined) {
    throw new UsageError(
      `Cannot renew "${positionals[0]}": it was revoked, expected a new one by omail-server cert issue`,
    );
  }
  if (entry.use === "server") return await issueServerCertificate(instance, { ...entry, validDays });
  const issued = await authority.renew(entry, validDays, Date.now());
  const [certFile] = clientFiles(flags["out"], entry.name);
  // the key stays: only the certificate beside it changes
  writePrivateFile(certFile, issued.certPem, { replace: true });
  await tellIssued(instance, "cert renew", entry.name, issued, validDays);
  printLine(`Put "${certFile}" in the place of the old certificate; the key stays the same`);
}

/** Issues the server's certificate and has the running server take it over. */
export async function issueServerCertificate(
  instance: Instance,
  { name, hosts, validDays }: { name?: string; hosts: readonly string[]; validDays: number },
): Promise<void> {
  const authority = openAuthority(instance.stateDir);
  const subject = name ?? hosts[0] ?? "";
  const issued = await authority.issue({ name: subject, use: "server", hosts, validDays }, Date.now());
  // the authority travels with it, so that a client can recognise the server by the authority's fingerprint
  const pair: CaPair = { certPem: issued.certPem + authority.certPem, keyPem: issued.keyPem ?? "" };
  const path = writeServerPair(instance.stateDir, pair);
  await tellIssued(instance, "cert issue --server", subject, issued, validDays);
  printLine(`Wrote it with its key to "${path}", for ${hosts.join(", ")}`);
  printLine(await tellServer(instance));
}

function clientFiles(out: unknown, name: string): readonly [string, string, string] {
  const directory = typeof out === "string" ? out : ".";
  return [join(directory, `${name}.pem`), join(directory, `${name}.key`), join(directory, "omail-ca.pem")];
}

function refuseExisting(path: string): void {
  if (!path.endsWith("omail-ca.pem") && existsSync(path))
    throw new UsageError(`Cannot write "${path}": it exists already, expected another --out DIR`);
}

async function tellIssued(
  instance: Instance,
  action: string,
  name: string,
  { serial }: Issued,
  validDays: number,
): Promise<void> {
  const end = formatDay(Date.now() + validDays * DAY_MS);
  printLine(`Issued certificate ${serial} for "${name}", good until ${end}`);
  await recordChange(instance, action, name, `serial ${serial}, until ${end}`);
}
