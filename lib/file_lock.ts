/** A short lock between processes: a file that exists while one of them is in its critical section. */

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { errorCode } from "./caught.ts";
import { SystemError } from "./errors.ts";
import { isRunning, ownIdentity, type ProcessIdentity } from "./process_identity.ts";

/** Critical sections last milliseconds; whoever waits longer has met a stuck process. */
const LOCK_TIMEOUT_MS = 5_000;
const LOCK_POLL_MS = 5;
/** A lock file without a readable owner may be one that is just being written; older than this it is debris. */
const UNREADABLE_TRIES = 20;

/**
 * Runs `section` while holding the lock at `path`. A lock whose owner died is broken.
 *
 * @throws {SystemError} when its owner does not let go in {@link LOCK_TIMEOUT_MS}
 * @throws the file system's error when the file cannot be made
 */
export async function withFileLock<T>(path: string, section: () => Promise<T> | T): Promise<T> {
  await acquire(path);
  try {
    return await section();
  } finally {
    rmSync(path, { force: true });
  }
}

async function acquire(path: string): Promise<void> {
  let unreadable = 0;
  for (let waitedMs = 0; waitedMs < LOCK_TIMEOUT_MS; waitedMs += LOCK_POLL_MS) {
    if (create(path)) return;
    const owner = readOwner(path);
    if (owner === null) unreadable++;
    if ((owner !== null && !isRunning(owner)) || unreadable > UNREADABLE_TRIES) rmSync(path, { force: true });
    else await Bun.sleep(LOCK_POLL_MS);
  }
  throw new SystemError(`Cannot lock "${path}": another process holds it; end that process`, "lock", 0);
}

function create(path: string): boolean {
  try {
    writeFileSync(path, JSON.stringify(ownIdentity()), { flag: "wx", mode: 0o600 });
    return true;
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    // A full disk leaves an empty file behind, which would look like somebody's lock.
    if (errorCode(error) === "ENOSPC") rmSync(path, { force: true });
    throw error;
  }
}

function readOwner(path: string): ProcessIdentity | null {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    return isIdentity(value) ? value : null;
  } catch {
    return null; // gone again, or half written: the caller tries once more
  }
}

function isIdentity(value: unknown): value is ProcessIdentity {
  if (typeof value !== "object" || value === null) return false;
  const { bootId, pid, startTime } = value as Record<string, unknown>;
  return typeof bootId === "string" && typeof pid === "number" && typeof startTime === "string";
}
