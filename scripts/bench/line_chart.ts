/** Draws values over time as an SVG: panels one below the other on one time axis, with shaded spans. Pure. */

import { card, line, round, seriesClass, text } from "./svg.ts";
import type { Sample } from "./statistics.ts";
import { numberText } from "./table.ts";

/** One line of a panel. */
export interface Series {
  readonly name: string;
  readonly samples: readonly Sample[];
}

export interface TimePanel {
  readonly title: string;
  readonly series: readonly Series[];
}

/** A shaded span of time. */
export interface Span {
  readonly from: number;
  readonly to: number;
  readonly label: string;
}

export interface TimeChart {
  readonly title: string;
  readonly notes: readonly string[];
  /** Length of the time axis. */
  readonly seconds: number;
  readonly spans: readonly Span[];
  readonly panels: readonly TimePanel[];
}

const WIDTH = 920;
const MARGIN = 28;
const AXIS_WIDTH = 56;
const PANEL_HEIGHT = 170;
const PANEL_STEP = PANEL_HEIGHT + 52;
const PLOT_LEFT = MARGIN + AXIS_WIDTH;
const PLOT_WIDTH = WIDTH - PLOT_LEFT - MARGIN;

/** The chart as an SVG document. */
export function drawTimeChart(chart: TimeChart): string {
  const head = MARGIN + 22 + chart.notes.length * 18 + 34;
  const names = [...new Set(chart.panels.flatMap(({ series }) => series.map(({ name }) => name)))];
  const parts = [text(chart.title, { x: MARGIN, y: MARGIN + 12, size: 18, bold: true })];
  chart.notes.forEach((note, index) => {
    parts.push(text(note, { x: MARGIN, y: MARGIN + 34 + index * 18, colour: "soft", size: 12 }));
  });
  names.forEach((name, index) => {
    const x = WIDTH - MARGIN - (names.length - index - 1) * 120;
    parts.push(
      text(`— ${name}`, { x, y: MARGIN + 12, colour: seriesClass(index), bold: true, anchor: "end" }),
    );
  });
  chart.panels.forEach((panel, index) =>
    parts.push(...drawPanel(panel, head + index * PANEL_STEP, chart, names)),
  );
  const height = head + chart.panels.length * PANEL_STEP - 8;
  return card(WIDTH, height, chart.title, parts);
}

/** The least of 1, 2, 5, 10, 20, 50, ... that is not below `value`. */
export function niceCeiling(value: number): number {
  if (value <= 0) return 1;
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * unit).find((step) => step >= value * (1 - 1e-9))!;
}

function drawPanel(panel: TimePanel, top: number, chart: TimeChart, names: readonly string[]): string[] {
  const values = panel.series.flatMap(({ samples }) => samples.map(({ value }) => value));
  const step = niceCeiling(Math.max(0, ...values) / 4);
  const most = step * Math.max(1, Math.ceil(Math.max(0, ...values) / step));
  const x = (seconds: number) => PLOT_LEFT + (Math.min(seconds, chart.seconds) / chart.seconds) * PLOT_WIDTH;
  const y = (value: number) => top + PANEL_HEIGHT - (value / most) * PANEL_HEIGHT;
  const parts = [text(panel.title, { x: MARGIN, y: top - 12, bold: true })];
  for (const { from, to, label } of chart.spans) {
    const box = `x="${round(x(from))}" y="${top}" width="${round(x(to) - x(from))}" height="${PANEL_HEIGHT}"`;
    parts.push(`<rect ${box} class="band"/>`);
    parts.push(
      text(label, { x: (x(from) + x(to)) / 2, y: top - 12, size: 11, colour: "soft", anchor: "middle" }),
    );
  }
  for (let value = 0; value <= most; value += step) {
    parts.push(line(PLOT_LEFT, y(value), PLOT_LEFT + PLOT_WIDTH, y(value)));
    parts.push(
      text(axisText(value), { x: PLOT_LEFT - 8, y: y(value) + 4, size: 11, colour: "soft", anchor: "end" }),
    );
  }
  const every = niceCeiling(chart.seconds / 12);
  for (let at = 0; at <= chart.seconds; at += every) {
    const style = {
      x: x(at),
      y: top + PANEL_HEIGHT + 16,
      size: 11,
      colour: "soft",
      anchor: "middle",
    } as const;
    parts.push(text(`${axisText(at)} s`, style));
  }
  for (const { name, samples } of panel.series) {
    const points = samples.map(({ seconds, value }) => `${round(x(seconds))},${round(y(value))}`).join(" ");
    parts.push(`<polyline points="${points}" class="line l${seriesClass(names.indexOf(name))}"/>`);
  }
  return parts;
}

function axisText(value: number): string {
  return Number.isInteger(value) ? value.toLocaleString("en-US") : numberText(value);
}
