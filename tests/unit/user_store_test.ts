import { Database } from "bun:sqlite";
import { describe, expect, test } from "bun:test";
import { readFileSync, renameSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { NotRunningError, SystemError, UsageError } from "../../lib/errors.ts";
import { UserFollower } from "../../lib/user_follower.ts";
import { countUsers, findUserStore, USERS_FILE, UserStore } from "../../lib/user_store.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";
import { limitsOf, testUser } from "../support/user_records.ts";

const scratch = scratchDirectories();
const nothing = (): void => undefined;

function openIn(directory: string): UserStore {
  return new UserStore(directory, 50);
}

describe("UserStore", () => {
  test("keeps a whole record over closing and opening, readable by its owner only", () => {
    const directory = scratch();
    const alice = testUser("alice", {
      enabled: false,
      expiresAtMs: 5,
      addresses: ["10.8.0.9"],
      networks: ["192.168.50.0/24"],
      groups: ["ops"],
      limits: limitsOf({ devices: 3 }),
      totp: { secret: new Uint8Array(20).fill(9), lastStep: 4 },
    });
    using opened = closing(openIn(directory));
    opened.store.add(alice, nothing);
    for (const suffix of ["", "-wal"])
      expect(statSync(join(directory, USERS_FILE + suffix)).mode & 0o777).toBe(0o600);
    using again = closing(openIn(directory));
    expect(again.store.list()).toEqual([alice]);
  });

  test("refuses a name twice and a name that is not there, and changes nothing then", () => {
    using opened = closing(openIn(scratch()));
    const { store } = opened;
    store.add(testUser("alice"), nothing);
    expect(() => store.add(testUser("alice", { enabled: false }), nothing)).toThrow(UsageError);
    expect(() => store.find("bob")).toThrow(NotRunningError);
    expect(() => store.remove("bob")).toThrow('There is no user "bob"');
    const refuse = (): never => {
      throw new UsageError("does not fit");
    };
    expect(() => store.add(testUser("bob"), refuse)).toThrow("does not fit");
    expect(() => store.update("alice", refuse)).toThrow("does not fit");
    expect(store.list()).toEqual([testUser("alice")]);
  });

  test("adds usage up by month, and forgets it with the user", () => {
    using opened = closing(openIn(scratch()));
    const { store } = opened;
    store.add(testUser("alice"), nothing);
    store.addUsage([
      { name: "alice", month: "2026-11", bytes: 5 },
      { name: "ghost", month: "2026-11", bytes: 5 },
    ]);
    store.addUsage([{ name: "alice", month: "2026-11", bytes: 2 ** 45 }]);
    expect(store.usageOf("2026-11")).toEqual(new Map([["alice", 2 ** 45 + 5]]));
    // an update must not lose it
    store.update("alice", (record) => ({ ...record, enabled: false }));
    expect(store.usageOf("2026-11").size).toBe(1);
    store.remove("alice");
    expect(store.usageOf("2026-11").size).toBe(0);
  });

  test("never lets a used one-time code come back", () => {
    using opened = closing(openIn(scratch()));
    const { store } = opened;
    store.add(testUser("alice", { totp: { secret: new Uint8Array(20), lastStep: -1 } }), nothing);
    store.saveTotpStep("alice", 7);
    store.saveTotpStep("alice", 6);
    expect(store.find("alice").totp?.lastStep).toBe(7);
  });

  test("says that it is locked, and works when the lock is gone", () => {
    const directory = scratch();
    using opened = closing(openIn(directory));
    const other = new Database(join(directory, USERS_FILE));
    other.run("BEGIN IMMEDIATE");
    expect(() => opened.store.add(testUser("alice"), nothing)).toThrow("it is locked by another program");
    // readers go on
    expect(opened.store.list()).toEqual([]);
    other.run("ROLLBACK");
    other.close();
    opened.store.add(testUser("alice"), nothing);
    expect(opened.store.list()).toHaveLength(1);
  });

  test("says that it is damaged, whatever is wrong with the file", () => {
    const noDatabase = scratch();
    writeFileSync(join(noDatabase, USERS_FILE), "no database ".repeat(500));
    expect(() => openIn(noDatabase)).toThrow("it is damaged");
    const halved = scratch();
    {
      using opened = closing(openIn(halved));
      for (let i = 0; i < 200; i++) opened.store.add(testUser(`user${i}`), nothing);
    }
    truncateSync(join(halved, USERS_FILE), statSync(join(halved, USERS_FILE)).size / 2);
    expect(() => openIn(halved).list()).toThrow("it is damaged");
    const edited = scratch();
    {
      using opened = closing(openIn(edited));
      opened.store.add(testUser("alice"), nothing);
    }
    const other = new Database(join(edited, USERS_FILE));
    other.run("UPDATE users SET settings = '{'");
    other.close();
    using opened = closing(openIn(edited));
    expect(() => opened.store.list()).toThrow('the settings of user "alice"');
  });

  test("does not touch a database of a later version", () => {
    const directory = scratch();
    closing(openIn(directory))[Symbol.dispose]();
    const other = new Database(join(directory, USERS_FILE));
    other.run("PRAGMA user_version = 2");
    other.close();
    expect(() => openIn(directory)).toThrow(`its version is "2", expected 1`);
  });

  test("names a state directory that is not there", () => {
    expect(() => openIn("/nonexistent/omail")).toThrow(SystemError);
    expect(findUserStore("/nonexistent/omail")).toBeNull();
    expect(countUsers("/nonexistent/omail")).toBe(0);
  });
});

describe("UserFollower", () => {
  test("finds the database when it appears, and tells news once", () => {
    const directory = scratch();
    const follower = new UserFollower(directory);
    expect(follower.news()).toBeNull();
    using opened = closing(openIn(directory));
    opened.store.add(testUser("alice"), nothing);
    expect(follower.news()?.map(({ name }) => name)).toEqual(["alice"]);
    expect(follower.news()).toBeNull();
    // what it writes itself is no news
    follower.store?.addUsage([{ name: "alice", month: "2026-11", bytes: 1 }]);
    expect(follower.news()).toBeNull();
    opened.store.add(testUser("bob"), nothing);
    expect(follower.news()).toHaveLength(2);
    follower.close();
  });

  test("says that the file is damaged or gone, and takes a copy that was put back", () => {
    const directory = scratch();
    const path = join(directory, USERS_FILE);
    {
      using opened = closing(openIn(directory));
      opened.store.add(testUser("alice"), nothing);
    }
    const copy = readFileSync(path);
    const follower = new UserFollower(directory);
    expect(follower.news()).toHaveLength(1);
    renameSync(path, `${path}.away`);
    expect(() => follower.news()).toThrow("is gone");
    writeFileSync(path, "no database ".repeat(500));
    expect(() => follower.news()).toThrow("it is damaged");
    expect(() => follower.news()).toThrow("it is damaged");
    renameSync(path, `${path}.damaged`);
    writeFileSync(path, copy);
    expect(follower.news()).toHaveLength(1);
    follower.close();
  });
});

/** Closes a store at the end of a block. */
function closing(store: UserStore) {
  return { store, [Symbol.dispose]: () => store.close() };
}
