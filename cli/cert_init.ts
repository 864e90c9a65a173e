/** `omail-server cert init`: makes a certificate authority, and a server certificate when hosts are given. */

import type { CommandDef } from "citty";
import { hostname } from "node:os";
import { initAuthority } from "../lib/ca_authority.ts";
import { caPaths } from "../lib/ca_store.ts";
import { certificateFingerprint } from "../lib/certificate.ts";
import { recordChange } from "./audit_record.ts";
import { daysFlag, printLine, readDays, readList, serverInstance } from "./cert_common.ts";
import { issueServerCertificate } from "./cert_issue.ts";
import { command } from "./command.ts";
import { type FlagValues, listFlag, valueFlag } from "./flags.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

/** Ten years: whoever changes the authority has to change every client. */
const AUTHORITY_DAYS = 3650;

export const certInitCommand: CommandDef = command({
  name: "init",
  description: "Make a certificate authority in the state directory",
  args: {
    name: valueFlag("NAME", "Name of the authority (default: OMail VPN and the host's name)"),
    days: daysFlag(AUTHORITY_DAYS),
    host: listFlag("HOST", "Issue a certificate for the server, too, for these names and addresses"),
    ...INSTANCE_FLAGS,
  },
  run: ({ flags }) => init(flags),
});

async function init(flags: FlagValues): Promise<void> {
  const name = typeof flags["name"] === "string" ? flags["name"] : `OMail VPN ${hostname()}`.slice(0, 64);
  const validDays = readDays(flags, AUTHORITY_DAYS);
  const instance = await serverInstance(flags);
  const { certPem } = await initAuthority(instance.stateDir, { name, validDays }, Date.now());
  printLine(`Made the certificate authority "${name}" in "${caPaths(instance.stateDir).directory}"`);
  const fingerprint = certificateFingerprint(certPem);
  printLine(`Fingerprint ${fingerprint}`);
  await recordChange(instance, "cert init", name, fingerprint);
  printLine("Keep a copy of that directory at a safe place: who has it decides who may log in");
  const hosts = readList(flags, "host");
  if (hosts.length > 0) await issueServerCertificate(instance, { hosts, validDays });
  else printLine("Next: omail-server cert issue NAME --server --host HOST, for the server's own certificate");
  printLine("A server that runs already asks clients for certificates when it is started again");
}
