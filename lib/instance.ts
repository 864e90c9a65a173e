/** The names of one running program's files: journal, control socket and lock in the state directory. */

import { accessSync, constants, mkdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { PrivilegeError, SystemError, UsageError } from "./errors.ts";
import { inPrivateNetworkNamespace, networkNamespace } from "./process_identity.ts";

/** One server or client, told apart from others by role, interface and network namespace. */
export interface Instance {
  readonly role: "server" | "client";
  readonly tun: string;
  /** Absolute path. */
  readonly stateDir: string;
  /** What was changed on this machine; see `undo_journal.ts`. */
  readonly journalPath: string;
  /** Unix socket for `status` and `down`. */
  readonly socketPath: string;
  /** Held for moments only, while the journal changes hands. */
  readonly lockPath: string;
}

/** sun_path of struct sockaddr_un holds 108 bytes with the final zero (unix(7)); macOS's holds 104. */
const MAX_SOCKET_PATH_BYTES = process.platform === "darwin" ? 103 : 107;

/** Interface names: IFNAMSIZ is 16 with the final zero (net/if.h); nothing that nft or a file name would read otherwise. */
const TUN_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$/;

/**
 * Names the files of an instance, and makes its state directory (mode 0700) if it is missing.
 *
 * Programs in different network namespaces may use the same interface name and the same state directory: outside the
 * machine's first namespace the names carry the namespace's number.
 *
 * @throws {UsageError} when the interface name is impossible or the directory's path is too long for a socket
 * @throws {PrivilegeError} when we may not write there
 * @throws {SystemError} when the directory cannot be made, for example on a full or read-only disk
 */
export function openInstance(role: "server" | "client", tun: string, stateDir: string): Instance {
  if (!TUN_NAME.test(tun)) {
    throw new UsageError(
      `Cannot use "${tun}" as an interface name: expected 1 to 15 letters, digits, "-", "_", "."`,
    );
  }
  const directory = resolve(stateDir);
  const suffix = inPrivateNetworkNamespace() ? `-${networkNamespace()}` : "";
  const base = join(directory, `${role}-${tun}${suffix}`);
  const socketPath = `${base}.sock`;
  const socketPathBytes = Buffer.byteLength(socketPath);
  if (socketPathBytes > MAX_SOCKET_PATH_BYTES) {
    throw new UsageError(
      `Cannot use "${stateDir}" for --state-dir: the socket's path "${socketPath}" has ${socketPathBytes} bytes, ` +
        `expected at most ${MAX_SOCKET_PATH_BYTES}`,
    );
  }
  makeStateDir(directory);
  return {
    role,
    tun,
    stateDir: directory,
    journalPath: `${base}.journal`,
    socketPath,
    lockPath: `${base}.lock`,
  };
}

function makeStateDir(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw stateDirError(directory, error);
  }
}

/** The error for a state directory that cannot be made or written: names the path, the cause and a remedy. */
export function stateDirError(directory: string, error: unknown): SystemError | PrivilegeError {
  const code = errorCode(error);
  if (code === "EACCES" || code === "EPERM") {
    return new PrivilegeError(
      `Cannot write to state directory "${directory}": run as root or choose another --state-dir`,
    );
  }
  const reason = STATE_DIR_REASONS[code] ?? messageOf(error);
  return new SystemError(
    `Cannot write to state directory "${directory}": ${reason}; make room or choose another --state-dir`,
    "write",
    errnoOf(error),
  );
}

const STATE_DIR_REASONS: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on the disk",
  EDQUOT: "disk quota exceeded",
  EROFS: "the file system is read-only",
  ENOTDIR: "a part of the path is not a directory",
  EEXIST: "a file of that name exists",
};
