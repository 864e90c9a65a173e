import { expect, test } from "bun:test";
import { UsageError } from "../../lib/errors.ts";
import { PBKDF2_ITERATIONS } from "../../lib/limits.ts";
import {
  fakeVerifier,
  makeVerifier,
  PasswordKeys,
  prepareText,
  saltForUser,
  saltPassword,
  scramKeys,
} from "../../lib/password.ts";
import vectors from "../vectors/pbkdf2_sha256.json";

const secret = new Uint8Array(32).fill(1);
const utf8 = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(new TextEncoder().encode(text));

test.each(vectors)(
  "saltPassword() matches RFC 7914 for $password",
  async ({ password, salt, iterations, output }) => {
    expect((await saltPassword(password, utf8(salt), iterations)).toHex()).toBe(output);
  },
);

test("prepareText() brings equivalent texts to one form and leaves ASCII alone", () => {
  expect(prepareText("pa ss,=word", "password")).toBe("pa ss,=word");
  expect(prepareText("e\u0301", "password")).toBe("\u00e9");
  expect(prepareText("\u2168", "password")).toBe("IX");
});

test("prepareText() refuses empty, control, format and unassigned characters without repeating them", () => {
  for (const text of ["", "a\tb", "a\u0000", "a\u200bb", "a\u202eb", "a\ufffe", "\ud800"]) {
    expect(() => prepareText(text, "password")).toThrow(UsageError);
  }
  expect(() => prepareText("hunter2\n", "password")).toThrow(/^(?!.*hunter2)/);
});

test("makeVerifier() holds keys that follow from the password and do not show it", async () => {
  const salt = utf8("0123456789abcdef");
  const verifier = await makeVerifier("pencil", salt, 4096);
  const { serverKey } = await scramKeys(await saltPassword("pencil", salt, 4096));
  expect(verifier.serverKey.toHex()).toBe(serverKey.toHex());
  expect(verifier.iterations).toBe(4096);
  expect(JSON.stringify(verifier)).not.toContain("pencil");
});

test("saltForUser() is stable for a secret and a user, and differs between them", async () => {
  const [a, again, b, c] = await Promise.all([
    saltForUser(secret, "alice"),
    saltForUser(secret, "alice"),
    saltForUser(secret, "bob"),
    saltForUser(new Uint8Array(32).fill(2), "alice"),
  ]);
  expect(a.toHex()).toBe(again.toHex());
  expect(new Set([a, b, c].map((salt) => salt.toHex())).size).toBe(3);
});

test("fakeVerifier() looks like a real one: the same salt, the default iterations", async () => {
  const fake = await fakeVerifier(secret, "alice");
  expect(fake.salt.toHex()).toBe((await saltForUser(secret, "alice")).toHex());
  expect(fake.iterations).toBe(PBKDF2_ITERATIONS);
  expect([fake.storedKey.length, fake.serverKey.length]).toEqual([32, 32]);
});

test("PasswordKeys stretches the password once for one salt", async () => {
  const keys = new PasswordKeys("pencil");
  const first = await keys.keysFor(utf8("salt one"), 4096);
  expect(await keys.keysFor(utf8("salt one"), 4096)).toBe(first);
  const other = await keys.keysFor(utf8("salt two"), 4096);
  expect(other.clientKey.toHex()).not.toBe(first.clientKey.toHex());
});
