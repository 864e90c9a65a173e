import { expect, test } from "bun:test";
import { OmailError } from "../../lib/errors.ts";
import { resolveServer } from "../../lib/resolve.ts";

test("resolveServer() leaves address literals as they are", async () => {
  expect(await resolveServer({ host: "192.0.2.1", port: 1 })).toEqual([{ host: "192.0.2.1", port: 1 }]);
  expect(await resolveServer({ host: "2001:db8::1", port: 2 })).toEqual([{ host: "2001:db8::1", port: 2 }]);
});

test("resolveServer() finds addresses of a name and keeps the port", async () => {
  const found = await resolveServer({ host: "localhost", port: 51820 });
  expect(found.some(({ host }) => host === "127.0.0.1" || host === "::1")).toBe(true);
  expect(found.every(({ port }) => port === 51820)).toBe(true);
});

test("resolveServer() names the host that has no address", async () => {
  const error = await resolveServer({ host: "no such host", port: 1 }).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(OmailError);
  expect(String(error)).toContain(`Cannot resolve "no such host"`);
});
