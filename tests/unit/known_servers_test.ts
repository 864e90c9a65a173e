import { expect, test } from "bun:test";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { knownServersInMemory, openKnownServers } from "../../lib/known_servers.ts";
import { memoryLog } from "../support/memory_log.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const makeDirectory = scratchDirectories();
const FINGERPRINT = Array.from({ length: 32 }, () => "AB").join(":");

test("openKnownServers() remembers over restarts, in a file of the owner only", async () => {
  const directory = makeDirectory();
  const { log, lines } = memoryLog();
  const known = await openKnownServers(directory, log);
  expect(known.find("vpn.example:51820")).toBeNull();
  await known.remember("vpn.example:51820", FINGERPRINT);
  const path = join(directory, "known_servers.json");
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(JSON.parse(readFileSync(path, "utf8"))).toEqual({ "vpn.example:51820": FINGERPRINT });
  expect((await openKnownServers(directory, log)).find("vpn.example:51820")).toBe(FINGERPRINT);
  expect(lines).toEqual([]);
});

test("openKnownServers() goes on with a warning when the file is damaged", async () => {
  for (const text of ["{", "null", "[1]", `{"a": 5, "b": "short"}`]) {
    const directory = makeDirectory();
    writeFileSync(join(directory, "known_servers.json"), text);
    const { log } = memoryLog();
    const known = await openKnownServers(directory, log);
    expect(known.find("a")).toBeNull();
    expect(known.find("b")).toBeNull();
  }
});

test("remember() costs a warning when the directory is gone", async () => {
  const { log, lines } = memoryLog();
  const known = await openKnownServers(join(makeDirectory(), "missing"), log);
  await known.remember("a", FINGERPRINT);
  expect(lines.map(({ level }) => level)).toEqual(["warn"]);
  expect(known.find("a")).toBe(FINGERPRINT);
});

test("knownServersInMemory() remembers what it is told", async () => {
  const known = knownServersInMemory();
  await known.remember("a", FINGERPRINT);
  expect([known.find("a"), known.find("b")]).toEqual([FINGERPRINT, null]);
});
