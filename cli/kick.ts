/** `omail-server kick`: ends a session, or all sessions of a user. */

import type { CommandDef } from "citty";
import type { KickRequest } from "../lib/admin_message.ts";
import { requestAction } from "../lib/control_socket.ts";
import { command } from "./command.ts";
import { findInstance } from "./instance.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

export const kickCommand: CommandDef = command({
  name: "kick",
  description: "End a session, or all sessions of a user",
  args: {
    target: {
      type: "positional",
      description: "Session ID as status shows it, or name of a user",
      required: true,
    },
    ...INSTANCE_FLAGS,
  },
  run: async ({ flags, positionals }) => {
    const { instance } = await findInstance("server", flags);
    const done = await requestAction(instance, "kick", kickTarget(positionals[0] ?? ""));
    process.stdout.write(`${done}\n`);
  },
});

/** A number is a session, anything else a user. */
export function kickTarget(text: string): KickRequest {
  return /^[1-9][0-9]{0,9}$/.test(text) ? { session: Number(text) } : { user: text };
}
