import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { errnoOf, errorCode, messageOf } from "../../lib/caught.ts";

function caught(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error;
  }
  throw new Error("expected an exception");
}

test("errorCode, errnoOf: name and positive number of a system error", () => {
  const error = caught(() => readFileSync("/no/such/file"));
  expect([errorCode(error), errnoOf(error)]).toEqual(["ENOENT", 2]);
});

test("errorCode, errnoOf, messageOf: any other value has none, and its text", () => {
  for (const value of [new Error("x"), "x"]) {
    expect([errorCode(value), errnoOf(value), messageOf(value)]).toEqual(["", 0, "x"]);
  }
});
