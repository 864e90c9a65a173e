import { describe, expect, test } from "bun:test";
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { SystemError, UsageError } from "../../lib/errors.ts";
import { openInstance, stateDirError } from "../../lib/instance.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

describe("openInstance", () => {
  test("makes the state directory for its owner only", () => {
    const stateDir = join(scratch(), "a", "b");
    expect(openInstance("server", "omail0", stateDir).stateDir).toBe(stateDir);
    expect(statSync(stateDir).mode & 0o777).toBe(0o700);
  });

  test("tells instances apart by role and interface", () => {
    const stateDir = scratch();
    const paths = (["server", "client"] as const).flatMap((role) =>
      ["omail0", "omail1"].map((tun) => openInstance(role, tun, stateDir).journalPath),
    );
    expect(new Set(paths).size).toBe(4);
  });

  test("refuses interface names that the kernel or nft would read otherwise", () => {
    for (const tun of ["", "sixteen-letters-", 'a"b', "a/b", "..", "a*"]) {
      expect(() => openInstance("client", tun, "/nowhere")).toThrow(UsageError);
    }
  });

  test("refuses a directory whose socket path would be too long, naming the option", () => {
    expect(() => openInstance("client", "omail0", `/${"x".repeat(100)}`)).toThrow("--state-dir");
  });

  test("names a path that cannot be a directory", () => {
    const file = join(scratch(), "file");
    writeFileSync(file, "");
    expect(() => openInstance("client", "omail0", file)).toThrow(`Cannot write to state directory "${file}"`);
    expect(() => openInstance("client", "omail0", join(file, "sub"))).toThrow(SystemError);
  });
});

test("stateDirError: a full disk is said in plain words, with errno", () => {
  const error = stateDirError("/s", Object.assign(new Error("x"), { code: "ENOSPC", errno: -28 }));
  expect(error.message).toContain('"/s": no space left on the disk; make room');
  expect(error).toMatchObject({ errno: 28 });
});
