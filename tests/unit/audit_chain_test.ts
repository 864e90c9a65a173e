import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  CHAIN_START,
  ChainChecker,
  type ChainEnd,
  decodeAuditLine,
  encodeAuditLine,
} from "../../lib/audit_chain.ts";
import type { AuditEvent } from "../../lib/audit_event.ts";
import { check } from "../support/property.ts";

const EVENTS: readonly AuditEvent[] = [
  { type: "started", version: "1" },
  {
    type: "login",
    user: "alice",
    session: 7,
    endpoint: "192.0.2.1:5",
    addresses: ["10.8.0.2"],
    method: "password",
  },
  { type: "refused", user: null, endpoint: "[2001:db8::1]:5", reason: 'a "quoted" reason\n' },
  { type: "ban", subject: "address", value: "192.0.2.1", failures: 10, seconds: 600 },
];

function chain(count: number): { lines: string[]; end: ChainEnd } {
  const lines: string[] = [];
  let end = CHAIN_START;
  for (let i = 0; i < count; i++) {
    const next = encodeAuditLine(end, 1_700_000_000_000 + i, EVENTS[i % EVENTS.length]!);
    lines.push(next.line.trimEnd());
    end = next.end;
  }
  return { lines, end };
}

function problemsOf(lines: readonly string[], end: ChainEnd | null): string[] {
  const checker = new ChainChecker();
  for (const line of lines) checker.next(line);
  checker.finish(end);
  return checker.problems.map(({ seq, text }) => `${seq}: ${text}`);
}

describe("the chain", () => {
  test("what was written is read back, and nothing is wrong with it", () => {
    const { lines, end } = chain(9);
    expect(problemsOf(lines, end)).toEqual([]);
    expect(decodeAuditLine(lines[1]!)).toMatchObject({
      seq: 2,
      type: "login",
      fields: { user: "alice", addresses: ["10.8.0.2"] },
    });
    expect(lines.every((line) => !line.includes("\n"))).toBe(true);
  });

  test("an empty log is whole", () => {
    expect(problemsOf([], null)).toEqual([]);
    expect(problemsOf([], CHAIN_START)).toEqual([]);
  });

  test("every removed line is found, the first and the last too", () => {
    const { lines, end } = chain(8);
    for (let i = 0; i < lines.length; i++) {
      const problems = problemsOf(lines.toSpliced(i, 1), end);
      expect({ i, problems: problems.length }).toEqual({ i, problems: 1 });
      expect(problems[0]).toContain("missing");
    }
  });

  test("every changed character is found", () => {
    const { lines, end } = chain(4);
    check(
      fc.property(fc.nat(3), fc.nat(), fc.integer({ min: 32, max: 126 }), (which, position, code) => {
        const line = lines[which]!;
        const at = position % line.length;
        const changed = line.slice(0, at) + String.fromCharCode(code) + line.slice(at + 1);
        if (changed === line) return;
        expect(problemsOf(lines.with(which, changed), end).length).toBeGreaterThan(0);
      }),
      400,
    );
  });

  test("a moved line, a doubled one and one from another log are found", () => {
    const { lines, end } = chain(6);
    const moved = [lines[0]!, lines[2]!, lines[1]!, ...lines.slice(3)];
    expect(problemsOf(moved, end).length).toBeGreaterThan(0);
    expect(problemsOf([...lines.slice(0, 3), lines[2]!, ...lines.slice(3)], end).length).toBeGreaterThan(0);
    const foreign = encodeAuditLine({ seq: 2, hash: "f".repeat(64) }, 5, EVENTS[0]!).line.trimEnd();
    expect(problemsOf(lines.with(2, foreign), end).length).toBeGreaterThan(0);
  });

  test("a line rewritten with a right hash of its own breaks the chain behind it", () => {
    const { lines, end } = chain(6);
    const before = decodeAuditLine(lines[1]!)!;
    const forged = encodeAuditLine(before, 1, { type: "stopped", reason: "nothing to see" }).line.trimEnd();
    expect(problemsOf(lines.with(2, forged), end)).toEqual([
      "4: the line does not follow line 3: a line was changed, moved or put in",
    ]);
    // as the last line, it is not the one that was written
    expect(problemsOf([...lines.slice(0, 5), forged], end).length).toBeGreaterThan(0);
  });

  test("lines that the rotation deleted and announced are no problem, others are", () => {
    const { lines, end } = chain(6);
    const third = decodeAuditLine(lines[2]!)!;
    const note = { type: "pruned", throughSeq: third.seq, throughHash: third.hash } as const;
    const next = encodeAuditLine(end, 1, note);
    const all = [...lines, next.line.trimEnd()];
    expect(problemsOf(all, next.end)).toEqual([]);
    expect(problemsOf(all.slice(3), next.end)).toEqual([]);
    expect(problemsOf(all.slice(4), next.end)).toHaveLength(1);
    expect(problemsOf(lines.slice(3), end)).toHaveLength(1);
  });

  test("long texts of strangers are cut", () => {
    const event = { type: "refused", user: "x".repeat(100_000), endpoint: "e", reason: "r" } as const;
    expect(encodeAuditLine(CHAIN_START, 1, event).line.length).toBeLessThan(1_000);
  });

  test("no text whatever makes the reader throw", () => {
    check(
      fc.property(fc.string(), (text) => {
        decodeAuditLine(text);
        decodeAuditLine(`{${text},"hash":"${"0".repeat(64)}"}`);
      }),
    );
  });
});
