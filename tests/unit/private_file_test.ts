import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { readPrivateFile, writePrivateFile } from "../../lib/private_file.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratchDirectory = scratchDirectories();

test("writePrivateFile() writes mode 0600 whatever the umask, and leaves no draft behind", () => {
  const directory = scratchDirectory();
  const path = join(directory, "key");
  const before = process.umask(0);
  try {
    writePrivateFile(path, "first", { replace: false });
  } finally {
    process.umask(before);
  }
  expect(statSync(path).mode & 0o777).toBe(0o600);
  writePrivateFile(path, "second", { replace: true });
  expect(readPrivateFile(path, "--key")).toBe("second");
  expect(readdirSync(directory)).toEqual(["key"]);
});

test("writePrivateFile() keeps a file that must not be replaced, and names a directory that is not there", () => {
  const path = join(scratchDirectory(), "key");
  writePrivateFile(path, "first", { replace: false });
  expect(() => writePrivateFile(path, "second", { replace: false })).toThrow(/key": it exists already/);
  expect(readPrivateFile(path, "--key")).toBe("first");
  expect(() => writePrivateFile(`${path}/no/such`, "x", { replace: true })).toThrow(/Cannot write/);
});

test("readPrivateFile() refuses what others can reach, and says what to do", () => {
  const path = join(scratchDirectory(), "key");
  writeFileSync(path, "secret");
  for (const mode of [0o644, 0o640, 0o604, 0o620, 0o602]) {
    chmodSync(path, mode);
    expect(() => readPrivateFile(path, "--key")).toThrow(
      /^--key: (?!.*secret).*expected mode 0600; run chmod 600/,
    );
  }
  for (const mode of [0o600, 0o400]) {
    chmodSync(path, mode);
    expect(readPrivateFile(path, "--key")).toBe("secret");
  }
});

test("readPrivateFile() names a file that is missing or a directory", () => {
  const directory = scratchDirectory();
  mkdirSync(join(directory, "d"));
  expect(() => readPrivateFile(join(directory, "none"), "--key")).toThrow(
    /--key: Cannot read ".*none" \(ENOENT\)/,
  );
  expect(() => readPrivateFile(join(directory, "d"), "--key")).toThrow(UsageError);
});
