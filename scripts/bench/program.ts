/** What the measuring programs have in common: their options, what they need of the machine, their end. */

import { join } from "node:path";
import { parseArgs, type ParseArgsConfig } from "node:util";
import { messageOf } from "../../lib/caught.ts";
import { EXIT, OmailError, PrivilegeError, UsageError } from "../../lib/errors.ts";

/** The root of the tree, where the executables are. */
export const ROOT = join(import.meta.dir, "../..");

/** Progress; the standard output is for results. */
export function say(line: string): void {
  console.error(`bench: ${line}`);
}

/** Options of a command line, as texts, and the words that are none. */
export interface CommandLine<Name extends string> {
  readonly values: Readonly<Partial<Record<Name, string>>>;
  readonly flags: ReadonlySet<string>;
  readonly words: readonly string[];
}

/**
 * Reads a command line.
 *
 * @param valued names of options with a value @param flags names of options without
 * @returns null when only the help is wanted
 * @throws {UsageError} for an option that does not exist
 */
export function readCommandLine<Name extends string>(
  args: readonly string[],
  valued: readonly Name[],
  flags: readonly string[],
  usage: string,
): CommandLine<Name> | null {
  const options: NonNullable<ParseArgsConfig["options"]> = { help: { type: "boolean", short: "h" } };
  for (const name of valued) options[name] = { type: "string" };
  for (const name of flags) options[name] = { type: "boolean" };
  try {
    const { values, positionals } = parseArgs({ args: [...args], options, allowPositionals: true });
    if (values["help"] === true) return null;
    const given = Object.entries(values).filter(([, value]) => value !== undefined);
    return {
      values: Object.fromEntries(given.filter(([, value]) => typeof value === "string")) as Partial<
        Record<Name, string>
      >,
      flags: new Set(given.filter(([, value]) => value === true).map(([name]) => name)),
      words: positionals,
    };
  } catch (error) {
    throw new UsageError(`${messageOf(error)}\n${usage}`);
  }
}

/** A whole number from 1 on. @throws {UsageError} */
export function countOption(name: string, text: string | undefined, byDefault: number, most: number): number {
  if (text === undefined) return byDefault;
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new UsageError(`Cannot use --${name} "${text}": expected a whole number from 1 to ${most}`);
}

/** Some of a list of names, separated by commas. @throws {UsageError} for a name that is not in the list */
export function namesOption<Name extends string>(
  name: string,
  text: string | undefined,
  known: readonly Name[],
): readonly Name[] {
  if (text === undefined) return known;
  const names = text.split(",");
  const unknown = names.find((one) => !(known as readonly string[]).includes(one));
  if (unknown !== undefined)
    throw new UsageError(`Cannot use --${name} "${unknown}": expected some of ${known.join(",")}`);
  return known.filter((one) => names.includes(one));
}

/** One of a list of names. @throws {UsageError} */
export function choiceOption<Name extends string>(
  name: string,
  text: string | undefined,
  byDefault: Name,
  known: readonly Name[],
): Name {
  const found = known.find((one) => one === (text ?? byDefault));
  if (found === undefined)
    throw new UsageError(`Cannot use --${name} "${text}": expected one of ${known.join(", ")}`);
  return found;
}

/** @throws {OmailError} when nothing can be measured here: names what is missing and how to get it */
export function requireMachine(tools: Readonly<Record<string, string>>): void {
  if (process.platform !== "linux")
    throw new OmailError(`Cannot measure on "${process.platform}": expected Linux`);
  if (process.getuid?.() !== 0) {
    throw new PrivilegeError("Cannot make network namespaces: expected root, run it with sudo");
  }
  const missing = Object.entries(tools).filter(([tool]) => Bun.which(tool) === null);
  if (missing.length === 0) return;
  const names = missing.map(([tool]) => `"${tool}"`).join(", ");
  const packages = [...new Set(missing.map(([, name]) => name))].join(" ");
  throw new OmailError(`Cannot find ${names}: install ${packages}`);
}

/** What every measurement in namespaces needs, by the Debian package. */
export const TOOLS: Readonly<Record<string, string>> = {
  ip: "iproute2",
  ss: "iproute2",
  ping: "iputils-ping",
  iperf3: "iperf3",
};

/** What a lossy or slow path needs besides. */
export const PATH_TOOLS: Readonly<Record<string, string>> = {
  tc: "iproute2",
  nft: "nftables",
  ethtool: "ethtool",
};

/** 128 and the number of the signal, as shells do. */
const SIGNAL_STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/** Runs a program to its end: one line for an error, its exit status, and an orderly end by signals. */
export async function runProgram(main: (signal: AbortSignal) => Promise<number>): Promise<void> {
  const interruption = new AbortController();
  let interrupted: number | null = null;
  for (const [name, status] of Object.entries(SIGNAL_STATUS)) {
    process.on(name, () => {
      interrupted ??= status;
      interruption.abort(new OmailError(`ended by ${name}`));
    });
  }
  try {
    process.exitCode = await main(interruption.signal);
  } catch (error) {
    say(messageOf(error));
    const status = error instanceof OmailError ? error.exitStatus : EXIT.failed;
    process.exitCode = interrupted ?? status;
  }
}
