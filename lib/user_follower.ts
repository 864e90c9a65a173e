/** The user database as a running server sees it: found when it appears, read again when somebody has changed it. */

import { messageOf } from "./caught.ts";
import { SystemError } from "./errors.ts";
import type { UserRecord } from "./user_record.ts";
import { findUserStore, USERS_FILE, UserStore } from "./user_store.ts";

/** A server must not stand still for a lock or a disk: what it could not do it tries again a second later. */
const BUSY_TIMEOUT_MS = 100;

/** Follows the database of one state directory. Errors leave all as it was; the next call tries again. */
export class UserFollower {
  readonly #stateDir: string;
  #store: UserStore | null = null;
  #version = -1;

  constructor(stateDir: string) {
    this.#stateDir = stateDir;
  }

  /** The open database; null when there is none, or it could not be opened. */
  get store(): UserStore | null {
    return this.#store;
  }

  /**
   * All users, if they may have changed since the last call.
   *
   * @returns null when nothing has changed, or there is no database yet
   * @throws {SystemError} when the database is locked, damaged or gone
   */
  news(): readonly UserRecord[] | null {
    try {
      const store = this.#current();
      if (store === null) return null;
      const version = store.version();
      if (version === this.#version) return null;
      const records = store.list();
      this.#version = version;
      return records;
    } catch (error) {
      // what SQLite has read of a damaged file must not be trusted once the file is mended
      this.close();
      throw error;
    }
  }

  close(): void {
    this.#version = -1;
    const store = this.#store;
    this.#store = null;
    try {
      store?.close();
    } catch (error) {
      throw new SystemError(`Cannot close the user database: ${messageOf(error)}`, "sqlite", 0);
    }
  }

  #current(): UserStore | null {
    const inode = findUserStore(this.#stateDir);
    if (this.#store !== null && this.#store.inode !== inode) {
      if (inode === null) {
        throw new SystemError(
          `Cannot read the user database: "${this.#stateDir}/${USERS_FILE}" is gone; put it back`,
          "stat",
          0,
        );
      }
      this.close();
    }
    if (this.#store === null && inode !== null)
      this.#store = new UserStore(this.#stateDir, BUSY_TIMEOUT_MS, false);
    return this.#store;
  }
}
