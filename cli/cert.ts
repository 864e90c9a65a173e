/** `omail-server cert`: the built-in certificate authority. */

import type { CommandDef } from "citty";
import { certInitCommand } from "./cert_init.ts";
import { certIssueCommand, certRenewCommand } from "./cert_issue.ts";
import { certListCommand, certShowCommand } from "./cert_list.ts";
import { certRevokeCommand } from "./cert_revoke.ts";

export const certCommand: CommandDef = {
  meta: { name: "cert", description: "Certificates of clients and of the server" },
  subCommands: {
    init: certInitCommand,
    issue: certIssueCommand,
    renew: certRenewCommand,
    revoke: certRevokeCommand,
    list: certListCommand,
    show: certShowCommand,
  },
};
