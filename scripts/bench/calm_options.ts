/** The options of `bun run bench:calm`. Pure. */

import { UsageError } from "../../lib/errors.ts";
import { BASE } from "./peers.ts";
import { choiceOption, countOption, readCommandLine } from "./program.ts";
import { MOST_CLIENTS } from "./testbed.ts";

export interface CalmOptions {
  readonly scenarios: readonly string[];
  readonly engine: "web" | "sync" | "both";
  readonly others: boolean;
  readonly rounds: number;
  readonly seconds: number;
  /** Of the memory scenario. */
  readonly minutes: number;
  readonly clients: number;
  /** Log-ins of the scenario that connects and disconnects. */
  readonly connects: number;
  readonly wireguardGo: string;
  readonly write: boolean;
}

/** @param scenarios name and title of each */
export function calmUsage(scenarios: readonly { readonly name: string; readonly title: string }[]): string {
  const width = Math.max(...scenarios.map(({ name }) => name.length));
  return `Use: bun run bench:calm [OPTIONS] [SCENARIO ...]

Measures how calm the tunnel stays under load, with the executables of \`bun run build\`. Needs root; the network
namespaces are its own. Without a SCENARIO all of them run:

${scenarios.map(({ name, title }) => `  ${name.padEnd(width)}  ${title}`).join("\n")}

  --engine NAME         web, sync or both (default both, as far as the executables take them)
  --omail-only          leave out the other tunnels
  --rounds N            rounds of all peers in turn (default 1)
  --seconds N           length of one run (default 10)
  --minutes N           length of a run of memory (default 10)
  --clients N           clients of fairness and idle (default 10)
  --connects N          log-ins of connects (default 1000)
  --wireguard-go FILE   the program to compare with (default: wireguard-go on PATH)
  --write               put the results into docs/benchmark.md`;
}

const VALUED = ["engine", "rounds", "seconds", "minutes", "clients", "connects", "wireguard-go"] as const;

/** @returns null when only the help is wanted. @throws {UsageError} */
export function readCalmOptions(
  args: readonly string[],
  known: readonly string[],
  usage: string,
): CalmOptions | null {
  const line = readCommandLine(args, VALUED, ["omail-only", "write"], usage);
  if (line === null) return null;
  const { values, flags, words } = line;
  const unknown = words.find((word) => !known.includes(word));
  if (unknown !== undefined)
    throw new UsageError(`Cannot measure "${unknown}": expected some of ${known.join(", ")}`);
  return {
    scenarios: words.length === 0 ? known : known.filter((name) => words.includes(name)),
    engine: choiceOption("engine", values.engine, "both", ["web", "sync", "both"]),
    others: !flags.has("omail-only"),
    rounds: countOption("rounds", values.rounds, 1, 100),
    seconds: countOption("seconds", values.seconds, 10, 600),
    minutes: countOption("minutes", values.minutes, 10, 24 * 60),
    clients: countOption("clients", values.clients, 10, MOST_CLIENTS),
    connects: countOption("connects", values.connects, 1_000, 1_000_000),
    wireguardGo: values["wireguard-go"] ?? BASE,
    write: flags.has("write"),
  };
}

/** Whether a peer takes part. */
export function isWanted(peer: string, { engine, others }: CalmOptions): boolean {
  if (peer === "omail" || peer === "omail-tcp") return engine !== "sync";
  if (peer === "omail-sync" || peer === "omail-sync-tcp") return engine !== "web";
  return others;
}
