import { describe, expect, test } from "bun:test";
import { drawBarChart } from "../../scripts/bench/bar_chart.ts";
import { drawTimeChart, niceCeiling } from "../../scripts/bench/line_chart.ts";

const BARS = {
  title: 'A <b> & "c"',
  notes: ["note"],
  panels: [
    {
      title: "speed",
      better: "more",
      bars: [
        { name: "bare", value: 1000, ratio: 10 },
        { name: "base", value: 100, ratio: null },
        { name: "ours", value: 50, ratio: 0.5 },
        { name: "gone", value: null, ratio: null },
      ],
    },
  ],
  unscaled: "bare",
  colours: { ours: "s0" },
} as const;

/** Widths of the bars, in order. */
function barWidths(svg: string): number[] {
  return Array.from(svg.matchAll(/<rect [^>]*width="([\d.]+)"[^>]* rx="3"/g), ([, width]) => Number(width));
}

describe("drawBarChart()", () => {
  const svg = drawBarChart(BARS);

  test("scales by the bars that count, and cuts the one beyond", () => {
    const [bare, base, ours] = barWidths(svg);
    expect(base).toBe(bare!);
    expect(ours).toBeCloseTo(base! / 2, 0);
  });

  test("writes figures and ratios, and says what was not measured", () => {
    for (const text of [">1,000<", ">10.00 ×<", ">100<", ">50.0<", ">0.50 ×<", "not measured"])
      expect(svg).toContain(text);
  });

  test("escapes what a document could take for its own", () => {
    expect(svg).toContain("A &lt;b&gt; &amp; &quot;c&quot;");
    expect(svg).not.toContain("<b>");
  });

  test("has colours for light and dark pages", () => {
    expect(svg).toContain("@media(prefers-color-scheme:dark)");
  });
});

describe("drawTimeChart()", () => {
  const svg = drawTimeChart({
    title: "limit",
    notes: [],
    seconds: 10,
    spans: [{ from: 2, to: 4, label: "loss" }],
    panels: [
      {
        title: "bytes",
        series: [
          {
            name: "web",
            samples: [
              { seconds: 0, value: 0 },
              { seconds: 10, value: 100 },
            ],
          },
        ],
      },
    ],
  });

  test("spans the plot from corner to corner", () => {
    const [[, first, last] = []] = [...svg.matchAll(/points="(\S+) (\S+)"/g)];
    expect([first, last].map((point) => point?.split(",")[0])).toEqual(["84", "892"]);
    expect(Number(first?.split(",")[1])).toBe(Number(last?.split(",")[1]) + 170);
  });

  test("shades the span", () => {
    expect(svg).toMatch(/<rect x="245.6"[^>]*width="161.6"[^>]*class="band"/);
    expect(svg).toContain(">loss<");
  });
});

test.each([
  [0, 1],
  [3, 5],
  [5, 5],
  [0.11, 0.2],
  [12_000, 20_000],
])("niceCeiling(%p) is %p", (value, nice) => {
  expect(niceCeiling(value)).toBeCloseTo(nice);
});
