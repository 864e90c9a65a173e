import { expect, test } from "bun:test";
import { UsageError } from "../../lib/errors.ts";
import { fakeVerifier } from "../../lib/password.ts";
import { ServerUsers } from "../../lib/server_users.ts";

const secret = new Uint8Array(32).fill(1);

test("verifierOf() gives a known and an unknown user the same salt and iterations, but not the same keys", async () => {
  const users = new ServerUsers(secret);
  const unknown = await users.verifierOf("alice");
  await users.replace([{ name: "alice", password: "pencil" }]);
  const known = await users.verifierOf("alice");
  expect([known.salt.toHex(), known.iterations]).toEqual([unknown.salt.toHex(), unknown.iterations]);
  expect(known.storedKey.toHex()).not.toBe(unknown.storedKey.toHex());
  expect((await users.verifierOf("bob")).storedKey.toHex()).toBe(
    (await fakeVerifier(secret, "bob")).storedKey.toHex(),
  );
});

test("replace() makes its users the only ones", async () => {
  const users = new ServerUsers(secret);
  await users.replace([{ name: "alice", password: "pencil" }]);
  await users.replace([{ name: "bob", password: "pencil" }]);
  expect(users.all().map(({ name }) => name)).toEqual(["bob"]);
});

test("replace() refuses a name that comes twice and unusable texts, and changes nothing then", async () => {
  const users = new ServerUsers(secret);
  await users.replace([{ name: "alice", password: "pencil" }]);
  const twice = [
    { name: "e\u0301", password: "a" },
    { name: "\u00e9", password: "b" },
  ];
  const wrong = [twice, [{ name: "", password: "a" }], [{ name: "a", password: "" }]];
  for (const entries of wrong) await expect(users.replace(entries)).rejects.toBeInstanceOf(UsageError);
  expect(users.has("alice")).toBe(true);
});

test("ServerUsers refuses a short secret", () => {
  expect(() => new ServerUsers(new Uint8Array(31))).toThrow(UsageError);
});
