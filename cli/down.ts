/** `down`: ends a running program, or puts back what a killed one left behind. */

import type { CommandDef } from "citty";
import { requestAction } from "../lib/control_socket.ts";
import { NotRunningError } from "../lib/errors.ts";
import { command } from "./command.ts";
import type { FlagValues } from "./flags.ts";
import { type Role, findInstance } from "./instance.ts";
import { INSTANCE_FLAGS, LOG_FLAGS } from "./tunnel_flags.ts";

/** Makes the command of one of the programs. */
export function downCommand(role: Role): CommandDef {
  return command({
    name: "down",
    description: "End the tunnel and put back what it changed on this machine",
    args: { ...INSTANCE_FLAGS, ...LOG_FLAGS },
    run: ({ flags }) => bringDown(role, flags),
  });
}

async function bringDown(role: Role, flags: FlagValues): Promise<void> {
  const { instance, log } = await findInstance(role, flags);
  try {
    process.stdout.write(`${await requestAction(instance, "stop")}\n`);
  } catch (error) {
    if (!(error instanceof NotRunningError)) throw error;
    // Loaded only where it is needed: the usual case talks to a living process.
    const { repair } = await import("../lib/host_setup.ts");
    const repaired = await repair(instance, log);
    // Being down already is what was asked for, so it is no error.
    const text = repaired ? "put back what a killed program had changed" : "nothing to do";
    process.stdout.write(`No omail-${role} runs with interface "${instance.tun}": ${text}\n`);
  }
}
