/** Finds the known name that a mistyped one probably stands for. */

/**
 * Edit distance of two short names with insertion, removal, substitution and exchange of neighbours
 * (optimal string alignment).
 */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const cost = a[row - 1] === b[column - 1] ? 0 : 1;
      let best = Math.min(
        (current[column - 1] ?? 0) + 1,
        (previous[column] ?? 0) + 1,
        (previous[column - 1] ?? 0) + cost,
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        best = Math.min(best, (before[column - 2] ?? 0) + 1);
      }
      current.push(best);
    }
    before = previous;
    previous = current;
  }
  return previous[b.length] ?? 0;
}

/** Longest name that is compared: the names come from a person, and the comparison is quadratic. */
const MAX_NAME_LENGTH = 64;

/** The known name nearest to `name`, or null when none is near enough to be meant. */
export function nearestName(name: string, known: Iterable<string>): string | null {
  if (name.length > MAX_NAME_LENGTH) return null;
  let nearest: string | null = null;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    // A beginning that was cut off ("split" for "split-tunnel") is as near as one wrong letter.
    const begins = name.length >= 3 && candidate.startsWith(name);
    const distance = begins ? 1 : editDistance(name, candidate);
    if (distance < least && distance < candidate.length) {
      least = distance;
      nearest = candidate;
    }
  }
  return nearest;
}

/** A question to put behind an error, ` (did you mean "x"?)`, or nothing. */
export function suggestion(name: string, known: Iterable<string>, prefix = ""): string {
  const nearest = nearestName(name, known);
  return nearest === null ? "" : `, did you mean "${prefix}${nearest}"?`;
}
