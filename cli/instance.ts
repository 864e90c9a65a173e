/** Finds the instance that a command means: by its interface and state directory, from flags, environment and file. */

import { readClientSettings } from "../lib/config_client.ts";
import { readServerSettings } from "../lib/config_server.ts";
import { type Instance, openInstance } from "../lib/instance.ts";
import { type Log } from "../lib/log.ts";
import { createProcessLog } from "../lib/log_consola.ts";
import type { FlagValues } from "./flags.ts";
import { openSettings } from "./settings.ts";

/** Which program a command belongs to. */
export type Role = Instance["role"];

/**
 * Names the files of the instance and opens the log.
 *
 * @throws {UsageError} when a setting is wrong
 */
export async function findInstance(role: Role, flags: FlagValues): Promise<{ instance: Instance; log: Log }> {
  const layers = await openSettings(flags, process.env).layers();
  const { values } = role === "server" ? readServerSettings(layers) : readClientSettings(layers);
  return {
    instance: openInstance(role, values.tun, values["state-dir"]),
    log: createProcessLog(values["log-level"], values["log-format"]),
  };
}
