import { describe, expect, test } from "bun:test";
import { flagLayer, flagWidth, listFlag, scanArguments, switchFlag, valueFlag } from "../../cli/flags.ts";

const definitions = {
  mtu: valueFlag("BYTES", "an MTU"),
  password: valueFlag("TEXT", "a password"),
  server: listFlag("HOST", "a server"),
  "no-dns": switchFlag("no DNS"),
  target: { type: "positional", description: "a target" },
} as const;

function scan(...rawArgs: string[]) {
  return scanArguments(rawArgs, definitions);
}

describe("scanArguments()", () => {
  test("reads values apart and behind an equals sign, switches and positionals", () => {
    expect(scan("--mtu", "1400", "a", "--no-dns", "--password=x=y")).toEqual({
      flags: { mtu: "1400", "no-dns": true, password: "x=y" },
      positionals: ["a"],
    });
  });

  test("collects all values of a list", () => {
    expect(scan("--server", "a,b", "--server=c").flags).toEqual({ server: ["a,b", "c"] });
  });

  test("takes a lone dash as a value and as a positional", () => {
    expect(scan("--password", "-", "-")).toEqual({ flags: { password: "-" }, positionals: ["-"] });
  });

  test("takes what follows a double dash as it is", () => {
    expect(scan("--", "--mtu", "--help")).toEqual({ flags: {}, positionals: ["--mtu", "--help"] });
  });

  test("names an unknown flag and the nearest right one, instead of taking its value for a positional", () => {
    expect(() => scan("--mtux", "9")).toThrow('Unknown flag "--mtux", did you mean "--mtu"?');
    expect(() => scan("--dns")).toThrow('Unknown flag "--dns"');
    expect(() => scan("-m", "9")).toThrow('Unknown flag "-m"');
    expect(() => scan("--target", "9")).toThrow('Unknown flag "--target"');
    expect(() => scan("--constructor", "9")).toThrow('Unknown flag "--constructor"');
  });

  test.each([[["--mtu"]], [["--mtu", ""]], [["--mtu="]], [["--mtu", "--no-dns"]], [["--server", ""]]])(
    "refuses a missing or empty value in %p",
    (rawArgs) => {
      expect(() => scan(...rawArgs)).toThrow(/without a value/);
    },
  );

  test("refuses a flag given twice", () => {
    expect(() => scan("--mtu", "1", "--mtu=2")).toThrow("Cannot use --mtu twice");
    expect(() => scan("--no-dns", "--no-dns")).toThrow("Cannot use --no-dns twice");
  });

  test("reads a switch with true or false only", () => {
    expect(scan("--no-dns=false").flags).toEqual({ "no-dns": false });
    expect(() => scan("--no-dns=yes")).toThrow('"yes"');
  });

  test("never shows the value of a password", () => {
    expect(() => scan("--password", "hunter2", "--password", "hunter3")).toThrow(/^(?!.*hunter)/);
  });
});

test("flagWidth() counts the value that stands apart", () => {
  expect(flagWidth("--mtu", definitions)).toBe(2);
  expect(flagWidth("--mtu=1", definitions)).toBe(1);
  expect(flagWidth("--no-dns", definitions)).toBe(1);
  expect(flagWidth("--help", definitions)).toBe(1);
});

test("flagLayer() leaves out flags that are no settings", () => {
  const layer = flagLayer({ mtu: "1", config: "x", json: true });
  expect(layer.values).toEqual({ mtu: "1" });
  expect(layer.describe(["mtu"])).toBe("--mtu");
});
