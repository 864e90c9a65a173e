import { expect, test } from "bun:test";
import { inspect } from "node:util";
import { Secret } from "../../lib/secret.ts";

test("Secret reveals its value when asked to, and in no other way", () => {
  const secret = new Secret("hunter2");
  expect(secret.reveal()).toBe("hunter2");
  const shown = [
    `${secret}`,
    String(secret),
    JSON.stringify({ secret }),
    inspect(secret),
    inspect({ secret }),
    Bun.inspect(secret),
  ];
  for (const text of shown) expect(text).not.toContain("hunter2");
});
