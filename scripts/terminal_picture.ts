/**
 * Draws a program's plain output as a picture of a terminal, for the README.
 *
 * Use: bash scripts/demo.sh | bun scripts/terminal_picture.ts 'bash scripts/demo.sh' >docs/images/demo.svg
 */

import { readFileSync } from "node:fs";

const CHARACTER_WIDTH = 8.4;
const LINE_HEIGHT = 20;
const MARGIN = 24;
const BAR_HEIGHT = 36;

function escapeXml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Colour of a line: the prompt, headings (not indented), and the rows below them. */
function colourOf(line: string): string {
  if (line.startsWith("$ ")) return "#7ee787";
  return line.startsWith(" ") ? "#c9d1d9" : "#79c0ff";
}

/** An SVG picture of `lines` in a window; the width follows the longest line. */
function drawTerminal(lines: readonly string[]): string {
  const width = Math.ceil(Math.max(...lines.map((line) => line.length)) * CHARACTER_WIDTH) + 2 * MARGIN;
  const height = lines.length * LINE_HEIGHT + BAR_HEIGHT + MARGIN;
  const buttons = ["#ff5f57", "#febc2e", "#28c840"].map(
    (colour, index) => `<circle cx="${MARGIN + index * 20}" cy="${BAR_HEIGHT / 2}" r="6" fill="${colour}"/>`,
  );
  const rows = lines.map((line, index) => {
    const y = BAR_HEIGHT + (index + 1) * LINE_HEIGHT;
    return `<text x="${MARGIN}" y="${y}" fill="${colourOf(line)}" xml:space="preserve">${escapeXml(line)}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">`,
    `<rect width="${width}" height="${height}" rx="10" fill="#0d1117"/>`,
    ...buttons,
    `<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14">`,
    ...rows,
    "</g>",
    "</svg>",
    "",
  ].join("\n");
}

const shown = process.argv[2] ?? "";
const output = readFileSync(0, "utf8").trimEnd().split("\n");
process.stdout.write(drawTerminal([`$ ${shown}`, ...output]));
