/** What the comparison of tunnels measures, and the arithmetic and text of its result. */

/** Name of a figure in the JSON result. */
export type FigureKey =
  | "pingUs"
  | "upMbps"
  | "downMbps"
  | "bidirMbps"
  | "udp64Pps"
  | "cpuSecondsPerGb"
  | "clientRssMib"
  | "serverRssMib";

/** One line of the table. */
export interface Figure {
  readonly key: FigureKey;
  /** What it is, with its unit. */
  readonly label: string;
  readonly better: "more" | "less";
}

/** All figures, in the order in which they are measured and shown. */
export const FIGURES: readonly Figure[] = [
  { key: "pingUs", label: "ping, median (µs)", better: "less" },
  { key: "upMbps", label: "TCP up (Mbit/s)", better: "more" },
  { key: "cpuSecondsPerGb", label: "CPU of both ends, up (s/GB)", better: "less" },
  { key: "downMbps", label: "TCP down (Mbit/s)", better: "more" },
  { key: "bidirMbps", label: "TCP 4 up + 4 down, sum (Mbit/s)", better: "more" },
  { key: "udp64Pps", label: "UDP of 64 bytes, delivered (packets/s)", better: "more" },
  { key: "clientRssMib", label: "RSS, client (MiB)", better: "less" },
  { key: "serverRssMib", label: "RSS, server (MiB)", better: "less" },
];

/** What was measured of one peer in one round; a figure that failed or has no meaning for the peer is absent. */
export type Figures = Partial<Record<FigureKey, number>>;

/** One round: the figures by the name of the peer. */
export type Round = Readonly<Record<string, Figures>>;

/** The middle value, or the mean of the two middle ones; null of nothing. */
export function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[sorted.length >> 1];
  const lower = sorted[(sorted.length - 1) >> 1];
  return upper === undefined || lower === undefined ? null : (lower + upper) / 2;
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

/** A number with as many decimals as are worth reading; `-` for null. */
export function numberText(value: number | null): string {
  if (value === null) return "-";
  const decimals = value < 10 ? 2 : value < 100 ? 1 : 0;
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** Cells as a Markdown table with aligned columns; the first column is text, the others are set right. */
export function markdownTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((title, column) =>
    Math.max(3, title.length, ...rows.map((row) => row[column]?.length ?? 0)),
  );
  const line = (cells: readonly string[]): string => {
    const padded = widths.map((width, column) => {
      const cell = cells[column] ?? "";
      return column === 0 ? cell.padEnd(width) : cell.padStart(width);
    });
    return `| ${padded.join(" | ")} |`;
  };
  const rule = widths.map((width, column) =>
    column === 0 ? "-".repeat(width) : `${"-".repeat(width - 1)}:`,
  );
  return [line(head), line(rule), ...rows.map(line)].join("\n");
}

/** The result: medians of every peer, then the ratios of the others to `base`, when it was measured. */
export function resultTable(rounds: readonly Round[], peers: readonly string[], base: string): string {
  const compared = peers.includes(base) ? peers.filter((peer) => peer !== base) : [];
  const head = ["median", "better", ...peers, ...compared.map((peer) => `${peer} / ${base}`)];
  const rows = FIGURES.map(({ key, label, better }) => [
    label,
    better,
    ...peers.map((peer) => numberText(medianOf(rounds, peer, key))),
    ...compared.map((peer) => ratioText(ratioOf(rounds, peer, base, key))),
  ]);
  return markdownTable(head, rows);
}

function ratioText(ratio: number | null): string {
  return ratio === null ? "-" : ratio.toFixed(2);
}
