/**
 * The lines of an audit log and the chain that joins them: JSON objects, each with the hash of the one before.
 *
 *   {"seq":7,"time":"2026-11-25T20:00:00.000Z","type":"login",…,"prev":"<hash of line 6>","hash":"<SHA-256>"}
 *
 * `hash` is SHA-256 over the line's own text without `,"hash":"…"`. So any change of a byte, and any line that is
 * taken out, put in or moved, breaks the chain at that place. Pure; files are the business of `audit_log.ts`.
 */

import type { AuditEvent, AuditEventType } from "./audit_event.ts";

/** The end of a chain: the last line's number and hash. */
export interface ChainEnd {
  readonly seq: number;
  /** 64 hexadecimal digits. */
  readonly hash: string;
}

/** The chain before its first line. */
export const CHAIN_START: ChainEnd = { seq: 0, hash: "0".repeat(64) };

/** A line as it was read. Fields of an event kind that this version does not know are kept. */
export interface AuditLine extends ChainEnd {
  /** ISO 8601, UTC. */
  readonly time: string;
  readonly type: AuditEventType;
  readonly prev: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Longest text in an event: names and reasons come from strangers too. */
const MAX_TEXT_LENGTH = 512;

/** Writes the next line, with its line feed. */
export function encodeAuditLine(
  end: ChainEnd,
  wallMs: number,
  event: AuditEvent,
): { readonly line: string; readonly end: ChainEnd } {
  const { type, ...fields } = event;
  const seq = end.seq + 1;
  const time = new Date(wallMs).toISOString();
  const body = JSON.stringify({ seq, time, type, ...fields, prev: end.hash }, shorten);
  const hash = hashOf(body);
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}\n`, end: { seq, hash } };
}

function shorten(_key: string, value: unknown): unknown {
  return typeof value === "string" && value.length > MAX_TEXT_LENGTH
    ? `${value.slice(0, MAX_TEXT_LENGTH)}…`
    : value;
}

const LINE_FORM = /^(\{.*),"hash":"([0-9a-f]{64})"\}$/;

/** Reads a line without its line feed. @returns null when it is not a line of ours, or its own hash is wrong */
export function decodeAuditLine(text: string): AuditLine | null {
  const match = LINE_FORM.exec(text);
  if (match === null) return null;
  const [, head = "", hash = ""] = match;
  if (hashOf(`${head}}`) !== hash) return null;
  const { seq, time, type, prev, ...fields } = JSON.parse(`${head}}`) as Record<string, unknown>;
  if (typeof seq !== "number" || typeof time !== "string" || typeof type !== "string") return null;
  if (typeof prev !== "string") return null;
  return { seq, time, type: type as AuditEventType, prev, hash, fields };
}

/** What is wrong with a chain, and where. */
export interface ChainProblem {
  /** The number that the line should have. */
  readonly seq: number;
  readonly text: string;
}

/** Follows a chain line by line, from its oldest. */
export class ChainChecker {
  readonly problems: ChainProblem[] = [];
  #end: ChainEnd | null = null;
  #first: AuditLine | null = null;
  #pruned: ChainEnd = CHAIN_START;
  #lines = 0;
  /** Damaged lines since the last whole one: they are reported once, not again as a gap. */
  #damaged = 0;

  /** Lines that were read, whole or not. */
  get lines(): number {
    return this.#lines;
  }

  /** The last whole line; null before the first. */
  get end(): ChainEnd | null {
    return this.#end;
  }

  /** Takes the next line, without its line feed. */
  next(text: string): void {
    this.#lines += 1;
    const line = decodeAuditLine(text);
    if (line === null) {
      this.#damaged += 1;
      this.#report((this.#end?.seq ?? 0) + this.#damaged, "the line was changed, or is damaged");
      return;
    }
    this.#follow(line);
    if (line.type === "pruned") {
      this.#pruned = { seq: Number(line.fields["throughSeq"]), hash: String(line.fields["throughHash"]) };
    }
    if (line.type === "chain-broken") {
      this.#report(
        line.seq,
        `lines up to ${String(line.fields["expectedSeq"])} were missing when the log was opened`,
      );
    }
    this.#end = line;
    this.#damaged = 0;
  }

  #follow(line: AuditLine): void {
    const before = this.#end;
    if (before === null) {
      if (this.#damaged === 0) this.#first ??= line;
      return;
    }
    const explained = this.#damaged > 0 && line.seq === before.seq + this.#damaged + 1;
    if (line.prev === before.hash || explained) return;
    this.#report(line.seq, gapText(before.seq, line.seq));
  }

  /**
   * Says that the last line was read.
   *
   * @param written the last line that the log says it wrote; null when that is not known
   */
  finish(written: ChainEnd | null): void {
    if (this.#first !== null) this.#checkStart(this.#first);
    const last = this.#end?.seq ?? 0;
    if (written === null || written.seq < last) return;
    if (written.seq > last)
      this.#report(last + 1, `lines ${last + 1} to ${written.seq} are missing at the end`);
    else if (written.hash !== (this.#end ?? CHAIN_START).hash)
      this.#report(last, "the last line is another one");
  }

  /** The oldest line must be the first ever, or the one behind what the rotation says it deleted. */
  #checkStart(first: AuditLine): void {
    const { seq, hash } = this.#pruned;
    const follows = first.seq === seq + 1 && first.prev === hash;
    // the deletion was announced, and did not come about
    const stillThere = first.seq <= seq;
    if (!follows && !stillThere)
      this.#report(first.seq, `lines before ${first.seq} are missing and were not deleted by the rotation`);
  }

  #report(seq: number, text: string): void {
    this.problems.push({ seq, text });
  }
}

function gapText(before: number, after: number): string {
  if (after > before + 1) return `lines ${before + 1} to ${after - 1} are missing`;
  return `the line does not follow line ${before}: a line was changed, moved or put in`;
}

function hashOf(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}
