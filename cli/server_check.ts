/** `omail-server check`: what keeps, or would keep, this server from carrying traffic, each with a figure and advice. */

import type { CommandDef } from "citty";
import { makeServerConfig, readServerSettings } from "../lib/config_server.ts";
import { openCheckedInstance, printReport } from "./check.ts";
import { command } from "./command.ts";
import type { FlagValues } from "./flags.ts";
import { RUN_FLAGS } from "./server_run.ts";
import { openSettings } from "./settings.ts";
import { INSTANCE_FLAGS, JSON_FLAG, LOG_FLAGS } from "./tunnel_flags.ts";

export const serverCheckCommand: CommandDef = command({
  name: "check",
  description: "Look at what a server needs on this machine, and say what to do",
  args: {
    address: RUN_FLAGS.address,
    nat: RUN_FLAGS.nat,
    cert: RUN_FLAGS.cert,
    key: RUN_FLAGS.key,
    ...JSON_FLAG,
    ...INSTANCE_FLAGS,
    ...LOG_FLAGS,
  },
  run: ({ flags }) => check(flags),
});

async function check(flags: FlagValues): Promise<void> {
  const { values } = readServerSettings(await openSettings(flags, process.env).layers());
  const config = makeServerConfig(values, null);
  const { checkServer } = await import("../lib/check_server.ts");
  const { runCommand } = await import("../lib/command.ts");
  const instance = await openCheckedInstance("server", values, config.listen.port);
  if ("findings" in instance) return printReport(instance, flags);
  // A running server's own address is the default, wherever it came from.
  const listen = flags["address"] === undefined ? null : config.listen;
  printReport(await checkServer({ instance, config, listen, run: runCommand, now: Date.now }), flags);
}
