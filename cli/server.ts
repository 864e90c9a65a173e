#!/usr/bin/env bun
/** The program `omail-server`. */

import type { CommandDef } from "citty";
import { auditCommand } from "./audit.ts";
import { certCommand } from "./cert.ts";
import { completeCommand } from "./complete.ts";
import { downCommand } from "./down.ts";
import { kickCommand } from "./kick.ts";
import { metricsCommand } from "./metrics.ts";
import { policyCommand } from "./policy.ts";
import { profileCommand } from "./profile.ts";
import { reloadCommand } from "./reload.ts";
import { runProgram } from "./run.ts";
import { unbanCommand } from "./unban.ts";
import { serviceCommand } from "./service.ts";
import { RUN_FLAGS, runServerCommand } from "./server_run.ts";
import { serverCheckCommand } from "./server_check.ts";
import { statusCommand } from "./status.ts";
import { userCommand } from "./user.ts";

const server: CommandDef = {
  meta: { name: "omail-server", description: "OMail VPN server" },
  // Those of the default command: its values must not be taken for the name of a command.
  args: RUN_FLAGS,
  default: "run",
  subCommands: {
    run: runServerCommand,
    status: statusCommand("server"),
    metrics: metricsCommand,
    cert: certCommand,
    profile: profileCommand,
    user: userCommand,
    kick: kickCommand,
    unban: unbanCommand,
    reload: reloadCommand,
    audit: auditCommand,
    policy: policyCommand,
    service: serviceCommand("server"),
    down: downCommand("server"),
    check: serverCheckCommand,
    complete: completeCommand(() => server),
  },
};

await runProgram(server);
