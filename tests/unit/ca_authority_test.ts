import { expect, test } from "bun:test";
import { chmodSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { initAuthority, openAuthority } from "../../lib/ca_authority.ts";
import { caPaths, readCrl } from "../../lib/ca_store.ts";
import { UsageError } from "../../lib/errors.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratchDirectory = scratchDirectories();
const NOW_MS = Date.UTC(2026, 5, 1);
const DAY_MS = 86_400_000;
const ALICE = { name: "alice", use: "client", hosts: [], validDays: 10 } as const;

async function authorityIn(stateDir: string) {
  await initAuthority(stateDir, { name: "ours", validDays: 3650 }, NOW_MS);
  return openAuthority(stateDir);
}

test("initAuthority() makes one authority, for its owner's eyes only", async () => {
  const stateDir = scratchDirectory();
  await authorityIn(stateDir);
  const paths = caPaths(stateDir);
  const modeOf = (path: string): number => statSync(path).mode & 0o777;
  expect([paths.directory, paths.issued].map(modeOf)).toEqual([0o700, 0o700]);
  expect([paths.cert, paths.key, paths.crl].map(modeOf)).toEqual([0o600, 0o600, 0o600]);
  await expect(authorityIn(stateDir)).rejects.toThrow(/there is one already/);
  expect(readdirSync(paths.directory).toSorted()).toEqual(["ca.key", "ca.pem", "crl.pem", "issued"]);
});

test("openAuthority() refuses a missing authority, and a key that others can read", async () => {
  const stateDir = scratchDirectory();
  expect(() => openAuthority(stateDir)).toThrow(/cert init/);
  await authorityIn(stateDir);
  chmodSync(caPaths(stateDir).key, 0o640);
  expect(() => openAuthority(stateDir)).toThrow(
    /ca.key": it holds a key and other users can reach it \(mode 0640\)/,
  );
});

test("list() tells valid, expired, early and revoked certificates apart", async () => {
  const authority = await authorityIn(scratchDirectory());
  const first = await authority.issue(ALICE, NOW_MS);
  await authority.issue({ ...ALICE, name: "bob" }, NOW_MS - 20 * DAY_MS);
  await authority.issue({ ...ALICE, name: "carol" }, NOW_MS + 20 * DAY_MS);
  await authority.issue(
    { name: "vpn", use: "server", hosts: ["vpn.example", "192.0.2.1"], validDays: 5 },
    NOW_MS,
  );
  await authority.revoke([first.serial], NOW_MS);
  const states = (await authority.list(NOW_MS)).map(({ name, use, state }) => `${name} ${use} ${state}`);
  expect(states.toSorted()).toEqual([
    "alice client revoked",
    "bob client expired",
    "carol client not yet valid",
    "vpn server valid",
  ]);
  expect((await authority.find("vpn", NOW_MS))[0]?.hosts).toEqual(["vpn.example", "192.0.2.1"]);
});

test("find() takes a name, a serial number or its beginning", async () => {
  const authority = await authorityIn(scratchDirectory());
  const [first, second] = [await authority.issue(ALICE, NOW_MS), await authority.issue(ALICE, NOW_MS)];
  const found = async (wanted: string) => (await authority.find(wanted, NOW_MS)).map(({ serial }) => serial);
  expect((await found("alice")).toSorted()).toEqual([first.serial, second.serial].toSorted());
  expect(await found(first.serial.toUpperCase())).toEqual([first.serial]);
  expect(await found(first.serial.replaceAll(/(..)(?=.)/g, "$1:"))).toEqual([first.serial]);
  expect(await found(first.serial.slice(0, 8))).toEqual([first.serial]);
  await expect(found("dave")).rejects.toThrow(/No certificate of "dave" was issued/);
});

test("renew() keeps name and key, revoke() keeps what was revoked before", async () => {
  const stateDir = scratchDirectory();
  const authority = await authorityIn(stateDir);
  const first = await authority.issue(ALICE, NOW_MS);
  const [entry] = await authority.find("alice", NOW_MS);
  const second = await authority.renew(entry!, 20, NOW_MS);
  expect(second.serial).not.toBe(first.serial);
  expect(second.keyPem).toBeNull();
  const before = readCrl(stateDir);
  await Promise.all([
    authority.revoke([first.serial], NOW_MS),
    authority.revoke([second.serial], NOW_MS + 5000),
  ]);
  expect(readCrl(stateDir)).not.toBe(before);
  const revoked = (await authority.list(NOW_MS)).map(({ revokedMs }) => revokedMs);
  expect(revoked.toSorted()).toEqual([NOW_MS, NOW_MS + 5000]);
  await authority.revoke([first.serial], NOW_MS + 9000);
  expect((await authority.find(first.serial, NOW_MS))[0]?.revokedMs).toBe(NOW_MS);
});

test("issue() refuses names and hosts that could mean something else", async () => {
  const authority = await authorityIn(scratchDirectory());
  for (const name of ["", "../x", "a\nb", "-f", "x".repeat(65)]) {
    await expect(authority.issue({ ...ALICE, name }, NOW_MS)).rejects.toBeInstanceOf(UsageError);
  }
  for (const host of ["a b", "a/b", "", "a\u0000", "-x"]) {
    await expect(authority.issue({ ...ALICE, use: "server", hosts: [host] }, NOW_MS)).rejects.toThrow(
      /DNS name/,
    );
  }
});

test("a damaged file is named", async () => {
  const stateDir = scratchDirectory();
  const authority = await authorityIn(stateDir);
  const { serial } = await authority.issue(ALICE, NOW_MS);
  const { crl, issued } = caPaths(stateDir);
  const good = readCrl(stateDir);
  writeFileSync(crl, good.slice(0, 100));
  await expect(authority.revoke([serial], NOW_MS)).rejects.toThrow(/ca\/crl.pem": block 1 of 1 is cut off/);
  writeFileSync(crl, good);
  writeFileSync(join(issued, "ab12.pem"), "garbage");
  await expect(authority.list(NOW_MS)).rejects.toThrow(/issued\/ab12.pem": expected PEM text/);
});
