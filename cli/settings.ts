/** Gathers the layers of settings: flags, then environment, then file; defaults are in the schemas. */

import { readFileSync, statSync } from "node:fs";
import { resolve } from "node:path";
import { errorCode } from "../lib/caught.ts";
import { type SettingsLayer, parseConfigText } from "../lib/config.ts";
import { makeSecret } from "../lib/config_field.ts";
import { UsageError } from "../lib/errors.ts";
import { type FlagValues, flagLayer } from "./flags.ts";

/** Where the settings of this process come from. */
export interface SettingsSource {
  /** What the flags said, for the warning about passwords by argument. */
  readonly flags: SettingsLayer;
  /** Layers in order of precedence; reads the file anew each time. */
  layers(): Promise<readonly SettingsLayer[]>;
  /** What a person should know about the file; null when nothing. */
  warning(): string | null;
}

/** Environment variables that are settings, and their keys. */
const ENVIRONMENT: Readonly<Record<string, string>> = { OMAIL_PASSWORD: "password", OMAIL_LOG: "log-level" };

/**
 * Takes the settings of this process. `OMAIL_PASSWORD` is removed from `env`, so that no child inherits it.
 *
 * @throws {UsageError} when a variable is set but empty
 */
export function openSettings(flags: FlagValues, env: NodeJS.ProcessEnv): SettingsSource {
  const fromFlags = flagLayer(flags);
  const fromEnvironment = environmentLayer(env);
  const path = flags["config"] ?? env["OMAIL_CONFIG"];
  if (path === "") throw new UsageError('Cannot use OMAIL_CONFIG="": expected the path of a file');
  // The working directory may be another one when the file is read again.
  const file = typeof path === "string" ? resolve(path) : null;
  return {
    flags: fromFlags,
    layers: async () => {
      if (file === null) return [fromFlags, fromEnvironment];
      return [fromFlags, fromEnvironment, await parseConfigText(readConfigFile(file), file)];
    },
    warning: () => (file === null ? null : permissionWarning(file)),
  };
}

function environmentLayer(env: NodeJS.ProcessEnv): SettingsLayer {
  const values: Record<string, unknown> = {};
  for (const [name, key] of Object.entries(ENVIRONMENT)) {
    const text = env[name];
    if (text === undefined) continue;
    if (text === "") throw new UsageError(`Cannot use ${name}="": expected a value, or the variable unset`);
    values[key] = key === "password" ? makeSecret(text) : text;
  }
  delete env["OMAIL_PASSWORD"];
  const names = new Map(Object.entries(ENVIRONMENT).map(([name, key]) => [key, name]));
  return { values, describe: (key) => names.get(String(key[0])) ?? String(key[0]) };
}

function readConfigFile(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new UsageError(`--config: Cannot read "${path}" (${errorCode(error)}): expected a TOML file`);
  }
}

/** Bits of the file mode that let group and others read. */
const READABLE_BY_OTHERS = 0o044;

function permissionWarning(path: string): string | null {
  const holdsPassword = /^\s*password\s*=/m.test(readConfigFile(path));
  if (!holdsPassword || (statSync(path).mode & READABLE_BY_OTHERS) === 0) return null;
  return `The file holds a password and other users can read it: run chmod 600 ${path}`;
}
