import { expect, test } from "bun:test";
import { chmodSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { encodeProfile, type Profile } from "../../lib/profile.ts";
import { importedProfiles, loadProfile, saveProfile } from "../../lib/profile_store.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratchDirectory = scratchDirectories();
const profile: Profile = { name: "work", server: ["vpn.example"], user: "alice" };

test("saveProfile() keeps a profile for its owner, by its name", () => {
  const stateDir = scratchDirectory();
  expect(importedProfiles(stateDir)).toEqual([]);
  const path = saveProfile(stateDir, profile, { replace: false });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(stateDir, "profiles")).mode & 0o777).toBe(0o700);
  saveProfile(stateDir, { ...profile, name: "home" }, { replace: false });
  expect(importedProfiles(stateDir)).toEqual(["home", "work"]);
  expect(loadProfile("work", stateDir)).toEqual({ profile, path });
});

test("saveProfile() replaces only when it is told to", () => {
  const stateDir = scratchDirectory();
  saveProfile(stateDir, profile, { replace: false });
  const changed = { ...profile, user: "bob" };
  expect(() => saveProfile(stateDir, changed, { replace: false })).toThrow(
    /there is a profile of that name.*--replace/,
  );
  saveProfile(stateDir, changed, { replace: true });
  expect(loadProfile("work", stateDir).profile.user).toBe("bob");
});

test("loadProfile() takes a file, too, and refuses one that others can read or that is not there", () => {
  const stateDir = scratchDirectory();
  const path = join(stateDir, "mine.json");
  writeFileSync(path, encodeProfile(profile), { mode: 0o600 });
  expect(loadProfile(path, stateDir).profile).toEqual(profile);
  chmodSync(path, 0o644);
  expect(() => loadProfile(path, stateDir)).toThrow(/mode 0644/);
  saveProfile(stateDir, profile, { replace: false });
  expect(() => loadProfile("wrok", stateDir)).toThrow(
    /There is no "wrok": expected a file, or the imported work/,
  );
  expect(() => loadProfile("../profiles/none", stateDir)).toThrow(/There is no/);
});
