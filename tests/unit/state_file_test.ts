import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { SystemError } from "../../lib/errors.ts";
import { keepOnce } from "../../lib/state_file.ts";

const directory = mkdtempSync(join(tmpdir(), "omail-state-"));
afterAll(() => rmSync(directory, { recursive: true }));

describe("keepOnce()", () => {
  test("makes the file once, for its owner only, and leaves no draft", async () => {
    expect(await keepOnce(directory, "a", () => "first")).toBe("first");
    expect(await keepOnce(directory, "a", () => "second")).toBe("first");
    expect(statSync(join(directory, "a")).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory)).toEqual(["a"]);
  });

  test("gives both of two makers the first one's content", async () => {
    const slow = keepOnce(directory, "b", () => Bun.sleep(20).then(() => "slow"));
    const fast = keepOnce(directory, "b", () => "fast");
    expect(await Promise.all([slow, fast])).toEqual(["fast", "fast"]);
  });

  test("names the directory when it cannot write", async () => {
    const missing = join(directory, "none");
    await expect(keepOnce(missing, "a", () => "x")).rejects.toThrow(SystemError);
    await expect(keepOnce(missing, "a", () => "x")).rejects.toThrow(missing);
  });
});
