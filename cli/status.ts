/** `status`: what a running program is doing, for people or as JSON. */

import type { CommandDef } from "citty";
import { parseClientStatus, parseServerStatus } from "../lib/admin_message.ts";
import { requestStatus } from "../lib/control_socket.ts";
import { NotRunningError } from "../lib/errors.ts";
import { command } from "./command.ts";
import type { FlagValues } from "./flags.ts";
import { type Role, findInstance } from "./instance.ts";
import { formatClientStatus, formatServerStatus } from "./status_text.ts";
import { INSTANCE_FLAGS, JSON_FLAG } from "./tunnel_flags.ts";

/** Makes the command of one of the programs. */
export function statusCommand(role: Role): CommandDef {
  return command({
    name: "status",
    description: "Show what the running program does",
    args: { ...JSON_FLAG, ...INSTANCE_FLAGS },
    run: ({ flags }) => showStatus(role, flags),
  });
}

async function showStatus(role: Role, flags: FlagValues): Promise<void> {
  const { instance } = await findInstance(role, flags);
  const reply = await requestStatus(instance);
  const now = Date.now();
  const status = role === "server" ? parseServerStatus(reply) : parseClientStatus(reply);
  const text = "state" in status ? formatClientStatus(status, now) : formatServerStatus(status, now);
  process.stdout.write(flags["json"] === true ? `${JSON.stringify(reply)}\n` : text);
  // A script that only asks "is it up?" gets its answer without reading JSON.
  if ("state" in status && status.state !== "connected") {
    const why = status.reason === null ? "" : `: ${status.reason}`;
    throw new NotRunningError(`Not connected: the client is ${status.state}${why}`);
  }
}
