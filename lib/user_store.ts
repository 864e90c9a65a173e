/**
 * The users of a server on disk: one SQLite database (`users.db`) in the state directory.
 *
 * Write-ahead log, so that a server reads while a command writes; strict tables; every change is one transaction. The
 * commands and all servers of a state directory share it: whoever reads asks {@link UserStore.version} for news.
 */

import { Database, SQLiteError } from "bun:sqlite";
import { closeSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import { errorCode, messageOf } from "./caught.ts";
import { NotRunningError, SystemError, UsageError } from "./errors.ts";
import { stateDirError } from "./instance.ts";
import { decodeSettings, encodeSettings, type UserRecord } from "./user_record.ts";

/** How long a command waits for a lock; a write takes milliseconds. */
export const COMMAND_BUSY_TIMEOUT_MS = 5_000;

/** Name of the database inside the state directory. */
export const USERS_FILE = "users.db";
/** Version of the tables below (`PRAGMA user_version`). */
const SCHEMA_VERSION = 1;

const SCHEMA = `
  CREATE TABLE users (
    name TEXT PRIMARY KEY,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    salt BLOB NOT NULL,
    iterations INTEGER NOT NULL,
    stored_key BLOB NOT NULL,
    server_key BLOB NOT NULL,
    totp_secret BLOB,
    totp_last_step INTEGER NOT NULL DEFAULT -1,
    settings TEXT NOT NULL
  ) STRICT;
  CREATE TABLE usage (
    name TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    month TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    PRIMARY KEY (name, month)
  ) STRICT, WITHOUT ROWID;
`;

/** Bytes that a user moved in a month such as `2026-11`. */
export interface Usage {
  readonly name: string;
  readonly month: string;
  readonly bytes: number;
}

interface UserRow {
  readonly name: string;
  readonly enabled: number;
  readonly salt: Uint8Array<ArrayBuffer>;
  readonly iterations: number;
  readonly stored_key: Uint8Array<ArrayBuffer>;
  readonly server_key: Uint8Array<ArrayBuffer>;
  readonly totp_secret: Uint8Array<ArrayBuffer> | null;
  readonly totp_last_step: number;
  readonly settings: string;
}

const SELECT = `SELECT name, enabled, salt, iterations, stored_key, server_key, totp_secret, totp_last_step, settings
  FROM users`;

/**
 * Whether there is a database, and which file it is now; null when there is none.
 *
 * @throws {PrivilegeError} when we may not look
 */
export function findUserStore(stateDir: string): number | null {
  try {
    return statSync(join(stateDir, USERS_FILE), { throwIfNoEntry: false })?.ino ?? null;
  } catch (error) {
    throw stateDirError(stateDir, error);
  }
}

/** How many users there are; 0 when there is no database. @throws {SystemError} when it cannot be read */
export function countUsers(stateDir: string): number {
  if (findUserStore(stateDir) === null) return 0;
  const store = new UserStore(stateDir, COMMAND_BUSY_TIMEOUT_MS);
  try {
    return store.list().length;
  } finally {
    store.close();
  }
}

/** An open database. Every method throws {@link SystemError} when it is locked, damaged, read-only or full. */
export class UserStore {
  readonly path: string;
  /** The file's number when it was opened: another one means that the file was replaced. */
  readonly inode: number;
  readonly #database: Database;

  /**
   * Opens the database; makes it (mode 0600) when it is missing.
   *
   * @param busyTimeoutMs how long to wait for a lock; the whole thread waits
   * @param flush whether a change is on the disk when its method returns; otherwise the system writes it soon: what a
   * program's crash cannot take back, a power cut may
   * @throws {SystemError} when it cannot be opened
   * @throws {PrivilegeError} when we may not write in the state directory
   */
  constructor(stateDir: string, busyTimeoutMs: number, flush = true) {
    this.path = join(stateDir, USERS_FILE);
    try {
      // made by us, so that it is never readable for others; SQLite gives its log the same mode
      closeSync(openSync(this.path, "a", 0o600));
    } catch (error) {
      // SQLite reads what it may not write
      if (errorCode(error) !== "EROFS" || findUserStore(stateDir) === null)
        throw stateDirError(stateDir, error);
    }
    this.inode = findUserStore(stateDir) ?? 0;
    this.#database = this.#try("open", () => openDatabase(this.path, busyTimeoutMs, flush));
  }

  /** Changes whenever another program has changed the database. */
  version(): number {
    return this.#try("read", () => {
      const row = this.#database.query<{ data_version: number }, []>("PRAGMA data_version").get();
      return row?.data_version ?? 0;
    });
  }

  /** All users in the order of their names. */
  list(): readonly UserRecord[] {
    return this.#try("read", () =>
      this.#database
        .query<UserRow, []>(`${SELECT} ORDER BY name`)
        .all()
        .map((row) => this.#recordOf(row)),
    );
  }

  /** @throws {NotRunningError} when there is no such user */
  find(name: string): UserRecord {
    const row = this.#try("read", () =>
      this.#database.query<UserRow, { name: string }>(`${SELECT} WHERE name = $name`).get({ name }),
    );
    if (row === null)
      throw new NotRunningError(`There is no user "${name}": omail-server user list shows all`);
    return this.#recordOf(row);
  }

  /**
   * @param check looks at all other users and throws when the new one does not fit
   * @throws {UsageError} when there is a user of this name
   */
  add(record: UserRecord, check: (others: readonly UserRecord[]) => void): void {
    this.#write(() => {
      const others = this.list();
      if (others.some(({ name }) => name === record.name))
        throw new UsageError(
          `Cannot add the user "${record.name}": it exists already, expected another name`,
        );
      check(others);
      this.#insert(record);
    });
  }

  /**
   * Changes one user.
   *
   * @param change gets the record as it is and returns it as it shall be; the name stays
   * @throws {NotRunningError} when there is no such user; what `change` throws
   */
  update(
    name: string,
    change: (record: UserRecord, others: readonly UserRecord[]) => UserRecord,
  ): UserRecord {
    return this.#write(() => {
      const record = this.find(name);
      const changed = change(
        record,
        this.list().filter((other) => other.name !== name),
      );
      this.#insert(changed);
      return changed;
    });
  }

  /** Forgets a user and what it used. @throws {NotRunningError} when there is no such user */
  remove(name: string): void {
    this.#write(() => {
      this.find(name);
      this.#database.query("DELETE FROM users WHERE name = $name").run({ name });
    });
  }

  /** Remembers that the code of a time step was used; an older one changes nothing. */
  saveTotpStep(name: string, step: number): void {
    this.#write(() =>
      this.#database
        .query("UPDATE users SET totp_last_step = max(totp_last_step, $step) WHERE name = $name")
        .run({ name, step }),
    );
  }

  /** Adds to what users have used; users who are gone are left out. */
  addUsage(usage: readonly Usage[]): void {
    this.#write(() => {
      const insert = this.#database.query(
        `INSERT INTO usage (name, month, bytes) SELECT $name, $month, $bytes
           WHERE EXISTS (SELECT 1 FROM users WHERE name = $name)
         ON CONFLICT (name, month) DO UPDATE SET bytes = bytes + excluded.bytes`,
      );
      for (const { name, month, bytes } of usage) insert.run({ name, month, bytes });
    });
  }

  /** What each user has used in a month; users who used nothing are left out. */
  usageOf(month: string): ReadonlyMap<string, number> {
    const rows = this.#try("read", () =>
      this.#database
        .query<{ name: string; bytes: number }, { month: string }>(
          "SELECT name, bytes FROM usage WHERE month = $month",
        )
        .all({ month }),
    );
    return new Map(rows.map(({ name, bytes }) => [name, bytes]));
  }

  /** Moves the log into the file first, so that the file alone is a whole copy, and a copy put back counts. */
  close(): void {
    try {
      this.#database.run("PRAGMA busy_timeout = 0");
      this.#database.run("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch (error) {
      // locked, damaged or read-only: the log stays, and whoever opens the database next reads it
      if (!(error instanceof SQLiteError)) throw error;
    }
    this.#database.close();
  }

  #insert({ name, enabled, verifier, totp, ...settings }: UserRecord): void {
    const { salt, iterations, storedKey, serverKey } = verifier;
    this.#database
      .query(
        `INSERT INTO users (name, enabled, salt, iterations, stored_key, server_key, totp_secret, totp_last_step, settings)
         VALUES ($name, $enabled, $salt, $iterations, $storedKey, $serverKey, $totpSecret, $totpStep, $settings)
         ON CONFLICT (name) DO UPDATE SET enabled = excluded.enabled, salt = excluded.salt,
           iterations = excluded.iterations, stored_key = excluded.stored_key, server_key = excluded.server_key,
           totp_secret = excluded.totp_secret, totp_last_step = excluded.totp_last_step, settings = excluded.settings`,
      )
      .run({
        name,
        enabled: enabled ? 1 : 0,
        salt,
        iterations,
        storedKey,
        serverKey,
        totpSecret: totp?.secret ?? null,
        totpStep: totp?.lastStep ?? -1,
        settings: encodeSettings(settings),
      });
  }

  #recordOf(row: UserRow): UserRecord {
    const settings = decodeSettings(row.settings);
    if (settings === null) {
      throw storeError(this.path, "read", `the settings of user "${row.name}" are not what a command writes`);
    }
    const { salt, iterations, stored_key: storedKey, server_key: serverKey } = row;
    return {
      name: row.name,
      enabled: row.enabled === 1,
      verifier: { salt, iterations, storedKey, serverKey },
      totp: row.totp_secret === null ? null : { secret: row.totp_secret, lastStep: row.totp_last_step },
      ...settings,
    };
  }

  #write<T>(change: () => T): T {
    // immediate: a lock is waited for at the beginning, where nothing was read yet
    return this.#try("write", () => this.#database.transaction(change).immediate());
  }

  #try<T>(what: "open" | "read" | "write", action: () => T): T {
    try {
      return action();
    } catch (error) {
      if (!(error instanceof SQLiteError)) throw error;
      throw storeError(this.path, what, reasonOf(error), error.errno);
    }
  }
}

function openDatabase(path: string, busyTimeoutMs: number, flush: boolean): Database {
  const database = new Database(path, { readwrite: true, strict: true });
  try {
    database.run(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    database.run("PRAGMA foreign_keys = ON");
    database.run(`PRAGMA synchronous = ${flush ? "FULL" : "NORMAL"}`);
    const version = database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version;
    if (version === SCHEMA_VERSION) return database;
    if (version !== 0) {
      throw new UsageError(
        `Cannot use "${path}": its version is "${version}", expected ${SCHEMA_VERSION}; use the program that made it`,
      );
    }
    database.run("PRAGMA journal_mode = WAL");
    makeTables(database);
    return database;
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Two commands may come at once: the second one finds the tables made. */
function makeTables(database: Database): void {
  database
    .transaction(() => {
      const made = database.query<{ user_version: number }, []>("PRAGMA user_version").get()?.user_version;
      if (made === SCHEMA_VERSION) return;
      database.run(SCHEMA);
      database.run(`PRAGMA user_version = ${SCHEMA_VERSION}`);
    })
    .immediate();
}

/** What a person can do about each of SQLite's result codes (sqlite.org/rescode.html). */
const REASONS: readonly (readonly [RegExp, string])[] = [
  [/^SQLITE_(BUSY|LOCKED)/, "it is locked by another program; end that program, or try again"],
  [
    /^SQLITE_(CORRUPT|NOTADB|FORMAT)/,
    "it is damaged; put a copy back, or move it away and add the users anew",
  ],
  [
    /^SQLITE_(READONLY|CANTOPEN|PERM)/,
    "it is read-only or may not be opened; make it and its directory writable",
  ],
  [/^SQLITE_FULL/, "no space left on the disk; make room"],
  [/^SQLITE_IOERR/, "the disk reports an error"],
];

function reasonOf(error: SQLiteError): string {
  const code = error.code ?? "";
  return REASONS.find(([pattern]) => pattern.test(code))?.[1] ?? `${messageOf(error)} (${code})`;
}

function storeError(path: string, what: string, reason: string, errno = 0): SystemError {
  return new SystemError(`Cannot ${what} the user database "${path}": ${reason}`, "sqlite", errno);
}
