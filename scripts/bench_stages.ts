/**
 * Times each stage of the packet path by itself, so that a regression is found where it is.
 *
 * Use: bun run bench:stages [OPTIONS], see --help. The stages that end in the kernel need root and are left out without.
 */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { EXIT, OmailError, UsageError } from "../lib/errors.ts";
import { replacePart } from "./bench/document.ts";
import { circumstances, circumstancesText } from "./bench/machine.ts";
import { countOption, readCommandLine, ROOT, runProgram, say } from "./bench/program.ts";
import { parseStageTimes, stageTable } from "./bench/stage_table.ts";
import { cipherStages } from "./bench/stages_cipher.ts";
import { packetStages } from "./bench/stages_packet.ts";
import { recordStages } from "./bench/stages_record.ts";
import { type StageTime, timeStage } from "./bench/stopwatch.ts";

const DOCUMENT = join(ROOT, "docs/performance.md");
const USAGE = `Use: bun run bench:stages [OPTIONS] [WORD ...]

Times the stages of the packet path whose name holds one of the words, or all of them.

  --milliseconds N   time for one stage (default 300)
  --json FILE        write the times
  --before FILE      compare with what --json wrote before
  --write            put the table into docs/performance.md`;

/** The kernel's stages, timed in a namespace that goes with its process; none where that is not possible. */
async function timeMachine(milliseconds: number, signal: AbortSignal): Promise<readonly StageTime[]> {
  const obstacle = machineObstacle();
  if (obstacle !== null) {
    say(`the stages that end in the kernel are left out: ${obstacle}`);
    return [];
  }
  const program = join(import.meta.dir, "bench/programs/machine_stages.ts");
  const command = ["unshare", "--net", process.execPath, program, String(milliseconds)];
  const child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "inherit", signal });
  const output = await child.stdout.text();
  if ((await child.exited) !== 0) throw new OmailError("Cannot time the stages that end in the kernel");
  return parseStageTimes(output, program);
}

function machineObstacle(): string | null {
  if (process.platform !== "linux") return `expected Linux, this is "${process.platform}"`;
  if (process.getuid?.() !== 0) return "expected root";
  if (!existsSync("/dev/net/tun")) return '"/dev/net/tun" is missing';
  return Bun.which("unshare") === null ? '"unshare" not found: install util-linux' : null;
}

/** @returns the exit status */
async function main(signal: AbortSignal): Promise<number> {
  const args = Bun.argv.slice(2);
  const line = readCommandLine(args, ["milliseconds", "json", "before"], ["write"], USAGE);
  if (line === null) {
    console.log(USAGE);
    return EXIT.ok;
  }
  const { values, flags, words } = line;
  if (flags.has("write") && words.length > 0)
    throw new UsageError(`Cannot write a part of the table: leave out "${words.join('", "')}", or --write`);
  const milliseconds = countOption("milliseconds", values.milliseconds, 300, 60_000);
  const before = values.before === undefined ? null : parseStageTimes(readText(values.before), values.before);
  const isWanted = (name: string) => words.length === 0 || words.some((word) => name.includes(word));
  const all = [...packetStages(), ...(await cipherStages()), ...recordStages()];
  const stages = all.filter(({ name }) => isWanted(name));
  const times: StageTime[] = [];
  for (const [index, stage] of stages.entries()) {
    signal.throwIfAborted();
    say(`[${index + 1}/${stages.length}] ${stage.name}, ${stage.input}`);
    times.push(await timeStage(stage, milliseconds));
  }
  if (isWanted("write to the TUN") || isWanted("send a record")) {
    say("the stages that end in the kernel");
    times.push(...(await timeMachine(milliseconds, signal)).filter(({ name }) => isWanted(name)));
  }
  if (times.length === 0) throw new UsageError(`Cannot find a stage by "${words.join('", "')}"\n${USAGE}`);
  const table = stageTable(times, before);
  console.log(table);
  if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify(times, null, 2)}\n`);
  if (flags.has("write")) writeTable(stageTable(times, null), args);
  return EXIT.ok;
}

function readText(file: string): string {
  if (!existsSync(file)) throw new UsageError(`Cannot read "${file}": no such file`);
  return readFileSync(file, "utf8");
}

function writeTable(table: string, args: readonly string[]): void {
  const about = circumstancesText(circumstances("bench:stages", args, []));
  const document = existsSync(DOCUMENT) ? readFileSync(DOCUMENT, "utf8") : "# Performance\n";
  writeFileSync(DOCUMENT, replacePart(document, "stages", "bun run bench:stages", `${about}\n\n${table}`));
  say("wrote docs/performance.md");
}

await runProgram(main);
