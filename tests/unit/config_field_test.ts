import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import {
  booleanField,
  choiceField,
  durationField,
  type Field,
  formatDuration,
  interfaceNameField,
  mtuField,
  networksField,
  parseDuration,
} from "../../lib/config_field.ts";
import { check } from "../support/property.ts";

function read<T>(field: Field<T>, value: unknown): T | string {
  const result = v.safeParse(field, value);
  return result.success ? result.output : result.issues[0].message;
}

test("a table of a TOML file where text is expected is quoted as JSON", () => {
  const table: unknown = Object.assign(Object.create(null) as object, { x: 1n });
  for (const field of [networksField, booleanField, mtuField, interfaceNameField]) {
    expect(read<unknown>(field, table)).toContain('{"x":"1"}');
  }
});

describe("parseDuration()", () => {
  test.each([
    ["500ms", 500],
    ["10s", 10_000],
    ["2m", 120_000],
    ["1h", 3_600_000],
    ["1.5s", 1500],
  ])("reads %p as %p ms", (text, milliseconds) => {
    expect(parseDuration(text)).toBe(milliseconds);
  });

  test.each(["", "10", "s", "-1s", "1 s", "1d", "0x1s", "1e3s", "9999999999s"])("refuses %p", (text) => {
    expect(() => parseDuration(text)).toThrow(`"${text}"`);
  });

  test("reads back what formatDuration() writes", () => {
    check(
      fc.property(fc.integer({ min: 0, max: 900_000_000 }), (milliseconds) => {
        expect(parseDuration(formatDuration(milliseconds))).toBe(milliseconds);
      }),
    );
  });
});

test("durationField() names the bounds with units", () => {
  expect(read(durationField(1000, 25_000), "30s")).toBe('Cannot use "30s": expected 1s to 25s');
});

describe("mtuField", () => {
  test.each([
    ["auto", "auto"],
    ["1420", 1420],
    [576, 576],
    [9000, 9000],
  ])("reads %p", (value, mtu) => {
    expect(read(mtuField, value)).toBe(mtu);
  });

  test.each([["575"], [9001], ["1420.5"], ["-1"], ["big"], [true], [1e21]])("refuses %p", (value) => {
    expect(read(mtuField, value)).toContain(`"${value}"`);
  });
});

describe("networksField", () => {
  test("reads lists by comma, lists of texts, and both", () => {
    expect(read(networksField, "10.0.0.0/8, fd00::/8")).toEqual(["10.0.0.0/8", "fd00::/8"]);
    expect(read(networksField, ["10.0.0.0/8,192.0.2.1", "::/0"])).toEqual([
      "10.0.0.0/8",
      "192.0.2.1/32",
      "::/0",
    ]);
    expect(read(networksField, [])).toEqual([]);
  });

  test("refuses host bits, short forms and empty entries, naming the value", () => {
    expect(read(networksField, "10.0.0.1/8")).toContain("10.0.0.0/8");
    expect(read(networksField, "10/8")).toContain('"10"');
    expect(read(networksField, "10.0.0.0/8,")).toContain("an entry is empty");
    expect(read(networksField, [5])).toContain('"5"');
  });
});

test("choiceField() names all choices and the nearest", () => {
  expect(read(choiceField(["text", "json"]), "jsn")).toBe(
    'Cannot use "jsn": expected text or json, did you mean "json"?',
  );
});

test("booleanField takes no words", () => {
  expect(read(booleanField, true)).toBe(true);
  expect(read(booleanField, "yes")).toContain("expected true or false");
});

describe("interfaceNameField", () => {
  test.each(["omail0", "a", "vpn-1.2_x", "x".repeat(15)])("takes %p", (name) => {
    expect(read(interfaceNameField, name)).toBe(name);
  });

  test.each(["", "x".repeat(16), "a/b", "..", "-a", "a b", "a;b", "ä"])("refuses %p", (name) => {
    expect(read(interfaceNameField, name)).toContain(`"${name}"`);
  });
});
