/**
 * Compares OMail with other tunnels on this machine: all peers in turn, round by round, then medians and ratios.
 *
 * Use: bun run bench [--rounds 3] [--seconds 3] [--wireguard-go FILE] [--json FILE] [--markdown FILE]
 */

import { writeFileSync } from "node:fs";
import { cpus, release } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { messageOf } from "../lib/caught.ts";
import { EXIT, OmailError, PrivilegeError, UsageError } from "../lib/errors.ts";
import {
  FIGURES,
  type FigureKey,
  type Figures,
  medianOf,
  numberText,
  ratioOf,
  resultTable,
  type Round,
} from "./bench/figures.ts";
import { measure } from "./bench/measure.ts";
import { allPeers, BASE, type Peer } from "./bench/peers.ts";
import { Testbed } from "./bench/testbed.ts";

const ROOT = join(import.meta.dir, "..");
const USAGE = `Use: bun run bench [OPTIONS]

  --rounds N            rounds of all peers in turn (default 3)
  --seconds N           length of one iperf3 run (default 3)
  --wireguard-go FILE   the program to compare with (default: wireguard-go on PATH)
  --json FILE           write every figure of every round
  --markdown FILE       write the table, with what it was measured on`;

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly wireguardGo: string;
  readonly json: string | undefined;
  readonly markdown: string | undefined;
}

/** What was measured, by what and where; the content of the JSON file. */
interface Result {
  readonly date: string;
  readonly command: string;
  readonly cpu: string;
  readonly kernel: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly peers: readonly string[];
  readonly rounds: readonly Round[];
  /** Medians over the rounds, and medians of the ratios to {@link BASE} within a round; null: not measured. */
  readonly medians: Summary;
  readonly ratios: Summary;
}

function parseFlags(args: readonly string[]) {
  const text = { type: "string" } as const;
  const options = { rounds: text, seconds: text, "wireguard-go": text, json: text, markdown: text } as const;
  const help = { type: "boolean", short: "h" } as const;
  try {
    return parseArgs({ args: [...args], options: { ...options, help } }).values;
  } catch (error) {
    throw new UsageError(`${messageOf(error)}\n${USAGE}`);
  }
}

/** null when only the help is wanted. */
function readOptions(args: readonly string[]): Options | null {
  const values = parseFlags(args);
  if (values.help === true) return null;
  return {
    rounds: countOption("--rounds", values.rounds, 100),
    seconds: countOption("--seconds", values.seconds, 600),
    wireguardGo: values["wireguard-go"] ?? BASE,
    json: values.json,
    markdown: values.markdown,
  };
}

function countOption(name: string, text = "3", most: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= most) return value;
  throw new UsageError(`${name} "${text}" is not a whole number from 1 to ${most}`);
}

/** The peers that can run here. @throws {OmailError} when we cannot measure at all */
function readyPeers(options: Options): readonly Peer[] {
  if (process.platform !== "linux") throw new OmailError(`needs Linux, this is "${process.platform}"`);
  if (process.getuid?.() !== 0) {
    throw new PrivilegeError("needs root, to make network namespaces: run it with sudo");
  }
  const missing = ["ip", "ss", "ping", "iperf3"].filter((tool) => Bun.which(tool) === null);
  if (missing.length > 0)
    throw new OmailError(`missing "${missing.join('", "')}": install iproute2, iputils, iperf3`);
  const peers = allPeers(ROOT, options.wireguardGo);
  const absent = peers.find(({ name }) => name === "omail")?.obstacle;
  if (absent) throw new OmailError(absent);
  for (const { name, obstacle } of peers) if (obstacle !== null) say(`${name} is skipped: ${obstacle}`);
  return peers.filter(({ obstacle }) => obstacle === null);
}

/** Progress; the standard output is for the table. */
function say(line: string): void {
  console.error(`bench: ${line}`);
}

/** The peers in another order each round, so that none always comes first. */
function inTurn(peers: readonly Peer[], round: number): readonly Peer[] {
  const first = round % peers.length;
  return [...peers.slice(first), ...peers.slice(0, first)];
}

/** Starts one peer and measures it; says each figure as it is known. */
async function measurePeer(bed: Testbed, peer: Peer, seconds: number, prefix: string): Promise<Figures> {
  const report = (key: FigureKey, value: number): void => {
    say(`${prefix}: ${FIGURES.find((figure) => figure.key === key)?.label} ${numberText(value)}`);
  };
  return measure({ bed, tunnel: await peer.start(bed), seconds, report });
}

/** All rounds. A peer that fails in one is left out of it. */
async function measureAll(
  peers: readonly Peer[],
  { rounds, seconds }: Options,
  signal: AbortSignal,
): Promise<Round[]> {
  const measured: Round[] = [];
  const bed = new Testbed(signal);
  try {
    await bed.open();
    for (let round = 0; round < rounds; round++) {
      const figures: Record<string, Figures> = {};
      for (const peer of inTurn(peers, round)) {
        const prefix = `round ${round + 1}/${rounds}, ${peer.name}`;
        try {
          figures[peer.name] = await measurePeer(bed, peer, seconds, prefix);
        } catch (error) {
          signal.throwIfAborted();
          say(`${prefix} failed: ${messageOf(error)}`);
        } finally {
          await bed.stop();
        }
      }
      measured.push(figures);
    }
  } finally {
    await bed.close();
  }
  return measured;
}

/** First line of what a program says about its version. */
function firstLine(command: readonly string[]): string {
  return (
    Bun.spawnSync([...command])
      .stdout.toString()
      .split("\n", 1)[0]
      ?.trim() ?? ""
  );
}

/** One number for every peer and figure. */
type Summary = Readonly<Record<string, Readonly<Record<string, number | null>>>>;

function summary(names: readonly string[], of: (name: string, key: FigureKey) => number | null): Summary {
  const figures = (name: string) => FIGURES.map(({ key }) => [key, of(name, key)] as const);
  return Object.fromEntries(names.map((name) => [name, Object.fromEntries(figures(name))]));
}

/** An argument as it can be typed into a shell. */
function shellWord(text: string): string {
  return /^[\w./:=-]+$/.test(text) ? text : Bun.$.escape(text);
}

function describe(peers: readonly Peer[], rounds: readonly Round[]): Result {
  const versions: Record<string, string> = { bun: Bun.version, iperf3: firstLine(["iperf3", "--version"]) };
  for (const { name, version } of peers) if (version !== null) versions[name] = firstLine(version);
  const names = peers.map(({ name }) => name);
  return {
    date: new Date().toISOString(),
    command: ["bun", "run", "bench", ...Bun.argv.slice(2)].map(shellWord).join(" "),
    cpu: `${cpus()[0]?.model ?? "unknown"}, ${cpus().length} cores`,
    kernel: release(),
    versions,
    peers: names,
    rounds,
    medians: summary(names, (name, key) => medianOf(rounds, name, key)),
    ratios: summary(names, (name, key) => ratioOf(rounds, name, BASE, key)),
  };
}

function markdown(result: Result, table: string): string {
  const versions = Object.entries(result.versions).map(([name, version]) => `${name}: ${version}`);
  const lines = [
    `- Date: ${result.date}`,
    `- CPU: ${result.cpu}`,
    `- Kernel: ${result.kernel}`,
    `- Versions: ${versions.join("; ")}`,
    `- Command: \`${result.command}\` (medians of ${result.rounds.length})`,
  ];
  return `${lines.join("\n")}\n\n${table}\n`;
}

/** @returns the exit status */
async function main(signal: AbortSignal): Promise<number> {
  const options = readOptions(Bun.argv.slice(2));
  if (options === null) {
    console.log(USAGE);
    return EXIT.ok;
  }
  const peers = readyPeers(options);
  const rounds = await measureAll(peers, options, signal);
  const result = describe(peers, rounds);
  const table = resultTable(rounds, result.peers, BASE);
  console.log(table);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
  if (options.markdown !== undefined) writeFileSync(options.markdown, markdown(result, table));
  const complete = rounds.every((round) => peers.every(({ name }) => round[name] !== undefined));
  return complete ? EXIT.ok : EXIT.failed;
}

/** 128 and the number of the signal, as shells do. */
const SIGNAL_STATUS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

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
