/** The form that every command has, between citty and `run.ts`. */

import type { ArgsDef, CommandDef } from "citty";
import type { FlagValues } from "./flags.ts";

/** What a command runs with; checked by `run.ts`. */
export interface CommandInput {
  readonly flags: FlagValues;
  readonly positionals: readonly string[];
}

/** One command. */
export interface Command {
  readonly name: string;
  readonly description: string;
  readonly args: ArgsDef;
  run(input: CommandInput): Promise<void>;
}

/** Makes a command that citty can describe and call; `run.ts` hands its input over as citty's `data`. */
export function command({ name, description, args, run }: Command): CommandDef {
  return { meta: { name, description }, args, run: ({ data }) => run(data as CommandInput) };
}
