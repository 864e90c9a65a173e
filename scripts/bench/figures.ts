/** What the comparison of tunnels measures, and the tables and charts of its result. Pure. */

import type { Panel } from "./bar_chart.ts";
import { median } from "./statistics.ts";
import { markdownTable, numberText, ratioText } from "./table.ts";
import type { Path } from "./testbed.ts";

/** A part of the measurement that can be asked for by itself. */
export type TestName = "rtt" | "up" | "down" | "bidir" | "pps" | "loaded" | "rss";

/** Name of a figure in the JSON result. */
export type FigureKey =
  | "pingUs"
  | "ping99Us"
  | "upMbps"
  | "cpuSecondsPerGb"
  | "downMbps"
  | "bidirMbps"
  | "udp64Pps"
  | "loadedPingUs"
  | "rssMib";

/** One line of the table. */
export interface Figure {
  readonly key: FigureKey;
  readonly test: TestName;
  /** What it is, with its unit. */
  readonly label: string;
  readonly better: "more" | "less";
}

/** All figures, in the order in which they are measured and shown. */
export const FIGURES: readonly Figure[] = [
  { key: "pingUs", test: "rtt", label: "ping, median (µs)", better: "less" },
  { key: "ping99Us", test: "rtt", label: "ping, 99th percentile (µs)", better: "less" },
  { key: "upMbps", test: "up", label: "TCP up (Mbit/s)", better: "more" },
  { key: "cpuSecondsPerGb", test: "up", label: "CPU of both ends, up (s/GB)", better: "less" },
  { key: "downMbps", test: "down", label: "TCP down (Mbit/s)", better: "more" },
  { key: "bidirMbps", test: "bidir", label: "TCP 4 up + 4 down, sum (Mbit/s)", better: "more" },
  { key: "udp64Pps", test: "pps", label: "UDP of 64 bytes, delivered (packets/s)", better: "more" },
  { key: "loadedPingUs", test: "loaded", label: "ping beside 100 Mbit/s, median (µs)", better: "less" },
  { key: "rssMib", test: "rss", label: "memory of both ends, RSS (MiB)", better: "less" },
];

export const TEST_NAMES: readonly TestName[] = [...new Set(FIGURES.map(({ test }) => test))];

/** What was measured of one peer in one round; a figure that failed or has no meaning for the peer is absent. */
export type Figures = Partial<Record<FigureKey, number>>;

/** One round: the figures by the name of the peer. */
export type Round = Readonly<Record<string, Figures>>;

/** All rounds on one path. */
export interface ConditionResult {
  readonly path: Path;
  readonly rounds: readonly Round[];
}

/** A path in words. */
export function pathText({ lossPercent, congestion, rate }: Path): string {
  const loss = lossPercent === 0 ? "no loss" : `${lossPercent} % loss`;
  return [loss, congestion, ...(rate === null ? [] : [`bottleneck of ${rate}`])].join(", ");
}

/** Median of a peer's figure over the rounds that have it; null when none has. */
export function medianOf(rounds: readonly Round[], peer: string, key: FigureKey): number | null {
  return median(rounds.map((round) => round[peer]?.[key]).filter((value) => value !== undefined));
}

/**
 * Median of the ratios within a round of a peer's figure to the base peer's; null when no round has both.
 *
 * Ratios are taken round by round, because the speed of a shared machine drifts from round to round.
 */
export function ratioOf(rounds: readonly Round[], peer: string, base: string, key: FigureKey): number | null {
  const ratios: number[] = [];
  for (const round of rounds) {
    const value = round[peer]?.[key];
    const reference = round[base]?.[key];
    if (value !== undefined && reference !== undefined && reference > 0) ratios.push(value / reference);
  }
  return median(ratios);
}

/** The result: medians of every peer, then the ratios of the others to `base`, when it was measured. */
export function resultTable(
  rounds: readonly Round[],
  peers: readonly string[],
  base: string,
  tests: readonly TestName[] = TEST_NAMES,
): string {
  const compared = peers.includes(base) ? peers.filter((peer) => peer !== base) : [];
  const head = ["median", "better", ...peers, ...compared.map((peer) => `${peer} / ${base}`)];
  const rows = FIGURES.filter(({ test }) => tests.includes(test)).map(({ key, label, better }) => [
    label,
    better,
    ...peers.map((peer) => numberText(medianOf(rounds, peer, key))),
    ...compared.map((peer) => ratioText(ratioOf(rounds, peer, base, key))),
  ]);
  return markdownTable(head, rows);
}

/** One small chart for each figure of each path. */
export function resultPanels(
  results: readonly ConditionResult[],
  peers: readonly string[],
  base: string,
  tests: readonly TestName[],
): Panel[] {
  const figures = FIGURES.filter(({ test }) => tests.includes(test));
  return results.flatMap(({ path, rounds }) =>
    figures.map(({ key, label, better }) => ({
      title: results.length === 1 ? label : `${label}, ${pathText(path)}`,
      better,
      bars: peers
        .map((name) => ({
          name,
          value: medianOf(rounds, name, key),
          ratio: name === base ? null : ratioOf(rounds, name, base, key),
        }))
        .filter(({ name, value }) => value !== null || name !== "veth"),
    })),
  );
}
