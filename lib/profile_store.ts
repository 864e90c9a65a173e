/** Profiles on this machine: files that a person names, and imported ones in the state directory (`profiles/NAME.json`). */

import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "./caught.ts";
import { nameProblem } from "./certificate_name.ts";
import { UsageError } from "./errors.ts";
import { fileError, readPrivateFile, writePrivateFile } from "./private_file.ts";
import { decodeProfile, encodeProfile, type Profile } from "./profile.ts";

const SUFFIX = ".json";

/** A profile, and the name of its file for error messages. */
export interface LoadedProfile {
  readonly profile: Profile;
  readonly path: string;
}

/** Names of the imported profiles. */
export function importedProfiles(stateDir: string): readonly string[] {
  try {
    const names = readdirSync(join(stateDir, "profiles")).filter((name) => name.endsWith(SUFFIX));
    return names.map((name) => name.slice(0, -SUFFIX.length)).toSorted();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return [];
    throw fileError("read", join(stateDir, "profiles"), error);
  }
}

/**
 * Reads a profile.
 *
 * @param source path of a file, or name of an imported profile
 * @throws {UsageError} when there is none, it is damaged, or others can read it
 */
export function loadProfile(source: string, stateDir: string): LoadedProfile {
  const imported = nameProblem(source) === null ? importedPath(stateDir, source) : null;
  const path = imported !== null && !existsSync(source) && existsSync(imported) ? imported : source;
  if (!existsSync(path)) {
    const names = importedProfiles(stateDir).join(" or ");
    throw new UsageError(
      `--profile: There is no "${source}": expected a file${names === "" ? "" : `, or the imported ${names}`}`,
    );
  }
  return { profile: decodeProfile(readPrivateFile(path, "--profile"), `profile "${path}"`), path };
}

/**
 * Keeps a profile under its name.
 *
 * @returns the path of its file
 * @throws {UsageError} when there is one of that name and it must not be replaced
 */
export function saveProfile(stateDir: string, profile: Profile, options: { replace: boolean }): string {
  const path = importedPath(stateDir, profile.name);
  refuseImported(stateDir, profile.name, options);
  try {
    mkdirSync(join(stateDir, "profiles"), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw fileError("make", join(stateDir, "profiles"), error);
  }
  writePrivateFile(path, encodeProfile(profile), options);
  return path;
}

/** @throws {UsageError} when a profile of that name exists and must not be replaced */
export function refuseImported(stateDir: string, name: string, { replace }: { replace: boolean }): void {
  if (replace || !existsSync(importedPath(stateDir, name))) return;
  throw new UsageError(
    `Cannot import "${name}": there is a profile of that name, expected another by --name NAME, or --replace`,
  );
}

function importedPath(stateDir: string, name: string): string {
  return join(stateDir, "profiles", name + SUFFIX);
}
