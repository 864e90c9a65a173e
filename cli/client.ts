#!/usr/bin/env bun
/** The program `omail-client`. */

import type { CommandDef } from "citty";
import { clientCheckCommand } from "./client_check.ts";
import { UP_FLAGS, upCommand } from "./client_up.ts";
import { completeCommand } from "./complete.ts";
import { downCommand } from "./down.ts";
import { importCommand } from "./import.ts";
import { runProgram } from "./run.ts";
import { serviceCommand } from "./service.ts";
import { statusCommand } from "./status.ts";

const client: CommandDef = {
  meta: { name: "omail-client", description: "OMail VPN client" },
  // Those of the default command: its values must not be taken for the name of a command.
  args: UP_FLAGS,
  default: "up",
  subCommands: {
    up: upCommand,
    import: importCommand,
    down: downCommand("client"),
    service: serviceCommand("client"),
    status: statusCommand("client"),
    check: clientCheckCommand,
    complete: completeCommand(() => client),
  },
};

await runProgram(client);
