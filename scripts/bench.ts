/**
 * Compares OMail with other tunnels on this machine: all peers in turn, round by round, then medians and ratios.
 *
 * Use: bun run bench [OPTIONS], see --help. It makes its own network namespaces and removes them.
 */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../lib/caught.ts";
import { EXIT, OmailError } from "../lib/errors.ts";
import { drawBarChart } from "./bench/bar_chart.ts";
import { type BenchOptions, readBenchOptions, USAGE } from "./bench/bench_options.ts";
import { replacePart } from "./bench/document.ts";
import {
  type ConditionResult,
  FIGURES,
  type FigureKey,
  type Figures,
  medianOf,
  pathText,
  ratioOf,
  resultPanels,
  resultTable,
  type Round,
} from "./bench/figures.ts";
import { type Circumstances, circumstances, circumstancesText } from "./bench/machine.ts";
import { measure } from "./bench/measure.ts";
import { allPeers, BASE } from "./bench/peers.ts";
import { PATH_TOOLS, requireMachine, ROOT, runProgram, say, TOOLS } from "./bench/program.ts";
import { Progress } from "./bench/progress.ts";
import { numberText } from "./bench/table.ts";
import { type Path, Testbed } from "./bench/testbed.ts";
import type { Peer } from "./bench/tunnel.ts";

const DOCUMENT = join(ROOT, "docs/benchmark.md");

/** Ours stand out. */
const COLOURS = { veth: "m2", "wireguard-go": "m0", openvpn: "m1", omail: "s0", "omail-sync": "s1" };

/** What was measured; the content of the JSON file. */
interface Result extends Circumstances {
  readonly peers: readonly string[];
  readonly conditions: readonly (ConditionResult & {
    /** Medians over the rounds, and medians of the ratios to {@link BASE} within a round; null: not measured. */
    readonly medians: Summary;
    readonly ratios: Summary;
  })[];
}

/** One number for every peer and figure. */
type Summary = Readonly<Record<string, Readonly<Record<string, number | null>>>>;

/** The peers that can run here. @throws {OmailError} when we cannot measure at all */
function readyPeers(options: BenchOptions): readonly Peer[] {
  const isPlain = options.paths.every(({ lossPercent, rate }) => lossPercent === 0 && rate === null);
  requireMachine(isPlain ? TOOLS : { ...TOOLS, ...PATH_TOOLS });
  const wanted = allPeers(ROOT, options.wireguardGo).filter(({ name }) => options.peers.includes(name));
  const absent = wanted.find(({ name }) => name === "omail")?.obstacle;
  if (absent) throw new OmailError(absent);
  for (const { name, obstacle } of wanted) if (obstacle !== null) say(`${name} is skipped: ${obstacle}`);
  return wanted.filter(({ obstacle }) => obstacle === null);
}

/** The peers in another order each round, so that none always comes first. */
function inTurn(peers: readonly Peer[], round: number): readonly Peer[] {
  const first = round % peers.length;
  return [...peers.slice(first), ...peers.slice(0, first)];
}

/** Starts one peer and measures it; says each figure as it is known. */
async function measurePeer(
  bed: Testbed,
  peer: Peer,
  options: BenchOptions,
  prefix: string,
): Promise<Figures> {
  const report = (key: FigureKey, value: number): void => {
    say(`  ${prefix}: ${FIGURES.find((figure) => figure.key === key)?.label} ${numberText(value)}`);
  };
  const failed = (test: string, error: unknown): void =>
    say(`  ${prefix}: ${test} failed: ${messageOf(error)}`);
  const { tests, seconds } = options;
  return measure({ bed, tunnel: await peer.start(bed), tests, seconds, report, failed });
}

/** All rounds on one path. A peer that fails in one is left out of it. */
async function measurePath(
  path: Path,
  peers: readonly Peer[],
  options: BenchOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<ConditionResult> {
  const rounds: Round[] = [];
  const bed = new Testbed(signal, { path });
  try {
    await bed.open();
    for (let round = 0; round < options.rounds; round++) {
      const figures: Record<string, Figures> = {};
      for (const peer of inTurn(peers, round)) {
        const place = `round ${round + 1} of ${options.rounds}, ${pathText(path)}`;
        say(`[${progress.text(performance.now())}] ${place}: ${peer.name}`);
        try {
          figures[peer.name] = await measurePeer(bed, peer, options, peer.name);
        } catch (error) {
          signal.throwIfAborted();
          say(`  ${peer.name} failed: ${messageOf(error)}`);
        } finally {
          await bed.stop();
        }
        progress.advance();
      }
      rounds.push(figures);
    }
  } finally {
    await bed.close();
  }
  return { path, rounds };
}

function summary(names: readonly string[], of: (name: string, key: FigureKey) => number | null): Summary {
  const figures = (name: string) => FIGURES.map(({ key }) => [key, of(name, key)] as const);
  return Object.fromEntries(names.map((name) => [name, Object.fromEntries(figures(name))]));
}

function resultOf(
  about: Circumstances,
  names: readonly string[],
  results: readonly ConditionResult[],
): Result {
  const conditions = results.map((result) => ({
    ...result,
    medians: summary(names, (name, key) => medianOf(result.rounds, name, key)),
    ratios: summary(names, (name, key) => ratioOf(result.rounds, name, BASE, key)),
  }));
  return { ...about, peers: names, conditions };
}

/** The tables, a heading over each when there are several. */
function tables(
  results: readonly ConditionResult[],
  names: readonly string[],
  options: BenchOptions,
): string {
  return results
    .map(({ path, rounds }) => {
      const table = resultTable(rounds, names, BASE, options.tests);
      return results.length === 1 ? table : `**${pathText(path)}**\n\n${table}`;
    })
    .join("\n\n");
}

/** Writes the part of the document that is this program's, and its picture. */
function writeDocument(
  about: Circumstances,
  results: readonly ConditionResult[],
  names: readonly string[],
  options: BenchOptions,
): void {
  const part = options.name === "" ? "benchmark" : `benchmark-${options.name}`;
  const rounds = `medians of interleaved rounds (${options.rounds}), ${options.seconds} s a run`;
  const picture = `images/${part}.svg`;
  const first = results[0]!;
  const conditions = results.length === 1 ? `${pathText(first.path)}; ` : "";
  const chart = drawBarChart({
    title: "OMail VPN beside other tunnels",
    notes: [
      `${about.date.slice(0, 10)}: ${about.cpu}, Linux ${about.kernel}; both ends and the traffic on this one machine`,
      `${conditions}${rounds}; ratios are to ${BASE}`,
    ],
    panels: resultPanels(results, names, BASE, options.tests),
    unscaled: "veth",
    colours: COLOURS,
  });
  const content = [
    `![${rounds}; the figures are in the table below](${picture})`,
    `${conditions}${rounds}.`,
    circumstancesText(about),
    tables(results, names, options),
  ].join("\n\n");
  writeFileSync(join(ROOT, "docs", picture), chart);
  const before = existsSync(DOCUMENT) ? readFileSync(DOCUMENT, "utf8") : "# Benchmark\n";
  writeFileSync(DOCUMENT, replacePart(before, part, "bun run bench", content));
  say(`wrote docs/benchmark.md and docs/${picture}`);
}

/** @returns the exit status */
async function main(signal: AbortSignal): Promise<number> {
  const args = Bun.argv.slice(2);
  const options = readBenchOptions(args);
  if (options === null) {
    console.log(USAGE);
    return EXIT.ok;
  }
  const peers = readyPeers(options);
  const names = peers.map(({ name }) => name);
  const progress = new Progress(options.paths.length * options.rounds * peers.length, performance.now());
  const results: ConditionResult[] = [];
  for (const path of options.paths) results.push(await measurePath(path, peers, options, progress, signal));
  const about = circumstances("bench", args, peers);
  console.log(tables(results, names, options));
  if (options.json !== null)
    writeFileSync(options.json, `${JSON.stringify(resultOf(about, names, results), null, 2)}\n`);
  if (options.write) writeDocument(about, results, names, options);
  const isComplete = results.every(({ rounds }) =>
    rounds.every((round) => names.every((name) => round[name] !== undefined)),
  );
  return isComplete ? EXIT.ok : EXIT.failed;
}

await runProgram(main);
