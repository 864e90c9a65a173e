/**
 * Runs a program's command: picks it, checks its arguments, and turns every outcome into an exit status.
 *
 * citty 0.2.2 describes the commands, renders the help and calls them. This file repairs what it does by default: it
 * would take an unknown flag's value for a positional, keep the last of repeated flags, fail on `--config FILE` in
 * front of a default command, find `--help` behind `--`, exit with 1 for everything, print stacks, and colour pipes.
 */

import { type ArgsDef, type CommandDef, type Resolvable, renderUsage, runCommand } from "citty";
import { errorCode, messageOf } from "../lib/caught.ts";
import { EXIT, OmailError, UsageError } from "../lib/errors.ts";
import { suggestion } from "../lib/nearest.ts";
import { VERSION_TEXT } from "../lib/version.ts";
import type { CommandInput } from "./command.ts";
import { GLOBAL_FLAGS, flagWidth, scanArguments } from "./flags.ts";

/** Where a program writes, so that tests can look. */
export interface Streams {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly colors: boolean;
}

/** A command with the one above it and the arguments behind its name. */
interface Selection {
  readonly command: CommandDef;
  readonly parent: CommandDef | undefined;
  readonly rawArgs: readonly string[];
}

/** What a shell says of a program that SIGPIPE has ended (signal(7)); Bun ignores the signal. */
const READER_GONE_STATUS = 128 + 13;

/** Runs the program with the arguments of this process and sets its exit status. */
export async function runProgram(root: CommandDef): Promise<void> {
  process.stdout.on("error", stdoutFailed);
  // Who reads the log may leave, as in `2>&1 | head`; a tunnel does not go down for that.
  process.stderr.on("error", () => undefined);
  const streams: Streams = {
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
    colors: process.stdout.isTTY && process.env["NO_COLOR"] === undefined && process.env["TERM"] !== "dumb",
  };
  process.exitCode = await runArguments(root, process.argv.slice(2), streams);
}

/** A command has nothing more to do when nobody reads what it prints (`| head`): it ends as SIGPIPE would end it. */
function stdoutFailed(error: Error): never {
  if (errorCode(error) === "EPIPE") process.exit(READER_GONE_STATUS);
  process.stderr.write(`error: Cannot write to standard output: ${messageOf(error)}\n`);
  process.exit(EXIT.failed);
}

/** Runs the command that `rawArgs` name; gives the exit status and never throws. */
export async function runArguments(
  root: CommandDef,
  rawArgs: readonly string[],
  streams: Streams,
): Promise<number> {
  try {
    const wish = globalFlag(rawArgs);
    if (wish === "version") {
      const meta = await resolve(root.meta);
      streams.stdout(`${meta?.name ?? ""} ${VERSION_TEXT}\n`);
      return EXIT.ok;
    }
    const selection = await selectCommand(root, rawArgs, wish === "help");
    if (wish === "help") {
      const help = await renderUsage(selection.command, selection.parent);
      streams.stdout(`${streams.colors ? help : Bun.stripANSI(help)}\n`);
      return EXIT.ok;
    }
    await execute(selection);
    return EXIT.ok;
  } catch (error) {
    return reportError(error, streams);
  }
}

/** Writes one line for an error that a person can mend, everything for a bug; gives the exit status. */
export function reportError(error: unknown, streams: Pick<Streams, "stderr">): number {
  if (error instanceof OmailError) {
    streams.stderr(`error: ${error.message}\n`);
    return error.exitStatus;
  }
  if (error instanceof Error && error.name === "CLIError") {
    streams.stderr(`error: ${Bun.stripANSI(error.message)}\n`);
    return EXIT.usage;
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  streams.stderr(`error: Unexpected failure, please report it: ${text}\n`);
  return EXIT.failed;
}

/** `--help` or `--version` in front of `--`; they win over everything else, so that help is always to be had. */
function globalFlag(rawArgs: readonly string[]): "help" | "version" | undefined {
  for (const argument of rawArgs) {
    if (argument === "--") return undefined;
    const wish = GLOBAL_FLAGS.get(argument);
    if (wish !== undefined) return wish;
  }
  return undefined;
}

/** Finds the command that the arguments name; help may be asked for with incomplete arguments. */
async function selectCommand(
  root: CommandDef,
  rawArgs: readonly string[],
  forHelp: boolean,
): Promise<Selection> {
  let selection: Selection = { command: root, parent: undefined, rawArgs };
  for (;;) {
    const { command } = selection;
    const subCommands = await resolve(command.subCommands);
    if (subCommands === undefined) return selection;
    const byDefault = await resolve(command.default);
    const index = firstPositional(selection.rawArgs, (await resolve(command.args)) ?? {});
    const name = selection.rawArgs[index];
    if (name === undefined && forHelp) return selection;
    if (name === undefined && byDefault === undefined) throw missingCommand(Object.keys(subCommands));
    const chosen = Object.hasOwn(subCommands, name ?? byDefault ?? "")
      ? subCommands[name ?? byDefault ?? ""]
      : undefined;
    if (chosen === undefined) {
      throw unknownCommand(name ?? "", Object.keys(subCommands));
    }
    refuseEarlyFlags(selection.rawArgs.slice(0, name === undefined ? 0 : index), name);
    const rest = name === undefined ? selection.rawArgs : selection.rawArgs.slice(index + 1);
    selection = { command: (await resolve(chosen)) ?? {}, parent: command, rawArgs: rest };
  }
}

function missingCommand(known: readonly string[]): UsageError {
  return new UsageError(`Cannot go on without a command: expected ${known.join(", ")} or --help`);
}

function unknownCommand(name: string, known: readonly string[]): UsageError {
  const meant = suggestion(name, known) || `: expected ${known.join(", ")} or --help`;
  return new UsageError(`Unknown command "${name}"${meant}`);
}

/** A flag in front of a command's name would be lost. */
function refuseEarlyFlags(early: readonly string[], name: string | undefined): void {
  const flag = early.find((argument) => !GLOBAL_FLAGS.has(argument));
  if (flag !== undefined) {
    throw new UsageError(`Cannot use "${flag}" in front of the command "${name}": expected flags behind it`);
  }
}

/** Index of the first argument that is neither a flag nor the value of one; -1 when there is none. */
function firstPositional(rawArgs: readonly string[], definitions: ArgsDef): number {
  for (let index = 0; index < rawArgs.length; index++) {
    const argument = rawArgs[index] ?? "";
    if (argument === "--") return -1;
    if (!argument.startsWith("-")) return index;
    index += flagWidth(argument, definitions) - 1;
  }
  return -1;
}

/** Commands that take their arguments as they are. */
const RAW_COMMANDS: ReadonlySet<string> = new Set(["complete"]);

async function execute({ command, rawArgs }: Selection): Promise<void> {
  const meta = await resolve(command.meta);
  if (RAW_COMMANDS.has(meta?.name ?? "")) {
    await runCommand(command, { rawArgs: [...rawArgs] });
    return;
  }
  const definitions = (await resolve(command.args)) ?? {};
  const input: CommandInput = scanArguments(rawArgs, definitions);
  const expected = Object.values(definitions).filter((definition) => definition.type === "positional").length;
  const superfluous = input.positionals[expected];
  if (superfluous !== undefined) {
    throw new UsageError(
      `Cannot use the argument "${superfluous}": expected ${expected === 0 ? "flags only" : "one argument"}`,
    );
  }
  // citty gets the positionals only, for its check that none is missing; the flags are in `data`.
  await runCommand(command, { rawArgs: ["--", ...input.positionals], data: input });
}

async function resolve<T>(value: Resolvable<T> | undefined): Promise<T | undefined> {
  return typeof value === "function" ? await (value as () => T | Promise<T>)() : await value;
}
