/** Files with keys in them: written whole and for their owner only, read only when nobody else can read them. */

import { existsSync, linkSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { PrivilegeError, SystemError, UsageError } from "./errors.ts";

/** Readable and writable by the owner only. */
export const PRIVATE_MODE = 0o600;
/** Bits of a file's mode that give others anything. */
const OF_OTHERS = 0o077;

/**
 * Writes a file of mode 0600 beside its place and moves it there, so that no half file is ever seen.
 *
 * @param replace whether a file of that name gives way; otherwise it is an error
 * @throws {UsageError} when the file exists and must not be replaced
 * @throws {PrivilegeError | SystemError} when it cannot be written
 */
export function writePrivateFile(path: string, content: string, { replace }: { replace: boolean }): void {
  const draft = `${path}.${process.pid}.new`;
  try {
    writeFileSync(draft, content, { mode: PRIVATE_MODE, flag: "wx", flush: true });
    if (replace) renameSync(draft, path);
    // a link fails where a rename would replace
    else linkSync(draft, path);
  } catch (error) {
    if (errorCode(error) === "EEXIST")
      throw new UsageError(`Cannot write "${path}": it exists already, expected a new name`);
    throw fileError("write", path, error);
  } finally {
    // Bun's rmSync throws on a path below a file, also when forced
    if (existsSync(draft)) rmSync(draft);
  }
}

/**
 * Reads a file with a key in it.
 *
 * @param what names the file's place among the settings, for example `--key`
 * @throws {UsageError} when it cannot be read, or others than its owner can
 */
export function readPrivateFile(path: string, what: string): string {
  const content = readPlainFile(path, what);
  const mode = statSync(path).mode & 0o777;
  if ((mode & OF_OTHERS) === 0) return content.toString("utf8");
  throw new UsageError(
    `${what}: Cannot use "${path}": it holds a key and other users can reach it (mode ${modeText(mode)}), expected mode 0600; run chmod 600 ${path}`,
  );
}

/** Reads a file without secrets. @throws {UsageError} when it cannot be read */
export function readPlainFile(path: string, what: string): Buffer<ArrayBuffer> {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new UsageError(`${what}: Cannot read "${path}" (${errorCode(error) || messageOf(error)})`);
  }
}

/** The error for a path that cannot be read or written. */
export function fileError(verb: string, path: string, error: unknown): PrivilegeError | SystemError {
  const code = errorCode(error);
  if (code === "EACCES" || code === "EPERM")
    return new PrivilegeError(`Cannot ${verb} "${path}": permission denied, run as root`);
  return new SystemError(`Cannot ${verb} "${path}" (${code || messageOf(error)})`, verb, errnoOf(error));
}

function modeText(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}
