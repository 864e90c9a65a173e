/**
 * What the charts have in common: a card that is readable on a light and on a dark page, text, colours.
 *
 * Colours are classes, so that one media query changes them all; without support for it the light ones stay. The series
 * colours keep their order for readers who do not tell red from green (Okabe and Ito, 2008).
 */

/** Colour classes of series, light and dark; those with an m step back behind the others. */
const SERIES: Readonly<Record<string, readonly [string, string]>> = {
  s0: ["#0072b2", "#4fb3ff"],
  s1: ["#009e73", "#3ddc97"],
  s2: ["#d55e00", "#ff8f4d"],
  s3: ["#a65a86", "#e08fc0"],
  s4: ["#b58900", "#e3b341"],
  m0: ["#6e7781", "#8b949e"],
  m1: ["#8c959f", "#6e7681"],
  m2: ["#c4cad1", "#484f58"],
};

/** Class of the series at `index`; those beyond the last colour share it. */
export function seriesClass(index: number): string {
  return `s${Math.min(index, 4)}`;
}

const LIGHT = { card: "#ffffff", edge: "#d0d7de", ink: "#1f2328", soft: "#59636e", grid: "#e6e9ed" };
const DARK = { card: "#0d1117", edge: "#30363d", ink: "#e6edf3", soft: "#9da7b3", grid: "#21262d" };

function rules(theme: typeof LIGHT, index: 0 | 1): string {
  const series = Object.entries(SERIES).flatMap(([name, colours]) => [
    `.${name}{fill:${colours[index]}}`,
    `.l${name}{stroke:${colours[index]}}`,
  ]);
  return [
    `.card{fill:${theme.card};stroke:${theme.edge}}`,
    `.ink{fill:${theme.ink}}`,
    `.soft{fill:${theme.soft}}`,
    `.grid{stroke:${theme.grid}}`,
    `.band{fill:${theme.grid};fill-opacity:.55}`,
    ...series,
  ].join("");
}

const STYLE = [
  "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif}",
  ".line{fill:none;stroke-width:2;stroke-linejoin:round}",
  rules(LIGHT, 0),
  `@media(prefers-color-scheme:dark){${rules(DARK, 1)}}`,
].join("");

export function escapeXml(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** Where and how a text stands. */
export interface TextStyle {
  readonly x: number;
  readonly y: number;
  /** Colour class; `ink` if not given. */
  readonly colour?: string;
  readonly size?: number;
  readonly bold?: boolean;
  readonly anchor?: "start" | "middle" | "end";
}

export function text(content: string, style: TextStyle): string {
  const { x, y, colour = "ink", size = 13, bold = false, anchor = "start" } = style;
  const weight = bold ? ' font-weight="600"' : "";
  return `<text x="${round(x)}" y="${round(y)}" class="${colour}" font-size="${size}"${weight} text-anchor="${anchor}">${escapeXml(content)}</text>`;
}

export function bar(x: number, y: number, width: number, height: number, colour: string): string {
  const size = `width="${round(Math.max(1, width))}" height="${round(height)}"`;
  return `<rect x="${round(x)}" y="${round(y)}" ${size} rx="3" class="${colour}"/>`;
}

export function line(x1: number, y1: number, x2: number, y2: number): string {
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" class="grid"/>`;
}

/** Tenths of a pixel are enough. */
export function round(value: number): number {
  return Math.round(value * 10) / 10;
}

/** The whole picture: a card with `title` read out to those who cannot see it, and the parts on it. */
export function card(width: number, height: number, title: string, parts: readonly string[]): string {
  const size = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" ${size} role="img" aria-label="${escapeXml(title)}">`,
    `<style>${STYLE}</style>`,
    `<rect x="0.5" y="0.5" width="${width - 1}" height="${height - 1}" rx="10" class="card"/>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}
