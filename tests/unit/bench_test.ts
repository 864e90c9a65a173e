import { describe, expect, test } from "bun:test";
import { UsageError } from "../../lib/errors.ts";
import { pathsOf, readBenchOptions } from "../../scripts/bench/bench_options.ts";
import { replacePart } from "../../scripts/bench/document.ts";
import {
  medianOf,
  pathText,
  ratioOf,
  resultPanels,
  resultTable,
  type Round,
} from "../../scripts/bench/figures.ts";
import { parseCpuSeconds, parseRssMib } from "../../scripts/bench/process_usage.ts";
import { durationText, Progress } from "../../scripts/bench/progress.ts";
import { markdownTable, numberText } from "../../scripts/bench/table.ts";
import { FREE_PATH, innerOf, outerOf } from "../../scripts/bench/testbed.ts";

const ROUNDS: readonly Round[] = [
  { "wireguard-go": { upMbps: 1000 }, omail: { upMbps: 1500, pingUs: 80 } },
  { "wireguard-go": { upMbps: 2000 }, omail: { upMbps: 2000 } },
  { omail: { upMbps: 5000 } },
];

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
    [-0.5, "-0.50"],
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

describe("resultPanels()", () => {
  const results = [{ path: FREE_PATH, rounds: ROUNDS }];

  test("has a bar for each peer, with its ratio to the base", () => {
    const [panel] = resultPanels(results, ["veth", "wireguard-go", "omail"], "wireguard-go", ["up"]);
    expect(panel?.title).toBe("TCP up (Mbit/s)");
    expect(panel?.bars).toEqual([
      { name: "wireguard-go", value: 1500, ratio: null },
      { name: "omail", value: 2000, ratio: 1.25 },
    ]);
  });

  test("names the path when there are several", () => {
    const two = [...results, { path: { lossPercent: 1, congestion: "bbr", rate: "50mbit" }, rounds: ROUNDS }];
    const titles = resultPanels(two, ["omail"], "wireguard-go", ["down"]).map(({ title }) => title);
    expect(titles).toEqual([
      "TCP down (Mbit/s), no loss, cubic",
      "TCP down (Mbit/s), 1 % loss, bbr, bottleneck of 50mbit",
    ]);
  });
});

describe("pathsOf()", () => {
  test("is the free path without options", () => {
    expect(pathsOf()).toEqual([FREE_PATH]);
    expect(pathText(FREE_PATH)).toBe("no loss, cubic");
  });

  test("is every combination of the lists", () => {
    const paths = pathsOf("0.1,1", "cubic,bbr", "50mbit").map(pathText);
    expect(paths).toHaveLength(4);
    expect(paths[3]).toBe("1 % loss, bbr, bottleneck of 50mbit");
  });

  test.each([
    ["100", undefined, undefined],
    ["-1", undefined, undefined],
    ["", undefined, undefined],
    ["1,x", undefined, undefined],
    [undefined, "a b", undefined],
    [undefined, undefined, "fast"],
    [undefined, undefined, "0mbit"],
  ])("refuses loss %p, congestion control %p, rate %p", (loss, congestion, rate) => {
    expect(() => pathsOf(loss, congestion, rate)).toThrow(UsageError);
  });
});

describe("readBenchOptions()", () => {
  test("has defaults for all", () => {
    expect(readBenchOptions([])).toMatchObject({ rounds: 3, seconds: 3, name: "", json: null, write: true });
  });

  test("is null for --help", () => {
    expect(readBenchOptions(["--help"])).toBeNull();
  });

  test("keeps the order of figures and peers", () => {
    const options = readBenchOptions(["--tests", "down,up", "--peers", "omail,veth", "--no-files"]);
    expect(options).toMatchObject({ tests: ["up", "down"], peers: ["veth", "omail"], write: false });
  });

  test.each([
    [["--rounds", "0"], 'Cannot use --rounds "0": expected a whole number from 1 to 100'],
    [
      ["--tests", "up,speed"],
      'Cannot use --tests "speed": expected some of rtt,up,down,bidir,pps,loaded,rss',
    ],
    [["--name", "../x"], 'Cannot use --name "../x": expected small letters, digits and hyphens'],
    [["fast"], 'Cannot use "fast": expected options only'],
    [["--frobnicate"], "--frobnicate"],
  ])("refuses %p", (args, message) => {
    expect(() => readBenchOptions(args)).toThrow(message);
  });
});

describe("replacePart()", () => {
  test("adds a part at the end, and replaces it in its place", () => {
    const first = replacePart("# Title\n", "a", "bun run a", "one\n");
    expect(first).toBe("# Title\n\n<!-- begin a: made by bun run a -->\n\none\n\n<!-- end a -->\n");
    const second = replacePart(`${first}\nAfter.\n`, "a", "bun run b", "two");
    expect(second).toBe(
      "# Title\n\n<!-- begin a: made by bun run b -->\n\ntwo\n\n<!-- end a -->\n\nAfter.\n",
    );
  });

  test("fills a part that is still empty, and takes one name for another never", () => {
    const empty = "<!-- begin a -->\n<!-- end a -->\n";
    expect(replacePart(empty, "a", "c", "x")).toBe("<!-- begin a: made by c -->\n\nx\n\n<!-- end a -->\n");
    expect(replacePart(empty, "a-b", "c", "x")).toStartWith(empty);
  });

  test("refuses a name that would end the comment", () => {
    expect(() => replacePart("", "a -->", "c", "x")).toThrow(RangeError);
  });
});

describe("the readers of /proc", () => {
  test("take a program's name for what it is", () => {
    const stat = `77 (a) b (c) S ${Array.from({ length: 49 }, (_, i) => i + 4).join(" ")}`;
    expect(parseCpuSeconds(stat)).toBe((14 + 15) / 100);
  });

  test("find the resident memory, and none of a zombie", () => {
    expect(parseRssMib("VmPeak:\t9 kB\nVmRSS:\t    2048 kB\n")).toBe(2);
    expect(parseRssMib("Name:\tx\n")).toBe(0);
  });
});

describe("Progress", () => {
  test("tells the place, and the rest of the time once a step is over", () => {
    const progress = new Progress(4, 1_000);
    expect(progress.text(1_000)).toBe("1/4");
    progress.advance();
    expect(progress.text(31_000)).toBe("2/4, about 90 s left");
    expect(durationText(300_000)).toBe("5 min");
  });
});

describe("addresses of a test bed", () => {
  test("are different for every client", () => {
    expect([outerOf("client").server, outerOf("client7").client]).toEqual(["10.99.0.2", "10.99.7.1"]);
    expect([innerOf("server"), innerOf("client"), innerOf("client1")]).toEqual([
      "10.77.0.2",
      "10.77.0.1",
      "10.77.0.3",
    ]);
  });
});
