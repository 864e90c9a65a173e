import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UsageError } from "../../lib/errors.ts";
import { openHostSetup, repair } from "../../lib/host_setup.ts";
import type { Instance } from "../../lib/instance.ts";
import { networkNamespace, ownIdentity } from "../../lib/process_identity.ts";
import { readJournal, UndoJournal, type UndoStep } from "../../lib/undo_journal.ts";
import { memoryLog } from "../support/memory_log.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

function instance(): Instance {
  const stateDir = scratch();
  const base = join(stateDir, "client-omail0");
  return {
    role: "client",
    tun: "omail0",
    stateDir,
    journalPath: `${base}.journal`,
    socketPath: `${base}.sock`,
    lockPath: `${base}.lock`,
  };
}

/** A journal as a process of this boot that died would leave it. */
function leaveJournal({ journalPath, tun }: Instance, steps: readonly UndoStep[], startTime = "1"): void {
  const header = { version: 1, ...ownIdentity(), startTime, tun, netns: networkNamespace() } as const;
  new UndoJournal(journalPath, header).append(steps);
}

/** A step that can be undone without root: a file of ours in place of none. */
function fileStep(path: string): UndoStep {
  writeFileSync(path, "ours");
  return { kind: "resolv-conf", path, previous: { type: "absent" }, written: "ours" };
}

describe("openHostSetup", () => {
  test("keeps a journal from the start, and leaves nothing after restore, which may be called twice", async () => {
    const here = instance();
    const { log, lines } = memoryLog();
    const setup = await openHostSetup(here, log);
    expect(readdirSync(here.stateDir)).toEqual(["client-omail0.journal"]);
    await setup.restore();
    await setup.restore();
    expect(readdirSync(here.stateDir)).toEqual([]);
    expect(lines).toEqual([]);
  });

  test("refuses a second program of the same instance, naming the first", async () => {
    const here = instance();
    const setup = await openHostSetup(here, memoryLog().log);
    const second = openHostSetup(here, memoryLog().log);
    await expect(second).rejects.toThrow(
      new UsageError(
        `The client for "omail0" is already running (process ${process.pid}): stop it first, or choose another --tun`,
      ),
    );
    await setup.restore();
  });

  test("lets one of two that start together through", async () => {
    const here = instance();
    const results = await Promise.allSettled([1, 2].map(() => openHostSetup(here, memoryLog().log)));
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    for (const result of results) if (result.status === "fulfilled") await result.value.restore();
  });

  test("refuses also when the running program is of another version", async () => {
    const here = instance();
    leaveJournal(here, [], ownIdentity().startTime);
    const text = readFileSync(here.journalPath, "utf8");
    writeFileSync(here.journalPath, text.replace('"version":1', '"version":9,"news":{}'));
    await expect(openHostSetup(here, memoryLog().log)).rejects.toThrow("is already running");
    expect(await repair(here, memoryLog().log)).toBeFalse();
  });

  test("a journal of another version is kept, with what could be read of it undone", async () => {
    const here = instance();
    const file = join(here.stateDir, "file");
    leaveJournal(here, [fileStep(file)]);
    const text = readFileSync(here.journalPath, "utf8");
    writeFileSync(here.journalPath, `${text.replace('"version":1', '"version":9')}{"kind":"unheard-of"}\n`);
    const { log, lines } = memoryLog();
    const setup = await openHostSetup(here, log);
    expect(existsSync(file)).toBeFalse();
    expect(lines.at(-1)?.message).toMatch(/damaged or of another version.*kept as ".*\.damaged"/);
    await setup.restore();
    expect(readdirSync(here.stateDir)).toEqual(["client-omail0.journal.damaged"]);
  });

  test("a dead predecessor's kill switch stays if we lay our own, and after our failure", async () => {
    const here = instance();
    const step: UndoStep = { kind: "kill-switch", table: "omail_kill_no_such_tun" };
    leaveJournal(here, [step]);
    const setup = await openHostSetup(here, memoryLog().log, { keepKillSwitch: true });
    expect(readJournal(here.journalPath)?.steps).toEqual([step]);
    await setup.restore(true);
    expect(readJournal(here.journalPath)?.steps).toEqual([step]);
  });

  test("puts back first what a dead predecessor left", async () => {
    const here = instance();
    const file = join(here.stateDir, "file");
    leaveJournal(here, [fileStep(file)]);
    const { log, lines } = memoryLog();
    const setup = await openHostSetup(here, log);
    expect(existsSync(file)).toBeFalse();
    expect(lines).toEqual([{ level: "warn", message: "Putting back what an earlier run left" }]);
    await setup.restore();
  });
});

describe("repair", () => {
  test("finds nothing where nobody was", async () => {
    expect(await repair(instance(), memoryLog().log)).toBeFalse();
  });

  test("puts back and removes the journal", async () => {
    const here = instance();
    const file = join(here.stateDir, "file");
    leaveJournal(here, [fileStep(file)]);
    expect(await repair(here, memoryLog().log)).toBeTrue();
    expect(readdirSync(here.stateDir)).toEqual([]);
  });

  test("leaves a living program alone", async () => {
    const here = instance();
    const file = join(here.stateDir, "file");
    leaveJournal(here, [fileStep(file)], ownIdentity().startTime);
    expect(await repair(here, memoryLog().log)).toBeFalse();
    expect(existsSync(file)).toBeTrue();
  });

  test("names a state directory that cannot be written", async () => {
    const here = { ...instance(), lockPath: "/no/such/directory/lock" };
    await expect(repair(here, memoryLog().log)).rejects.toThrow(here.stateDir);
  });
});
