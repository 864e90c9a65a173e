/** `omail-client import`: takes over a profile from a file, or gets one for a one-time token. */

import type { CommandDef } from "citty";
import { readFileSync } from "node:fs";
import { nameProblem } from "../lib/certificate_name.ts";
import { readClientSettings } from "../lib/config_client.ts";
import { isEnrolUri, parseEnrolUri } from "../lib/enrol_uri.ts";
import { UsageError } from "../lib/errors.ts";
import { openInstance } from "../lib/instance.ts";
import { readPlainFile } from "../lib/private_file.ts";
import { decodeProfile, type Profile } from "../lib/profile.ts";
import { refuseImported, saveProfile } from "../lib/profile_store.ts";
import { command, type CommandInput } from "./command.ts";
import { type FlagValues, switchFlag, valueFlag } from "./flags.ts";
import { promptPassword } from "./prompt.ts";
import { openSettings } from "./settings.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

export const importCommand: CommandDef = command({
  name: "import",
  description: "Take over a profile from a file, or for a one-time token",
  args: {
    source: {
      type: "positional",
      description: "Profile, omail:// token, or - to read either from standard input or a terminal",
      required: true,
    },
    name: valueFlag("NAME", "Name to keep it under (default: the one in the profile)"),
    replace: switchFlag("Replace a profile of the same name"),
    ...INSTANCE_FLAGS,
  },
  run: (input) => importProfile(input),
});

async function importProfile({ flags, positionals }: CommandInput): Promise<void> {
  const name = readName(flags["name"]);
  const replace = { replace: flags["replace"] === true };
  const stateDir = await stateDirOf(flags);
  // a token must not be used up in vain
  if (name !== null) refuseImported(stateDir, name, replace);
  const { profile, enrolled } = await readSource(positionals[0] ?? "");
  const named = name === null ? profile : { ...profile, name };
  const kept = enrolled ? freeName(named, stateDir, replace) : named;
  const path = saveProfile(stateDir, kept, replace);
  process.stdout.write(
    `Imported "${kept.name}" as "${path}"\nConnect with: omail-client --profile ${kept.name}\n`,
  );
}

async function readSource(source: string): Promise<{ profile: Profile; enrolled: boolean }> {
  const fromInput = source === "-";
  const text = fromInput ? await readInput() : isEnrolUri(source) ? source : null;
  if (text !== null && isEnrolUri(text)) {
    const { enrol } = await import("../lib/enrol_client.ts");
    return { profile: await enrol(parseEnrolUri(text)), enrolled: true };
  }
  const content = text ?? readPlainFile(source, "import").toString("utf8");
  const what = fromInput ? "the profile on standard input" : `profile "${source}"`;
  return { profile: decodeProfile(content, what), enrolled: false };
}

/** A token is a secret as long as it was not used: on a terminal it is not shown. */
async function readInput(): Promise<string> {
  if (!process.stdin.isTTY) return readFileSync("/dev/stdin", "utf8");
  return await promptPassword("One-time token: ", process.stdin, (text) => process.stderr.write(text));
}

/** What a token has brought is kept in any case: it cannot be fetched again. */
function freeName(profile: Profile, stateDir: string, options: { replace: boolean }): Profile {
  for (let count = 1; ; count++) {
    const name = count === 1 ? profile.name : `${profile.name}-${count}`;
    try {
      refuseImported(stateDir, name, options);
      return { ...profile, name };
    } catch (error) {
      if (!(error instanceof UsageError) || count > 99) throw error;
    }
  }
}

function readName(value: unknown): string | null {
  if (typeof value !== "string") return null;
  const problem = nameProblem(value);
  if (problem === null) return value;
  throw new UsageError(`--name: ${problem}`);
}

async function stateDirOf(flags: FlagValues): Promise<string> {
  const names = Object.keys(INSTANCE_FLAGS);
  const own = Object.fromEntries(Object.entries(flags).filter(([name]) => names.includes(name)));
  const { values } = readClientSettings(await openSettings(own, process.env).layers());
  return openInstance("client", values.tun, values["state-dir"]).stateDir;
}
