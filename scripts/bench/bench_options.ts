/** The options of `bun run bench`. Pure. */

import { UsageError } from "../../lib/errors.ts";
import { TEST_NAMES, type TestName } from "./figures.ts";
import { BASE } from "./peers.ts";
import { countOption, namesOption, readCommandLine } from "./program.ts";
import { FREE_PATH, type Path } from "./testbed.ts";

/** Those that are measured if none is named: data over UDP. */
const USUAL_PEERS = ["veth", "wireguard-go", "openvpn", "omail", "omail-sync"] as const;
export const PEER_NAMES = [...USUAL_PEERS, "openvpn-tcp", "omail-tcp", "omail-sync-tcp"] as const;

export const USAGE = `Use: bun run bench [OPTIONS]

Compares the executables of \`bun run build\` with every other tunnel that is installed. Needs root; the network
namespaces are its own. Writes docs/benchmark.md and docs/images/benchmark.svg.

  --rounds N            rounds of all peers in turn (default 3)
  --seconds N           length of one iperf3 run (default 3)
  --peers LIST          which of ${PEER_NAMES.join(",")} (default
                        those without -tcp that are there)
  --tests LIST          which of ${TEST_NAMES.join(",")} (default all)
  --loss LIST           percent of the outer UDP datagrams that are lost at random each way, such as 0.1,1,3
  --cc LIST             congestion control of TCP, such as cubic,bbr
  --rate LIST           a bottleneck each way, such as 50mbit,200mbit
  --wireguard-go FILE   the program to compare with (default: wireguard-go on PATH)
  --name NAME           write to the part benchmark-NAME and its own picture instead
  --json FILE           write every figure of every round
  --no-files            write no document and no picture

Lists are separated by commas; every combination of --loss, --cc and --rate is measured.`;

export interface BenchOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly peers: readonly string[];
  readonly tests: readonly TestName[];
  readonly paths: readonly Path[];
  readonly wireguardGo: string;
  /** Empty for the main part of the document. */
  readonly name: string;
  readonly json: string | null;
  readonly write: boolean;
}

const VALUED = [
  "rounds",
  "seconds",
  "peers",
  "tests",
  "loss",
  "cc",
  "rate",
  "wireguard-go",
  "name",
  "json",
] as const;

/** @returns null when only the help is wanted. @throws {UsageError} */
export function readBenchOptions(args: readonly string[]): BenchOptions | null {
  const line = readCommandLine(args, VALUED, ["no-files"], USAGE);
  if (line === null) return null;
  const { values, flags, words } = line;
  if (words.length > 0) throw new UsageError(`Cannot use "${words[0]}": expected options only\n${USAGE}`);
  return {
    rounds: countOption("rounds", values.rounds, 3, 100),
    seconds: countOption("seconds", values.seconds, 3, 600),
    peers: values.peers === undefined ? USUAL_PEERS : namesOption("peers", values.peers, PEER_NAMES),
    tests: namesOption("tests", values.tests, TEST_NAMES),
    paths: pathsOf(values.loss, values.cc, values.rate),
    wireguardGo: values["wireguard-go"] ?? BASE,
    name: nameOption(values.name ?? ""),
    json: values.json ?? null,
    write: !flags.has("no-files"),
  };
}

/** Every combination of the three lists. @throws {UsageError} */
export function pathsOf(loss?: string, congestion?: string, rate?: string): readonly Path[] {
  const losses = loss?.split(",").map(lossOption) ?? [FREE_PATH.lossPercent];
  const controls = congestion?.split(",").map(congestionOption) ?? [FREE_PATH.congestion];
  const rates = rate?.split(",").map(rateOption) ?? [FREE_PATH.rate];
  return rates.flatMap((one) =>
    losses.flatMap((lossPercent) =>
      controls.map((control) => ({ lossPercent, congestion: control, rate: one })),
    ),
  );
}

function lossOption(text: string): number {
  const percent = Number(text);
  if (text.trim() !== "" && percent >= 0 && percent < 100) return percent;
  throw new UsageError(`Cannot use --loss "${text}": expected percent from 0 to under 100, such as 0.1`);
}

function congestionOption(text: string): string {
  if (/^[a-z0-9_-]{1,15}$/.test(text)) return text;
  throw new UsageError(`Cannot use --cc "${text}": expected the name of a congestion control, such as bbr`);
}

function rateOption(text: string): string {
  if (/^[1-9]\d*(k|m|g)bit$/.test(text)) return text;
  throw new UsageError(`Cannot use --rate "${text}": expected a rate such as 50mbit`);
}

function nameOption(text: string): string {
  if (/^[a-z0-9-]*$/.test(text)) return text;
  throw new UsageError(`Cannot use --name "${text}": expected small letters, digits and hyphens`);
}
