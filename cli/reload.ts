/** `omail-server reload`: makes a running server read its configuration again, as SIGHUP does. */

import type { CommandDef } from "citty";
import { requestAction } from "../lib/control_socket.ts";
import { command } from "./command.ts";
import { findInstance } from "./instance.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

export const reloadCommand: CommandDef = command({
  name: "reload",
  description: "Read the configuration again without dropping a session",
  args: INSTANCE_FLAGS,
  run: async ({ flags }) => {
    const { instance } = await findInstance("server", flags);
    process.stdout.write(`${await requestAction(instance, "reload")}\n`);
  },
});
