/**
 * Reads a command's arguments strictly: what citty would accept in silence is an error here.
 *
 * Unknown flags, repeated flags and empty values are refused with the nearest right name.
 */

import type { ArgDef, ArgsDef } from "citty";
import { UsageError } from "../lib/errors.ts";
import { suggestion } from "../lib/nearest.ts";
import type { SettingsLayer } from "../lib/config.ts";

/** Values of the flags that were given, by name: a text, all texts of a list, or whether a switch is on. */
export type FlagValues = Readonly<Record<string, string | readonly string[] | boolean>>;

/** A flag with a value that may be repeated. citty has no such type and keeps the last value only. */
export type ListArgDef = ArgDef & { readonly type: "string"; readonly list: true };

/** Defines a flag with a value. */
export function valueFlag(valueHint: string, description: string): ArgDef {
  return { type: "string", valueHint, description };
}

/** Defines a repeatable flag, whose values may also be separated by commas. */
export function listFlag(valueHint: string, description: string): ListArgDef {
  return {
    type: "string",
    valueHint,
    description: `${description} (repeatable, or separated by commas)`,
    list: true,
  };
}

/** Defines a flag without a value. */
export function switchFlag(description: string): ArgDef {
  return { type: "boolean", description };
}

/** Flags of every command, handled before it runs. */
export const GLOBAL_FLAGS: ReadonlyMap<string, "help" | "version"> = new Map([
  ["--help", "help"],
  ["-h", "help"],
  ["--version", "version"],
  ["-v", "version"],
] as const);

/** Arguments taken apart. */
export interface ScannedArguments {
  readonly flags: FlagValues;
  readonly positionals: readonly string[];
}

/**
 * Takes the arguments of one command apart. `--` ends the flags.
 *
 * @throws {UsageError} for an unknown or repeated flag, a missing, empty or superfluous value
 */
export function scanArguments(rawArgs: readonly string[], definitions: ArgsDef): ScannedArguments {
  const flags: Record<string, string | string[] | boolean> = {};
  const positionals: string[] = [];
  for (let index = 0; index < rawArgs.length; index++) {
    const argument = rawArgs[index] ?? "";
    if (argument === "--") {
      positionals.push(...rawArgs.slice(index + 1));
      break;
    }
    if (!argument.startsWith("-") || argument === "-") {
      positionals.push(argument);
      continue;
    }
    const { name, definition, inlineValue } = findFlag(argument, definitions);
    if (definition.type === "boolean") {
      setOnce(flags, name, readSwitch(name, inlineValue));
      continue;
    }
    const value = inlineValue ?? rawArgs[++index];
    if (value === undefined || value === "" || (inlineValue === undefined && isFlag(value))) {
      throw new UsageError(
        `Cannot use --${name} without a value: expected --${name} <${definition.valueHint ?? "value"}>`,
      );
    }
    if (isList(definition)) flags[name] = [...((flags[name] as string[] | undefined) ?? []), value];
    else setOnce(flags, name, value);
  }
  return { flags, positionals };
}

/**
 * How many arguments the flag `argument` takes: 2 when its value stands apart.
 *
 * @throws {UsageError} when it is unknown
 */
export function flagWidth(argument: string, definitions: ArgsDef): 1 | 2 {
  if (GLOBAL_FLAGS.has(argument)) return 1;
  const { definition, inlineValue } = findFlag(argument, definitions);
  return definition.type === "string" && inlineValue === undefined ? 2 : 1;
}

/** The flags as the layer of settings that wins over all others. */
export function flagLayer(flags: FlagValues): SettingsLayer {
  const values = Object.fromEntries(Object.entries(flags).filter(([name]) => !NOT_SETTINGS.has(name)));
  return { values, describe: (path) => `--${String(path[0])}` };
}

/** Flags that say what to do and are no settings. */
const NOT_SETTINGS: ReadonlySet<string> = new Set(["config", "json", "profile"]);

interface FoundFlag {
  readonly name: string;
  readonly definition: ArgDef;
  /** What stands behind `=`. */
  readonly inlineValue: string | undefined;
}

function findFlag(argument: string, definitions: ArgsDef): FoundFlag {
  const equals = argument.indexOf("=");
  const written = equals < 0 ? argument : argument.slice(0, equals);
  const name = written.replace(/^--/, "");
  const definition =
    written.startsWith("--") && Object.hasOwn(definitions, name) ? definitions[name] : undefined;
  if (definition === undefined || definition.type === "positional") {
    const names = [
      ...Object.keys(definitions).filter((key) => definitions[key]?.type !== "positional"),
      "help",
      "version",
    ];
    const bare = written.replace(/^-+/, "");
    throw new UsageError(`Unknown flag "${written}"${suggestion(bare, names, "--")}`);
  }
  return { name, definition, inlineValue: equals < 0 ? undefined : argument.slice(equals + 1) };
}

/** A value that looks like a flag was forgotten; a lone dash is a value (standard input). */
function isFlag(argument: string): boolean {
  return argument.startsWith("--");
}

function isList(definition: ArgDef): definition is ListArgDef {
  return "list" in definition;
}

function readSwitch(name: string, value: string | undefined): boolean {
  if (value === undefined || value === "true") return true;
  if (value === "false") return false;
  throw new UsageError(`Cannot use "${value}" for --${name}: expected true, false or no value`);
}

function setOnce(flags: Record<string, unknown>, name: string, value: string | boolean): void {
  if (Object.hasOwn(flags, name)) throw new UsageError(`Cannot use --${name} twice: expected it once`);
  flags[name] = value;
}
