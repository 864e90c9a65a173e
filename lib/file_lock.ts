/**
 * A short lock between processes: flock(2) on a file that exists while one of them is in its critical section.
 *
 * The kernel lets go when a process dies, so there is no lock of a dead one to be broken, and no moment in which two
 * could break it. The file is removed at the end; whoever had it open meanwhile finds that it is not that file any more.
 */

import { closeSync, fstatSync, openSync, rmSync, statSync } from "node:fs";
import { SystemError } from "./errors.ts";
import { flock } from "./libc.ts";

/** Critical sections last milliseconds; whoever waits longer has met a stuck process. */
const LOCK_TIMEOUT_MS = 5_000;
const LOCK_POLL_MS = 5;

/**
 * Runs `section` while holding the lock at `path`.
 *
 * @throws {SystemError} when its owner does not let go in {@link LOCK_TIMEOUT_MS}
 * @throws the file system's error when the file cannot be made
 */
export async function withFileLock<T>(path: string, section: () => Promise<T> | T): Promise<T> {
  const fd = await acquire(path);
  try {
    return await section();
  } finally {
    // removed while it is still ours
    rmSync(path, { force: true });
    closeSync(fd);
  }
}

/** @returns the descriptor that holds the lock */
async function acquire(path: string): Promise<number> {
  const endMs = performance.now() + LOCK_TIMEOUT_MS;
  do {
    const fd = tryOnce(path);
    if (fd !== null) return fd;
    await Bun.sleep(LOCK_POLL_MS);
  } while (performance.now() < endMs);
  throw new SystemError(`Cannot lock "${path}": another process holds it; end that process`, "lock", 0);
}

function tryOnce(path: string): number | null {
  const fd = openSync(path, "a", 0o600);
  try {
    if (flock(fd) && fstatSync(fd).ino === statSync(path, { throwIfNoEntry: false })?.ino) return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  closeSync(fd);
  return null;
}
