/** `complete`: prints a completion script for a shell, and answers its questions. */

import { type CommandDef, type SubCommandsDef, runCommand } from "citty";

/** Makes the command; `root` gives the definitions that are completed. */
export function completeCommand(root: () => CommandDef): CommandDef {
  return {
    meta: { name: "complete", description: "Print a completion script for bash, zsh, fish or powershell" },
    run: async ({ rawArgs }) => {
      const { default: tab } = await import("@bomb.sh/tab/citty");
      // The library adds its own command of this name to what it is given, hence the copy.
      const { complete: _ours, ...others } = (await root().subCommands) as SubCommandsDef;
      const subCommands: SubCommandsDef = others;
      await tab({ ...root(), subCommands });
      const command = (await subCommands["complete"]) as CommandDef;
      await runCommand(command, { rawArgs });
    },
  };
}
