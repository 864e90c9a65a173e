import { describe, expect, test } from "bun:test";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { withFileLock } from "../../lib/file_lock.ts";
import { ownIdentity } from "../../lib/process_identity.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

describe("withFileLock", () => {
  test("lets one section in at a time, and leaves no file", async () => {
    const path = join(scratch(), "lock");
    let inside = 0;
    const section = async () => {
      inside++;
      await Bun.sleep(2);
      return inside--;
    };
    expect(await Promise.all([1, 2, 3].map(() => withFileLock(path, section)))).toEqual([1, 1, 1]);
    expect(existsSync(path)).toBeFalse();
  });

  test("lets go when the section fails", async () => {
    const path = join(scratch(), "lock");
    await expect(withFileLock(path, () => Promise.reject(new Error("inside")))).rejects.toThrow("inside");
    expect(existsSync(path)).toBeFalse();
  });

  test("breaks the lock of a dead process, and an unreadable one", async () => {
    const path = join(scratch(), "lock");
    for (const content of [JSON.stringify({ ...ownIdentity(), startTime: "1" }), ""]) {
      writeFileSync(path, content);
      expect(await withFileLock(path, () => "in")).toBe("in");
    }
  });

  test("reports a folder that is not there", async () => {
    await expect(withFileLock("/no/such/folder/lock", () => 0)).rejects.toThrow("ENOENT");
  });
});
