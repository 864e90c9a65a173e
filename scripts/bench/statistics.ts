/** The arithmetic of measurements: medians, percentiles, fairness, drift. Pure. */

/** The middle value, or the mean of the two middle ones; null of nothing. */
export function median(values: readonly number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const upper = sorted[sorted.length >> 1];
  const lower = sorted[(sorted.length - 1) >> 1];
  return upper === undefined || lower === undefined ? null : (lower + upper) / 2;
}

/**
 * The least value that `percent` of all values do not exceed (the nearest-rank method); null of nothing.
 *
 * @param percent over 0, up to 100
 */
export function percentile(values: readonly number[], percent: number): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  const rank = Math.max(1, Math.ceil((percent / 100) * sorted.length));
  return sorted[rank - 1] ?? null;
}

/**
 * Jain's fairness index (R. Jain, D. Chiu, W. Hawe, DEC-TR-301, 1984): 1 when all shares are equal, 1/n when one has all.
 *
 * @returns null of nothing, or when nobody got anything
 */
export function jainIndex(shares: readonly number[]): number | null {
  const sum = shares.reduce((total, share) => total + share, 0);
  const squares = shares.reduce((total, share) => total + share * share, 0);
  return squares === 0 ? null : (sum * sum) / (shares.length * squares);
}

/**
 * By how much a series grew: median of its last tenth against the median of the first tenth behind the warm-up.
 *
 * @param warmUp share of the series that does not count, 0 to under 1
 * @returns in percent; null when there are too few samples or the series began at zero
 */
export function driftPercent(series: readonly number[], warmUp: number): number | null {
  const settled = series.slice(Math.floor(series.length * warmUp));
  const tenth = Math.ceil(settled.length / 10);
  const first = median(settled.slice(0, tenth));
  const last = median(settled.slice(-tenth));
  if (settled.length < 2 || first === null || last === null || first === 0) return null;
  return (last / first - 1) * 100;
}

/** How long a series needed to change after an event; see {@link reactionTime}. */
export interface Sample {
  readonly seconds: number;
  readonly value: number;
}

/**
 * Seconds from `from` to the first sample that `holds`, looking no further than `until`; null when none does.
 *
 * @param samples in order of time
 */
export function reactionTime(
  samples: readonly Sample[],
  from: number,
  until: number,
  holds: (value: number) => boolean,
): number | null {
  const found = samples.find(({ seconds, value }) => seconds >= from && seconds < until && holds(value));
  return found === undefined ? null : found.seconds - from;
}
