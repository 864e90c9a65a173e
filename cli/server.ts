#!/usr/bin/env bun
/** The program `omail-server`. */

import type { CommandDef } from "citty";
import { certCommand } from "./cert.ts";
import { completeCommand } from "./complete.ts";
import { downCommand } from "./down.ts";
import { kickCommand } from "./kick.ts";
import { profileCommand } from "./profile.ts";
import { reloadCommand } from "./reload.ts";
import { runProgram } from "./run.ts";
import { RUN_FLAGS, runServerCommand } from "./server_run.ts";
import { statusCommand } from "./status.ts";

const server: CommandDef = {
  meta: { name: "omail-server", description: "OMail VPN server" },
  // Those of the default command: its values must not be taken for the name of a command.
  args: RUN_FLAGS,
  default: "run",
  subCommands: {
    run: runServerCommand,
    status: statusCommand("server"),
    cert: certCommand,
    profile: profileCommand,
    kick: kickCommand,
    reload: reloadCommand,
    down: downCommand("server"),
    complete: completeCommand(() => server),
  },
};

await runProgram(server);
