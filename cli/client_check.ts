/** `omail-client check`: what keeps, or would keep, this client from a good tunnel, each with a figure and advice. */

import type { CommandDef } from "citty";
import { readClientSettings } from "../lib/config_client.ts";
import { DEFAULT_MTU_BYTES } from "../lib/limits.ts";
import { createProcessLog } from "../lib/log_consola.ts";
import { openCheckedInstance, printReport } from "./check.ts";
import { command } from "./command.ts";
import { type FlagValues, listFlag } from "./flags.ts";
import { openSettings } from "./settings.ts";
import { INSTANCE_FLAGS, JSON_FLAG, LOG_FLAGS, TUNNEL_FLAGS } from "./tunnel_flags.ts";

export const clientCheckCommand: CommandDef = command({
  name: "check",
  description: "Measure what a tunnel needs on this machine and on the way to the server, and say what to do",
  args: {
    server: listFlag("HOST:PORT", "Server to reach (default: that of the running client)"),
    mtu: TUNNEL_FLAGS.mtu,
    ...JSON_FLAG,
    ...INSTANCE_FLAGS,
    ...LOG_FLAGS,
  },
  run: ({ flags }) => check(flags),
});

async function check(flags: FlagValues): Promise<void> {
  const { values } = readClientSettings(await openSettings(flags, process.env).layers());
  const { checkClient } = await import("../lib/check_client.ts");
  const { runCommand } = await import("../lib/command.ts");
  const { resolveServer } = await import("../lib/resolve.ts");
  const instance = await openCheckedInstance("client", values, null);
  if ("findings" in instance) return printReport(instance, flags);
  const report = await checkClient({
    instance,
    servers: values.server ?? [],
    mtuBytes: values.mtu === "auto" ? DEFAULT_MTU_BYTES : values.mtu,
    resolve: resolveServer,
    run: runCommand,
    log: createProcessLog(values["log-level"], values["log-format"]),
    now: Date.now,
  });
  printReport(report, flags);
}
