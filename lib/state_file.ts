/** Small files that are made once and kept in the state directory, readable by their owner only. */

import { linkSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "./caught.ts";
import { stateDirError } from "./instance.ts";

/** Readable and writable by the owner only. */
const PRIVATE_MODE = 0o600;

/**
 * Reads a file, or makes it with what `make` gives. Of two programs that make it at once, both get the first one's.
 *
 * @param name inside `stateDir`
 * @throws {SystemError} when the directory cannot be read or written, for example on a full disk
 */
export async function keepOnce(
  stateDir: string,
  name: string,
  make: () => string | Promise<string>,
): Promise<string> {
  const path = join(stateDir, name);
  const kept = readIfThere(stateDir, path);
  if (kept !== null) return kept;
  const content = await make();
  const draft = `${path}.${process.pid}.new`;
  try {
    writeFileSync(draft, content, { mode: PRIVATE_MODE, flush: true });
    // A link fails where a rename would replace what another program has just made.
    linkSync(draft, path);
    return content;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return readFileSync(path, "utf8");
    throw stateDirError(stateDir, error);
  } finally {
    rmSync(draft, { force: true });
  }
}

function readIfThere(stateDir: string, path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw stateDirError(stateDir, error);
  }
}
