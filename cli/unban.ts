/** `omail-server unban`: lets an address or a user in again that was shut out after too many failures. */

import type { CommandDef } from "citty";
import { requestAction } from "../lib/control_socket.ts";
import { command } from "./command.ts";
import { findInstance } from "./instance.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

export const unbanCommand: CommandDef = command({
  name: "unban",
  description: "Let an address or a user in again that was shut out after too many failures",
  args: {
    value: {
      type: "positional",
      description: "Outer address, or name of a user, as status --json shows it",
      required: true,
    },
    ...INSTANCE_FLAGS,
  },
  run: async ({ flags, positionals }) => {
    const { instance } = await findInstance("server", flags);
    process.stdout.write(`${await requestAction(instance, "unban", { value: positionals[0] ?? "" })}\n`);
  },
});
