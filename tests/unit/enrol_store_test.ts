import { expect, test } from "bun:test";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { claimEnrolToken, findEnrolToken, writeEnrolToken } from "../../lib/enrol_store.ts";
import { UsageError } from "../../lib/errors.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratchDirectory = scratchDirectories();
const NOW_MS = Date.UTC(2026, 5, 1);
const token = new Uint8Array(16).fill(3);
const record = { user: "alice", expiresMs: NOW_MS + 1000, validDays: 5, profile: "{}" };

test("a token is good until it is claimed or its time is over", () => {
  const stateDir = scratchDirectory();
  expect(findEnrolToken(stateDir, token, NOW_MS).state).toBe("unknown");
  writeEnrolToken(stateDir, token, record, NOW_MS);
  expect(findEnrolToken(stateDir, token, NOW_MS)).toEqual({ state: "good", record });
  expect(findEnrolToken(stateDir, token, NOW_MS + 1001).state).toBe("expired");
  expect(claimEnrolToken(stateDir, token)).toBe(true);
  expect(claimEnrolToken(stateDir, token)).toBe(false);
  expect(findEnrolToken(stateDir, token, NOW_MS)).toEqual({ state: "used", record });
});

test("tokens lie where only their owner looks", () => {
  const stateDir = scratchDirectory();
  writeEnrolToken(stateDir, token, record, NOW_MS);
  const directory = join(stateDir, "enrol");
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  expect(statSync(join(directory, readdirSync(directory)[0]!)).mode & 0o777).toBe(0o600);
});

test("a damaged token is an error that names its file, whatever its bytes", () => {
  const stateDir = scratchDirectory();
  writeEnrolToken(stateDir, token, record, NOW_MS);
  const [name] = readdirSync(join(stateDir, "enrol"));
  const path = join(stateDir, "enrol", name!);
  const content = JSON.stringify({ version: 1, ...record });
  for (const damaged of [
    "",
    "null",
    content.slice(0, -5),
    content.replace('"version":1', '"version":2'),
    "\u0000",
  ]) {
    writeFileSync(path, damaged);
    expect(() => findEnrolToken(stateDir, token, NOW_MS)).toThrow(UsageError);
  }
});
