/** What the calm measurements have in common: a scenario, what it measures of each peer, and the table of that. */

import type { CalmOptions } from "./calm_options.ts";
import { median, type Sample } from "./statistics.ts";
import { countText, markdownTable, numberText, ratioText } from "./table.ts";
import type { Path, Testbed } from "./testbed.ts";
import type { Tunnel } from "./tunnel.ts";

/** Columns of the table: by the figure's key what it is, with its unit. */
export type Columns = Readonly<Record<string, string>>;

/** A running tunnel that a scenario measures. */
export interface Running {
  readonly bed: Testbed;
  readonly tunnel: Tunnel;
  readonly options: CalmOptions;
}

/** What one run of a scenario found of one peer; a figure that the peer does not have, or that never came, is null. */
export interface Found {
  readonly figures: Readonly<Record<string, number | null>>;
  /** Values over time by name, for the picture. */
  readonly series?: Readonly<Record<string, readonly Sample[]>>;
}

/** Found by the name of the peer, in one round. */
export type FoundRound = Readonly<Record<string, Found>>;

/** One question about calm, and how it is answered. */
export interface Scenario {
  readonly name: string;
  readonly title: string;
  /** What is done, for the reader of the document. */
  readonly about: string;
  readonly columns: Columns;
  /** Peers that the question makes sense for. */
  readonly peers: readonly string[];
  /** Clients that it needs; one if not given. */
  readonly clients?: (options: CalmOptions) => number;
  /** Each is measured by itself; the free path if not given. */
  readonly paths?: readonly Path[];
  measure(running: Running): Promise<Found>;
  /** A picture of the last round. */
  readonly picture?: { readonly file: string; draw(found: FoundRound, notes: readonly string[]): string };
}

export const OMAIL_PEERS = ["omail", "omail-sync"] as const;
export const TUNNELS = ["wireguard-go", ...OMAIL_PEERS] as const;
/** Those whose data goes by TCP. */
export const STREAMS = ["openvpn-tcp", "omail-tcp", "omail-sync-tcp"] as const;
export const EVERYTHING = ["veth", ...TUNNELS] as const;

/** Median of a figure over the rounds that have it. */
function medianFound(rounds: readonly FoundRound[], peer: string, key: string): number | null {
  const values = rounds.map((round) => round[peer]?.figures[key]);
  return median(values.filter((value) => value !== undefined && value !== null));
}

/** Median of the ratios within a round to the base peer's figure. */
function ratioFound(rounds: readonly FoundRound[], peer: string, base: string, key: string): number | null {
  const ratios = rounds.flatMap((round) => {
    const value = round[peer]?.figures[key] ?? null;
    const reference = round[base]?.figures[key] ?? null;
    return value === null || reference === null || reference === 0 ? [] : [value / reference];
  });
  return median(ratios);
}

/** Counts stay whole. */
function cellText(value: number | null): string {
  return value !== null && Number.isInteger(value) ? countText(value) : numberText(value);
}

/** A row for each peer, then the ratios of ours to `base`, where it was measured. */
export function foundTable(
  columns: Columns,
  peers: readonly string[],
  rounds: readonly FoundRound[],
  base: string,
): string {
  const keys = Object.keys(columns);
  const rows = peers.map((peer) => [peer, ...keys.map((key) => cellText(medianFound(rounds, peer, key)))]);
  const compared = peers.includes(base) ? peers.filter((peer) => peer.startsWith("omail")) : [];
  const ratios = compared.map((peer) => [
    `${peer} / ${base}`,
    ...keys.map((key) => ratioText(ratioFound(rounds, peer, base, key))),
  ]);
  return markdownTable(["median", ...Object.values(columns)], [...rows, ...ratios]);
}
