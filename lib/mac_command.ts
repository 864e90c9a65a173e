/** A macOS change as data: a command, and the command that undoes it. */

import { messageOf } from "./caught.ts";
import { expectCommand, type RunCommand } from "./command.ts";
import type { HostChange } from "./host_change.ts";
import type { Log } from "./log.ts";
import type { UndoStepOf } from "./undo_journal.ts";

/** An argument array with optional standard input. */
export interface Command {
  readonly argv: readonly string[];
  readonly input?: string;
}

/** A command that changes the machine. */
export interface MacCommand extends Command {
  /** Absent when the change vanishes with the utun device. */
  readonly undo?: Command;
}

/** Makes one change of several commands, run in order. */
export function macChange(
  name: string,
  commands: readonly MacCommand[],
  onFailure: HostChange["onFailure"],
  run: RunCommand,
  log: Log,
): HostChange {
  return {
    name,
    undo: commands.flatMap(({ undo }) => (undo === undefined ? [] : [commandStep(undo)])),
    onFailure,
    async apply() {
      for (const { argv, input } of commands) {
        try {
          await expectCommand(run, `Cannot run "${argv.join(" ")}"`, argv, input);
        } catch (error) {
          if (onFailure === "throw") throw error;
          log.warn(messageOf(error));
        }
      }
    },
  };
}

function commandStep({ argv, input }: Command): UndoStepOf<"command"> {
  return { kind: "command", argv: [...argv], ...(input === undefined ? {} : { input }) };
}
