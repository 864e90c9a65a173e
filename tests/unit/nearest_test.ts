import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { editDistance, nearestName, suggestion } from "../../lib/nearest.ts";
import { check } from "../support/property.ts";

describe("editDistance()", () => {
  test.each([
    ["", "", 0],
    ["mtu", "mtu", 0],
    ["mtux", "mtu", 1],
    ["mut", "mtu", 1],
    ["pasword", "password", 1],
    ["abc", "xyz", 3],
  ])("of %p and %p is %p", (a, b, distance) => {
    expect(editDistance(a, b)).toBe(distance);
  });

  test("is symmetric and zero only for equal names", () => {
    check(
      fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
        expect(editDistance(a, b)).toBe(editDistance(b, a));
        expect(editDistance(a, b) === 0).toBe(a === b);
      }),
    );
  });
});

describe("nearestName()", () => {
  const names = ["mtu", "password", "password-file", "split-tunnel", "nat"];

  test.each([
    ["pasword", "password"],
    ["mtx", "mtu"],
    ["split", "split-tunnel"],
    ["psasword-file", "password-file"],
  ])("of %p is %p", (typed, meant) => {
    expect(nearestName(typed, names)).toBe(meant);
  });

  test("gives nothing for a name that resembles none", () => {
    expect(nearestName("colour", names)).toBeNull();
    expect(nearestName("x", names)).toBeNull();
    expect(nearestName("p".repeat(10_000), names)).toBeNull();
  });
});

test("suggestion() asks a question, or says nothing", () => {
  expect(suggestion("mtux", ["mtu"], "--")).toBe(', did you mean "--mtu"?');
  expect(suggestion("zzzzzz", ["mtu"])).toBe("");
});
