/**
 * Measures how calm the tunnel stays under load: delay, fairness, memory, loss that comes and goes.
 *
 * Use: bun run bench:calm [OPTIONS] [SCENARIO ...], see --help. It makes its own network namespaces and removes them.
 */

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../lib/caught.ts";
import { EXIT, OmailError } from "../lib/errors.ts";
import { type Found, type FoundRound, foundTable, type Scenario } from "./bench/calm.ts";
import { adapt } from "./bench/calm_adapt.ts";
import { bottleneck, idle, logins, pace, pauses, stream, voice } from "./bench/calm_delay.ts";
import { type CalmOptions, calmUsage, isWanted, readCalmOptions } from "./bench/calm_options.ts";
import { connects, fairness, memory } from "./bench/calm_share.ts";
import { replacePart } from "./bench/document.ts";
import { pathText } from "./bench/figures.ts";
import { type Circumstances, circumstances, circumstancesText } from "./bench/machine.ts";
import { allPeers, BASE } from "./bench/peers.ts";
import { cpuSeconds } from "./bench/process_usage.ts";
import { PATH_TOOLS, requireMachine, ROOT, runProgram, say, TOOLS } from "./bench/program.ts";
import { FREE_PATH, type Path, type Started, Testbed } from "./bench/testbed.ts";
import { answersPing, startIperfServers } from "./bench/traffic.ts";
import type { Peer } from "./bench/tunnel.ts";

const DOCUMENT = join(ROOT, "docs/benchmark.md");

const SCENARIOS: readonly Scenario[] = [
  voice,
  logins,
  pauses,
  pace,
  bottleneck,
  stream,
  adapt,
  fairness,
  idle,
  connects,
  memory,
];

/** Programs that use less than this share of a processor are taken to be at rest. */
const AT_REST = 0.1;
const LOOK_MS = 500;
const SETTLE_MS = 20_000;

/** Waits until the tunnel's programs have done what they do at their start; after a while it goes on all the same. */
async function settle(programs: readonly Started[]): Promise<void> {
  for (let waitedMs = 0; waitedMs < SETTLE_MS; waitedMs += LOOK_MS) {
    const before = cpuSeconds(programs);
    await Bun.sleep(LOOK_MS);
    if (cpuSeconds(programs) - before < (AT_REST * LOOK_MS) / 1000) return;
  }
}

/** Clients that run iperf3 at the same time. */
function talkersOf(scenario: Scenario, clients: number): number {
  return scenario === fairness ? clients : 1;
}

async function measureOnce(
  scenario: Scenario,
  peer: Peer,
  path: Path,
  options: CalmOptions,
  signal: AbortSignal,
): Promise<Found> {
  const clients = scenario.clients?.(options) ?? 1;
  const bed = new Testbed(signal, { clients, path });
  try {
    await bed.open();
    const tunnel = await peer.start(bed);
    await bed.until("a ping goes through the tunnel", () => answersPing(bed, tunnel.target), 60_000);
    await startIperfServers(bed, talkersOf(scenario, clients));
    await settle(tunnel.programs);
    return await scenario.measure({ bed, tunnel, options });
  } finally {
    await bed.close();
  }
}

/** All rounds of a scenario on one path. A peer that fails in one is left out of it. */
async function measureRounds(
  scenario: Scenario,
  peers: readonly Peer[],
  path: Path,
  options: CalmOptions,
  signal: AbortSignal,
): Promise<readonly FoundRound[]> {
  const rounds: FoundRound[] = [];
  for (let round = 0; round < options.rounds; round++) {
    const found: Record<string, Found> = {};
    for (const peer of peers) {
      const place = `${scenario.name}, round ${round + 1} of ${options.rounds}, ${pathText(path)}`;
      say(`[${place}] ${peer.name}`);
      try {
        found[peer.name] = await measureOnce(scenario, peer, path, options, signal);
      } catch (error) {
        signal.throwIfAborted();
        say(`  ${peer.name} failed: ${messageOf(error)}`);
      }
    }
    rounds.push(found);
  }
  return rounds;
}

/** What a scenario found on each of its paths. */
interface Result {
  readonly table: string;
  readonly last: FoundRound;
  readonly complete: boolean;
}

async function measureScenario(
  scenario: Scenario,
  all: readonly Peer[],
  options: CalmOptions,
  signal: AbortSignal,
): Promise<Result> {
  const clients = scenario.clients?.(options) ?? 1;
  const peers = all.filter(
    ({ name, mostClients }) => scenario.peers.includes(name) && mostClients >= clients,
  );
  const names = peers.map(({ name }) => name);
  const tables: string[] = [];
  let last: FoundRound = {};
  let complete = true;
  for (const path of scenario.paths ?? [FREE_PATH]) {
    const rounds = await measureRounds(scenario, peers, path, options, signal);
    const table = foundTable(scenario.columns, names, rounds, BASE);
    tables.push(scenario.paths === undefined ? table : `**${pathText(path)}**\n\n${table}`);
    last = rounds.at(-1) ?? {};
    complete &&= rounds.every((round) => names.every((name) => round[name] !== undefined));
  }
  return { table: tables.join("\n\n"), last, complete };
}

/** The peers that take part. @throws {OmailError} when we cannot measure at all */
function readyPeers(options: CalmOptions): readonly Peer[] {
  requireMachine({ ...TOOLS, ...PATH_TOOLS });
  const wanted = allPeers(ROOT, options.wireguardGo).filter(({ name }) => isWanted(name, options));
  for (const { name, obstacle } of wanted) {
    if (obstacle !== null && name !== "openvpn") say(`${name} is skipped: ${obstacle}`);
  }
  const ready = wanted.filter(({ obstacle }) => obstacle === null);
  if (!ready.some(({ name }) => name.startsWith("omail"))) {
    const obstacle = wanted.find(({ name }) => name.startsWith("omail"))?.obstacle;
    throw new OmailError(`Cannot measure OMail: ${obstacle ?? "no engine"}`);
  }
  return ready;
}

function writeResult(scenario: Scenario, result: Result, about: Circumstances): void {
  const picture = scenario.picture;
  const lines = [`**${scenario.title[0]!.toUpperCase()}${scenario.title.slice(1)}.** ${scenario.about}`];
  if (picture !== undefined) {
    const notes = [
      `${about.date.slice(0, 10)}: ${about.cpu}, Linux ${about.kernel}; both ends on this one machine`,
    ];
    writeFileSync(join(ROOT, "docs/images", picture.file), picture.draw(result.last, notes));
    lines.push(`![${scenario.title}](images/${picture.file})`);
  }
  lines.push(result.table, circumstancesText(about));
  const before = existsSync(DOCUMENT) ? readFileSync(DOCUMENT, "utf8") : "# Benchmark\n";
  writeFileSync(DOCUMENT, replacePart(before, scenario.name, "bun run bench:calm", lines.join("\n\n")));
  say(`wrote docs/benchmark.md, ${scenario.name}`);
}

/** @returns the exit status */
async function main(signal: AbortSignal): Promise<number> {
  const args = Bun.argv.slice(2);
  const usage = calmUsage(SCENARIOS);
  const options = readCalmOptions(
    args,
    SCENARIOS.map(({ name }) => name),
    usage,
  );
  if (options === null) {
    console.log(usage);
    return EXIT.ok;
  }
  const peers = readyPeers(options);
  let complete = true;
  for (const scenario of SCENARIOS.filter(({ name }) => options.scenarios.includes(name))) {
    const result = await measureScenario(scenario, peers, options, signal);
    console.log(`${scenario.name}: ${scenario.title}\n\n${result.table}\n`);
    if (options.write) writeResult(scenario, result, circumstances("bench:calm", args, peers));
    complete &&= result.complete;
  }
  return complete ? EXIT.ok : EXIT.failed;
}

await runProgram(main);
