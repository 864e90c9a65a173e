import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { withFileLock } from "../../lib/file_lock.ts";
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

  test("takes no notice of a file that a dead process left", async () => {
    const path = join(scratch(), "lock");
    writeFileSync(path, "whatever an older version wrote");
    expect(await withFileLock(path, () => "in")).toBe("in");
    expect(existsSync(path)).toBeFalse();
  });

  test("keeps processes apart that are killed inside", async () => {
    const directory = scratch();
    const [path, places] = [join(directory, "lock"), join(directory, "places")];
    // each says where it is; two inside at once would see each other
    const body = `
      import { appendFileSync, writeFileSync } from "node:fs";
      import { withFileLock } from ${JSON.stringify(join(import.meta.dir, "../../lib/file_lock.ts"))};
      const inside = ${JSON.stringify(places)} + "." + process.pid;
      for (;;) await withFileLock(${JSON.stringify(path)}, async () => {
        writeFileSync(${JSON.stringify(places)}, String(process.pid));
        await Bun.sleep(1);
        const now = await Bun.file(${JSON.stringify(places)}).text();
        appendFileSync(inside, now === String(process.pid) ? "." : "X");
      });`;
    const start = () => Bun.spawn([process.execPath, "-e", body], { stdout: "ignore", stderr: "inherit" });
    const programs = [start(), start(), start()];
    for (let i = 0; i < 12; i++) {
      await Bun.sleep(80);
      const killed = programs.shift()!;
      killed.kill("SIGKILL");
      await killed.exited;
      programs.push(start());
    }
    for (const program of programs) {
      program.kill("SIGKILL");
      await program.exited;
    }
    const seen = readdirSync(directory).filter((name) => name.startsWith("places."));
    const texts = seen.map((name) => readFileSync(join(directory, name), "utf8")).join("");
    expect(texts.length).toBeGreaterThan(20);
    expect(texts).not.toContain("X");
  }, 30_000);

  test("reports a folder that is not there", async () => {
    await expect(withFileLock("/no/such/folder/lock", () => 0)).rejects.toThrow("ENOENT");
  });
});
