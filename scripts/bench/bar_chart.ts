/** Draws a comparison as an SVG of small bar charts, one a figure, each with a scale of its own. Pure. */

import { bar, card, line, seriesClass, text } from "./svg.ts";
import { numberText, ratioText } from "./table.ts";

/** One bar; null is drawn as "not measured". */
export interface Bar {
  readonly name: string;
  readonly value: number | null;
  /** Against the base; null for the base itself, or when there is none. */
  readonly ratio: number | null;
}

/** One small chart. */
export interface Panel {
  readonly title: string;
  readonly better: "more" | "less";
  readonly bars: readonly Bar[];
}

export interface BarChart {
  readonly title: string;
  /** Lines below the title: when, where, how. */
  readonly notes: readonly string[];
  readonly panels: readonly Panel[];
  /** Bars of this name set no scale: their figure is written, and a bar that is too long is cut. */
  readonly unscaled: string;
  /** Colour class of `svg.ts` by the name of the bar. */
  readonly colours: Readonly<Record<string, string>>;
}

const WIDTH = 920;
const MARGIN = 28;
const GAP = 36;
const COLUMNS = 2;
const BAR_HEIGHT = 16;
const BAR_STEP = 23;
const PANEL_HEAD = 30;
const NAME_WIDTH = 96;
const VALUE_WIDTH = 104;
/** Of a digit at the figures' size in the widest of the fonts. */
const DIGIT_WIDTH = 7.2;
const PANEL_WIDTH = (WIDTH - 2 * MARGIN - GAP * (COLUMNS - 1)) / COLUMNS;
const BAR_WIDTH = PANEL_WIDTH - NAME_WIDTH - VALUE_WIDTH;

/** The chart as an SVG document. */
export function drawBarChart(chart: BarChart): string {
  const head = MARGIN + 22 + chart.notes.length * 18 + 18;
  const parts = [text(chart.title, { x: MARGIN, y: MARGIN + 12, size: 18, bold: true })];
  chart.notes.forEach((note, index) => {
    parts.push(text(note, { x: MARGIN, y: MARGIN + 34 + index * 18, colour: "soft", size: 12 }));
  });
  let y = head;
  for (let at = 0; at < chart.panels.length; at += COLUMNS) {
    const row = chart.panels.slice(at, at + COLUMNS);
    row.forEach((panel, column) => {
      parts.push(...drawPanel(panel, MARGIN + column * (PANEL_WIDTH + GAP), y, chart));
    });
    y += PANEL_HEAD + Math.max(...row.map(({ bars }) => bars.length)) * BAR_STEP + 14;
  }
  return card(WIDTH, Math.ceil(y + MARGIN - 14), chart.title, parts);
}

function drawPanel(panel: Panel, x: number, y: number, chart: BarChart): string[] {
  const note = `${panel.better} is better`;
  const parts = [
    text(panel.title, { x, y: y + 12, size: 14, bold: true }),
    text(note, { x: x + PANEL_WIDTH, y: y + 12, size: 11, colour: "soft", anchor: "end" }),
    line(x, y + 20, x + PANEL_WIDTH, y + 20),
  ];
  const scaled = panel.bars.filter(({ name }) => name !== chart.unscaled);
  const most = Math.max(...(scaled.length > 0 ? scaled : panel.bars).map(({ value }) => value ?? 0), 1e-9);
  panel.bars.forEach((one, index) => {
    const top = y + PANEL_HEAD + index * BAR_STEP;
    parts.push(...drawBar(one, x, top, most, chart.colours[one.name] ?? seriesClass(index)));
  });
  return parts;
}

function drawBar(
  { name, value, ratio }: Bar,
  x: number,
  top: number,
  most: number,
  colour: string,
): string[] {
  const base = top + BAR_HEIGHT - 4;
  const start = x + NAME_WIDTH;
  const parts = [text(name, { x: start - 8, y: base, size: 12, anchor: "end" })];
  if (value === null) {
    parts.push(text("not measured", { x: start, y: base, size: 12, colour: "soft" }));
    return parts;
  }
  const width = Math.min(1, value / most) * BAR_WIDTH;
  parts.push(bar(start, top, width, BAR_HEIGHT, colour));
  if (value > most) parts.push(cut(start + width - 14, top));
  const figure = numberText(value);
  parts.push(text(figure, { x: start + width + 6, y: base, size: 12 }));
  if (ratio !== null) {
    const x = start + width + 6 + figure.length * DIGIT_WIDTH + 8;
    parts.push(text(`${ratioText(ratio)} ×`, { x, y: base, size: 12, colour: "soft" }));
  }
  return parts;
}

/** Two slanting gaps: the bar is longer than the picture. */
function cut(x: number, top: number): string {
  const gap = (at: number) => `M${at} ${top + BAR_HEIGHT} l5 ${-BAR_HEIGHT} h3 l-5 ${BAR_HEIGHT} z`;
  return `<path d="${gap(x)} ${gap(x + 6)}" class="card" style="stroke:none"/>`;
}
