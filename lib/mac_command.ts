/** A macOS change as data: a command, and the command that undoes it. */

import { messageOf } from "./caught.ts";
import { expectCommand, type RunCommand } from "./command.ts";
import type { HostChange } from "./host_change.ts";
import type { Log } from "./log.ts";
import type { UndoStep, UndoStepOf } from "./undo_journal.ts";

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

/**
 * Makes one change of several commands, run in order.
 *
 * @param standing undo steps of the change that this one takes the place of: what both have stays, what only the old one
 *   has is undone first, because macOS refuses a second route to the same network
 */
export function macChange(
  name: string,
  commands: readonly MacCommand[],
  onFailure: HostChange["onFailure"],
  run: RunCommand,
  log: Log,
  standing: readonly UndoStep[] = [],
): HostChange {
  const undo = commands.flatMap((command) => (command.undo === undefined ? [] : [commandStep(command.undo)]));
  return {
    name,
    key: JSON.stringify(commands),
    undo,
    onFailure,
    async apply() {
      for (const { argv, input } of transition(commands, undo, standing)) {
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

function transition(
  commands: readonly MacCommand[],
  undo: readonly UndoStepOf<"command">[],
  standing: readonly UndoStep[],
): readonly Command[] {
  const [wanted, had] = [new Set(undo.map(textOf)), new Set(standing.map(textOf))];
  const gone = standing.filter((step) => step.kind === "command").filter((step) => !wanted.has(textOf(step)));
  const isMade = ({ undo: back }: MacCommand): boolean =>
    back !== undefined && had.has(textOf(commandStep(back)));
  return [
    ...gone.toReversed().map(({ argv, input }) => (input === undefined ? { argv } : { argv, input })),
    ...commands.filter((command) => !isMade(command)),
  ];
}

function textOf(step: UndoStep): string {
  return JSON.stringify(step);
}

function commandStep({ argv, input }: Command): UndoStepOf<"command"> {
  return { kind: "command", argv: [...argv], ...(input === undefined ? {} : { input }) };
}
