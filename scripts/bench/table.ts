/** Text of results: numbers with as many digits as are worth reading, and Markdown tables. Pure. */

/** A number with as many decimals as are worth reading; `-` for null. */
export function numberText(value: number | null): string {
  if (value === null) return "-";
  const size = Math.abs(value);
  const decimals = size < 10 ? 2 : size < 100 ? 1 : 0;
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

/** A whole number with its thousands apart. */
export function countText(count: number): string {
  return count.toLocaleString("en-US");
}

/** A ratio with two decimals; `-` for null. */
export function ratioText(ratio: number | null): string {
  return ratio === null ? "-" : ratio.toFixed(2);
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
