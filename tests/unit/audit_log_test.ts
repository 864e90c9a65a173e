import { describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  rmdirSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { ChainChecker, decodeAuditLine } from "../../lib/audit_chain.ts";
import { type AuditEvent, auditActor } from "../../lib/audit_event.ts";
import {
  type AuditFiles,
  AuditLog,
  type AuditLogOptions,
  olderFiles,
  readAuditLines,
  readHead,
} from "../../lib/audit_log.ts";
import { systemClock } from "../../lib/clock.ts";
import { memoryLog } from "../support/memory_log.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

function place(directory = scratch()): AuditFiles {
  const base = join(directory, "server-omail0.audit");
  return { current: `${base}.jsonl`, head: `${base}.head`, lock: `${base}.lock` };
}

function open(files: AuditFiles, options: Partial<AuditLogOptions> = {}) {
  const { log, lines } = memoryLog();
  return { audit: new AuditLog(files, { onFull: "continue", clock: systemClock, log, ...options }), lines };
}

const started = (version: string): AuditEvent => ({ type: "started", version });

function problems(files: AuditFiles): string[] {
  const checker = new ChainChecker();
  for (const line of readAuditLines(files)) checker.next(line);
  checker.finish(readHead(files.head));
  return checker.problems.map(({ text }) => text);
}

const types = (files: AuditFiles) => readAuditLines(files).map((line) => decodeAuditLine(line)?.type);

describe("AuditLog", () => {
  test("goes on with the chain when it is opened again; only the owner can read it", async () => {
    const files = place();
    for (const version of ["1", "2", "3"]) {
      const { audit } = open(files);
      audit.record(started(version));
      audit.record({ type: "stopped", reason: version });
      await audit.close();
    }
    expect(types(files)).toEqual(["started", "stopped", "started", "stopped", "started", "stopped"]);
    expect(problems(files)).toEqual([]);
    expect(statSync(files.current).mode & 0o777).toBe(0o600);
    expect(existsSync(files.lock)).toBe(false);
  });

  test("two logs that write at once make one chain", async () => {
    const files = place();
    const logs = [open(files).audit, open(files).audit];
    for (let i = 0; i < 40; i++) {
      logs[i % 2]!.record(started(String(i)));
      if (i % 5 === 0) await Bun.sleep(1);
    }
    await Promise.all(logs.map((audit) => audit.close()));
    expect(readAuditLines(files)).toHaveLength(40);
    expect(problems(files)).toEqual([]);
  });

  test("rotates and keeps the chain; the oldest files go, with a line that says so", async () => {
    const files = place();
    const { audit } = open(files, { fileBytes: 1_000, files: 2 });
    for (let i = 0; i < 60; i++) {
      audit.record(started(`version ${i}`));
      await audit.flush();
    }
    await audit.close();
    expect(olderFiles(files).length).toBeLessThanOrEqual(3);
    expect(types(files)).toContain("pruned");
    expect(decodeAuditLine(readAuditLines(files)[0]!)!.seq).toBeGreaterThan(1);
    expect(problems(files)).toEqual([]);
    rmSync(olderFiles(files)[0]!);
    expect(problems(files)).toHaveLength(1);
  });

  test("a half line, as a crash leaves it, is cut off", async () => {
    const files = place();
    const first = open(files).audit;
    first.record(started("1"));
    await first.close();
    writeFileSync(files.current, `${readFileSync(files.current, "utf8")}{"seq":2,"ti`);
    const second = open(files).audit;
    second.record(started("2"));
    await second.close();
    expect(types(files)).toEqual(["started", "started"]);
    expect(problems(files)).toEqual([]);
  });

  test("lines cut off at the end are found, also after the log was opened again", async () => {
    const files = place();
    const first = open(files).audit;
    for (const version of ["1", "2", "3"]) first.record(started(version));
    await first.close();
    const lines = readFileSync(files.current, "utf8").split("\n");
    writeFileSync(files.current, `${lines[0]}\n`);
    expect(problems(files)).toEqual(["lines 2 to 3 are missing at the end"]);
    const second = open(files).audit;
    second.record(started("4"));
    await second.close();
    expect(types(files)).toEqual(["started", "chain-broken", "started"]);
    expect(problems(files).length).toBeGreaterThan(0);
    expect(problems(files).join()).toContain("missing");
  });

  test("a whole log that was deleted is missed", async () => {
    const files = place();
    const first = open(files).audit;
    first.record(started("1"));
    await first.close();
    rmSync(files.current);
    expect(problems(files)).toEqual(["lines 1 to 1 are missing at the end"]);
  });

  test.each(["continue", "refuse"] as const)(
    "a disk that takes nothing: %s, and nothing is lost",
    async (onFull) => {
      const directory = scratch();
      const files = place(join(directory, "state"));
      const { audit, lines } = open(files, { onFull, retryMs: 20 });
      audit.record(started("1"));
      await audit.flush();
      expect(audit.mayLogIn).toBe(onFull === "continue");
      expect(lines.filter(({ level }) => level === "error")).toHaveLength(1);
      audit.record(started("2"));
      mkdirSync(join(directory, "state"));
      const endMs = performance.now() + 3_000;
      while (audit.failing && performance.now() < endMs) await Bun.sleep(10);
      expect(audit.mayLogIn).toBe(true);
      expect(types(files)).toEqual(["started", "started"]);
      expect(lines.at(-1)).toEqual({ level: "warn", message: "The audit log can be written again" });
      await audit.close();
    },
  );

  test("what does not fit into memory meanwhile is counted", async () => {
    const directory = scratch();
    const files = place(join(directory, "state"));
    const { audit } = open(files, { retryMs: 60_000 });
    for (let i = 0; i < 1_200; i++) audit.record(started("x"));
    await audit.flush();
    expect(audit.status()).toMatchObject({ waiting: 1_000, lost: 200, failing: true });
    expect(audit.status().written).toMatchObject({ started: 0, alarm: 0 });
    mkdirSync(join(directory, "state"));
    await audit.flush();
    await audit.close();
    expect(audit.status()).toMatchObject({ waiting: 0, lost: 200, failing: false });
    expect(audit.status().written).toMatchObject({ started: 1_000, alarm: 1 });
    const first = decodeAuditLine(readAuditLines(files)[0]!);
    expect(first).toMatchObject({
      type: "alarm",
      fields: { reason: "200 events were lost: no room for them" },
    });
    expect(readAuditLines(files)).toHaveLength(1_001);
    expect(problems(files)).toEqual([]);
  });

  test("lines whose end cannot be noted are written once, when it can", async () => {
    const files = place();
    const { audit } = open(files, { retryMs: 20 });
    audit.record(started("1"));
    await audit.flush();
    // what stands in the way of the head file
    mkdirSync(`${files.head}.new`);
    audit.record(started("2"));
    await Bun.sleep(100);
    expect(audit.failing).toBe(true);
    expect(readAuditLines(files)).toHaveLength(1);
    expect(audit.status().written).toMatchObject({ started: 1 });
    rmdirSync(`${files.head}.new`);
    await audit.close();
    expect(audit.status().written).toMatchObject({ started: 2 });
    expect(readAuditLines(files)).toHaveLength(2);
    expect(problems(files)).toEqual([]);
  });

  test("a damaged head file is no obstacle", async () => {
    const files = place();
    const first = open(files).audit;
    first.record(started("1"));
    await first.close();
    chmodSync(files.head, 0o600);
    writeFileSync(files.head, "{");
    const second = open(files).audit;
    second.record(started("2"));
    await second.close();
    expect(problems(files)).toEqual([]);
  });
});

test("auditActor() names who logged in and who used sudo", () => {
  expect(auditActor(0, null, {})).toBe("uid 0");
  expect(auditActor(0, null, { SUDO_USER: "carol" })).toBe("uid 0 (sudo from carol)");
  expect(auditActor(0, 1000, {})).toBe("uid 0 (logged in as uid 1000)");
  expect(auditActor(0, 1000, { SUDO_USER: "carol" })).toBe("uid 0 (logged in as uid 1000, sudo from carol)");
});
