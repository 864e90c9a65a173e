/**
 * The C library: the handful of calls that Bun has no API for, typed, and errno.
 *
 * Only `libc*.ts` import `bun:ffi`. A pointer is valid as long as its buffer lives, and the collector does not see
 * pointers: callers keep the buffer in a long-lived object for the time of the call (see `tun_linux.ts`).
 */

import { dlopen, FFIType, type Pointer, ptr, read as peek } from "bun:ffi";
import { constants } from "node:os";
import { SystemError } from "./errors.ts";

export { ptr, type Pointer };

const SYMBOLS = {
  open: { args: [FFIType.ptr, FFIType.i32], returns: FFIType.i32 },
  close: { args: [FFIType.i32], returns: FFIType.i32 },
  sched_yield: { args: [], returns: FFIType.i32 },
  flock: { args: [FFIType.i32, FFIType.i32], returns: FFIType.i32 },
  write: { args: [FFIType.i32, FFIType.ptr, FFIType.u64_fast], returns: FFIType.i64_fast },
  setsockopt: {
    args: [FFIType.i32, FFIType.i32, FFIType.i32, FFIType.ptr, FFIType.u32],
    returns: FFIType.i32,
  },
} as const;

/** Names under which the C library is found: glibc, musl (two machine types), macOS. */
const LIBRARIES =
  process.platform === "darwin"
    ? ["libSystem.B.dylib"]
    : ["libc.so.6", "libc.musl-x86_64.so.1", "libc.musl-aarch64.so.1"];

/** Where the C library keeps errno: a function that gives its address. */
const ERRNO_SYMBOL = process.platform === "darwin" ? "__error" : "__errno_location";

/**
 * Opens the C library with `symbols`.
 *
 * @throws {SystemError} when no known name of it can be loaded
 */
export function openLibrary<Symbols extends Parameters<typeof dlopen>[1]>(symbols: Symbols) {
  const failures: string[] = [];
  for (const name of LIBRARIES) {
    try {
      return dlopen(name, symbols).symbols;
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new SystemError(`Cannot load the C library: ${failures.join("; ")}`, "dlopen", 0);
}

export const libc = openLibrary(SYMBOLS);

const errnoLibrary = openLibrary({ [ERRNO_SYMBOL]: { args: [], returns: FFIType.ptr } });

/** errno of this thread; must be read right after the failing call. */
export function errno(): number {
  const location = errnoLibrary[ERRNO_SYMBOL]!() as Pointer;
  return peek.i32(location, 0);
}

/** Lets other threads that wait for this thread's processor run: sched_yield(2). */
export function yieldProcessor(): void {
  libc.sched_yield();
}

/** flock(2): exclusive, without waiting (sys/file.h; the numbers are those of Linux and macOS). */
const LOCK_EX_NB = 2 | 4;

/**
 * Locks an open file for this descriptor, until it is closed or the process ends.
 *
 * @returns false when somebody else has locked it
 * @throws {SystemError} when the file system knows no locks
 */
export function flock(fd: number): boolean {
  if (libc.flock(fd, LOCK_EX_NB) === 0) return true;
  const code = errno();
  if (code === constants.errno.EWOULDBLOCK || code === constants.errno.EINTR) return false;
  throw new SystemError(`Cannot lock a file: ${errnoName(code)}`, "flock", code);
}

/** The name of an error number, for example `EBUSY`; the number itself when it has none. */
export function errnoName(code: number): string {
  const found = Object.entries(constants.errno).find(([, value]) => value === code);
  return found?.[0] ?? `errno ${code}`;
}

/** Bytes of a C string with its final zero. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(Buffer.byteLength(text) + 1);
  bytes.set(Buffer.from(text));
  return bytes;
}
