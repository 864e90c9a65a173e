import { describe, expect, test } from "bun:test";
import {
  markdownTable,
  median,
  medianOf,
  numberText,
  ratioOf,
  resultTable,
  type Round,
} from "../../scripts/bench/figures.ts";

const ROUNDS: readonly Round[] = [
  { "wireguard-go": { upMbps: 1000 }, omail: { upMbps: 1500, pingUs: 80 } },
  { "wireguard-go": { upMbps: 2000 }, omail: { upMbps: 2000 } },
  { omail: { upMbps: 5000 } },
];

describe("median()", () => {
  test.each([
    [[], null],
    [[7], 7],
    [[10, 9, 1], 9],
    [[4, 1, 3, 2], 2.5],
  ])("of %p is %p", (values, middle) => {
    expect(median(values)).toBe(middle);
  });

  test("leaves its argument in its order", () => {
    const values = [3, 1, 2];
    median(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe("medianOf()", () => {
  test("passes over rounds without the figure", () => {
    expect(medianOf(ROUNDS, "wireguard-go", "upMbps")).toBe(1500);
    expect(medianOf(ROUNDS, "omail", "pingUs")).toBe(80);
  });

  test("is null for a figure that no round has", () => {
    expect(medianOf(ROUNDS, "veth", "upMbps")).toBeNull();
  });
});

describe("ratioOf()", () => {
  test("is the median of the ratios of rounds that have both", () => {
    expect(ratioOf(ROUNDS, "omail", "wireguard-go", "upMbps")).toBe(1.25);
  });

  test("is null without a common round, or over zero", () => {
    expect(ratioOf(ROUNDS, "omail", "wireguard-go", "pingUs")).toBeNull();
    expect(ratioOf([{ a: { pingUs: 1 }, b: { pingUs: 0 } }], "a", "b", "pingUs")).toBeNull();
  });
});

describe("numberText()", () => {
  test.each([
    [null, "-"],
    [0.456, "0.46"],
    [12.34, "12.3"],
    [123.4, "123"],
    [98_765.4, "98,765"],
  ])("of %p is %p", (value, text) => {
    expect(numberText(value)).toBe(text);
  });
});

describe("markdownTable()", () => {
  test("aligns text left and figures right", () => {
    expect(markdownTable(["", "veth"], [["ping", "7"]])).toBe(
      ["|      | veth |", "| ---- | ---: |", "| ping |    7 |"].join("\n"),
    );
  });
});

describe("resultTable()", () => {
  test("shows medians of all peers and ratios to the base", () => {
    const [head = "", , ...rows] = resultTable(ROUNDS, ["wireguard-go", "omail"], "wireguard-go").split("\n");
    expect(head).toContain("omail / wireguard-go");
    const up = rows.find((row) => row.includes("TCP up"))?.split(/ *\| */);
    expect(up).toEqual(["", "TCP up (Mbit/s)", "more", "1,500", "2,000", "1.25", ""]);
  });

  test("has no ratios without the base", () => {
    expect(resultTable(ROUNDS, ["omail"], "wireguard-go")).not.toContain("/ wireguard-go");
  });
});
