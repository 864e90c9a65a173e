/**
 * The audit log on disk: appends chained lines, rotates its file, and goes on or refuses when the disk is full.
 *
 * `BASE.audit.jsonl` is written to; full ones become `BASE.audit.SEQ.jsonl` (the number of their last line) and the
 * oldest are deleted, which is itself a line. `BASE.audit.head` names the last line written, so that lines cut off at
 * the end are missed. Several processes may append: each batch is written under a file lock and behind the last line
 * that is there. Events wait in memory while the disk is full; what does not fit there is counted and told later.
 */

import {
  closeSync,
  fdatasync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { CHAIN_START, type ChainEnd, decodeAuditLine, encodeAuditLine } from "./audit_chain.ts";
import type { AuditEvent, AuditSink } from "./audit_event.ts";
import { errorCode, messageOf } from "./caught.ts";
import type { Clock } from "./clock.ts";
import { auditLineCounts, type AuditStatus } from "./event_counts.ts";
import { withFileLock } from "./file_lock.ts";
import type { Instance } from "./instance.ts";
import { AUDIT_FILE_BYTES, AUDIT_FILES, AUDIT_RETRY_MS, AUDIT_WAITING_EVENTS } from "./limits.ts";
import type { Log } from "./log.ts";

/** What happens to log-ins while nothing can be recorded. */
export type AuditFull = "refuse" | "continue";

export interface AuditLogOptions {
  readonly onFull: AuditFull;
  readonly clock: Clock;
  readonly log: Log;
  /** A full file is put aside at this size; for tests. */
  readonly fileBytes?: number;
  /** Files kept beside the one that is written to. */
  readonly files?: number;
  readonly retryMs?: number;
}

/** Names of an audit log's files. */
export interface AuditFiles {
  readonly current: string;
  readonly head: string;
  readonly lock: string;
}

/** The audit log's files of an instance. */
export function auditFiles(instance: Instance): AuditFiles {
  const base = instance.journalPath.replace(/\.journal$/, ".audit");
  return { current: `${base}.jsonl`, head: `${base}.head`, lock: `${base}.lock` };
}

interface Waiting {
  readonly wallMs: number;
  readonly event: AuditEvent;
}

const syncData = promisify(fdatasync);
/** Readable by the owner only. */
const FILE_MODE = 0o600;
/** A last line is looked for in this many bytes at the end of a file. */
const TAIL_BYTES = 64 * 1024;

/** An open audit log. Call {@link close} at the end. */
export class AuditLog implements AuditSink {
  readonly #files: AuditFiles;
  readonly #options: Required<AuditLogOptions>;
  #waiting: Waiting[] = [];
  /** Lost events that no line tells of yet. */
  #lost = 0;
  /** All of them. */
  #lostEver = 0;
  readonly #written = auditLineCounts();
  #failing = false;
  #writing: Promise<void> | null = null;
  #retry: ReturnType<typeof setTimeout> | null = null;

  constructor(files: AuditFiles, options: AuditLogOptions) {
    this.#files = files;
    this.#options = {
      fileBytes: AUDIT_FILE_BYTES,
      files: AUDIT_FILES,
      retryMs: AUDIT_RETRY_MS,
      ...options,
    };
  }

  get mayLogIn(): boolean {
    return !this.#failing || this.#options.onFull === "continue";
  }

  /** Whether the last attempt to write failed. */
  get failing(): boolean {
    return this.#failing;
  }

  /** What was written since the start, and what waits. */
  status(): AuditStatus {
    return {
      written: this.#written.snapshot(),
      waiting: this.#waiting.length,
      lost: this.#lostEver,
      failing: this.#failing,
    };
  }

  record(event: AuditEvent): void {
    if (this.#waiting.length >= AUDIT_WAITING_EVENTS) {
      this.#waiting.shift();
      this.#lost += 1;
      this.#lostEver += 1;
    }
    this.#waiting.push({ wallMs: this.#options.clock.wallMs(), event });
    if (!this.#failing) this.#start();
  }

  /** Waits until everything recorded so far is on disk, or failed to get there. */
  async flush(): Promise<void> {
    this.#start();
    await this.#writing;
  }

  /** Writes what waits, and stops trying. */
  async close(): Promise<void> {
    await this.flush();
    if (this.#retry !== null) clearTimeout(this.#retry);
    if (this.#waiting.length > 0) this.#options.log.error(`${this.#waiting.length} audit events were lost`);
  }

  #start(): void {
    this.#writing ??= this.#writeAll().finally(() => {
      this.#writing = null;
    });
  }

  async #writeAll(): Promise<void> {
    // events of the same moment share a lock and a sync
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      try {
        await withFileLock(this.#files.lock, () => this.#writeBatch());
        this.#recovered();
      } catch (error) {
        this.#failed(error);
        return;
      }
    }
  }

  async #writeBatch(): Promise<void> {
    rotateIfFull(this.#files, this.#options.fileBytes);
    const fd = openSync(this.#files.current, "a+", FILE_MODE);
    try {
      const start = findEnd(fd, this.#files);
      const doomed = oldestBeyond(this.#files, this.#options.files);
      const batch = [...this.#ownEvents(start, doomed), ...this.#waiting];
      let { end } = start;
      const lines: string[] = [];
      for (const { wallMs, event } of batch) {
        const encoded = encodeAuditLine(end, wallMs, event);
        lines.push(encoded.line);
        end = encoded.end;
      }
      const taken = this.#waiting.length;
      appendWholly(fd, lines.join(""), () => writeHead(this.#files.head, end));
      this.#waiting = this.#waiting.slice(taken);
      this.#lost = 0;
      for (const { event } of batch) this.#written.add(event.type);
      await syncData(fd);
      // only now that a line says so
      for (const path of doomed.paths) rmSync(path, { force: true });
    } finally {
      closeSync(fd);
    }
  }

  /** Lines of the log about itself, written in front of what waits. */
  #ownEvents({ missing }: FoundEnd, { last }: DoomedFiles): Waiting[] {
    const wallMs = this.#options.clock.wallMs();
    const own: AuditEvent[] = [];
    if (missing !== null)
      own.push({ type: "chain-broken", expectedSeq: missing.seq, expectedHash: missing.hash });
    if (this.#lost > 0)
      own.push({ type: "alarm", reason: `${this.#lost} events were lost: no room for them` });
    if (last !== null) own.push({ type: "pruned", throughSeq: last.seq, throughHash: last.hash });
    return own.map((event) => ({ wallMs, event }));
  }

  #failed(error: unknown): void {
    const { log, onFull, retryMs } = this.#options;
    if (!this.#failing) {
      const then = onFull === "refuse" ? "log-ins are refused" : "going on without a record";
      log.error(`Cannot write the audit log, ${then} until it can be written: ${messageOf(error)}`, {
        file: this.#files.current,
        cause: errorCode(error),
      });
    }
    this.#failing = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#start(), retryMs);
    this.#retry.unref();
  }

  #recovered(): void {
    if (this.#failing) this.#options.log.warn("The audit log can be written again");
    this.#failing = false;
  }
}

/** Where the next line goes. */
interface FoundEnd {
  readonly end: ChainEnd;
  /** The line that should be the last one and is not there. */
  readonly missing: ChainEnd | null;
}

/** Finds the last line that is there, and compares it with the one written last. A half line (a crash) is cut off. */
function findEnd(fd: number, files: AuditFiles): FoundEnd {
  const written = readHead(files.head);
  const size = fstatSync(fd).size;
  const tail = readTail(fd, size);
  const wholeBytes = tail.lastIndexOf(0x0a) + 1;
  if (wholeBytes < tail.length) ftruncateSync(fd, size - (tail.length - wholeBytes));
  const text = new TextDecoder().decode(tail.subarray(0, wholeBytes));
  const last = text
    .trimEnd()
    .split("\n")
    .findLast((line) => decodeAuditLine(line) !== null);
  const found = last === undefined ? endOfOlder(files) : decodeAuditLine(last)!;
  const end = { seq: found.seq, hash: found.hash };
  if (written === null || end.seq > written.seq || end.hash === written.hash) return { end, missing: null };
  // numbers go on behind the missing lines, so that the gap stays visible
  return { end: { seq: Math.max(written.seq, end.seq), hash: end.hash }, missing: written };
}

function readTail(fd: number, size: number): Uint8Array {
  const bytes = new Uint8Array(Math.min(size, TAIL_BYTES));
  const read = readSync(fd, bytes, 0, bytes.length, size - bytes.length);
  return bytes.subarray(0, read);
}

function endOfOlder(files: AuditFiles): ChainEnd {
  const newest = olderFiles(files).at(-1);
  if (newest === undefined) return CHAIN_START;
  return lastLineOf(newest) ?? CHAIN_START;
}

/** The line that was written last; null when nothing was, or the file cannot be read as one of ours. */
export function readHead(path: string): ChainEnd | null {
  try {
    const { seq, hash } = JSON.parse(readFileSync(path, "utf8")) as Partial<ChainEnd>;
    return typeof seq === "number" && typeof hash === "string" ? { seq, hash } : null;
  } catch {
    return null; // absent, or half written by a crash: the chain itself still tells
  }
}

/** The old one stays where there is no room for a new one. */
function writeHead(path: string, end: ChainEnd): void {
  writeFileSync(`${path}.new`, JSON.stringify(end), { mode: FILE_MODE });
  renameSync(`${path}.new`, path);
}

/**
 * Appends everything or nothing: what a full disk took of it is cut off again.
 *
 * @param finish belongs to it: lines whose end could not be noted would be written once more
 */
function appendWholly(fd: number, text: string, finish: () => void): void {
  const bytes = Buffer.from(text);
  const size = fstatSync(fd).size;
  try {
    for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done);
    finish();
  } catch (error) {
    ftruncateSync(fd, size);
    throw error;
  }
}

/** Files that were put aside, the oldest first. */
export function olderFiles(files: AuditFiles): readonly string[] {
  const directory = dirname(files.current);
  const stem = basename(files.current, ".jsonl");
  const numbered = readdirSync(directory).flatMap((name) => {
    if (!name.startsWith(`${stem}.`) || !name.endsWith(".jsonl")) return [];
    const number = name.slice(stem.length + 1, -".jsonl".length);
    return /^[0-9]+$/.test(number) ? [{ number: Number(number), path: join(directory, name) }] : [];
  });
  return numbered.toSorted((a, b) => a.number - b.number).map(({ path }) => path);
}

function rotateIfFull(files: AuditFiles, fileBytes: number): void {
  const size = statSync(files.current, { throwIfNoEntry: false })?.size ?? 0;
  const head = readHead(files.head);
  if (size < fileBytes || head === null) return;
  renameSync(files.current, files.current.replace(/jsonl$/, `${head.seq}.jsonl`));
}

/** Files that the rotation deletes, and the last line that goes with them. */
interface DoomedFiles {
  readonly paths: readonly string[];
  readonly last: ChainEnd | null;
}

function oldestBeyond(files: AuditFiles, kept: number): DoomedFiles {
  const older = olderFiles(files);
  const paths = older.slice(0, Math.max(0, older.length - kept));
  const newest = paths.at(-1);
  if (newest === undefined) return { paths, last: null };
  return { paths, last: lastLineOf(newest) };
}

function lastLineOf(path: string): ChainEnd | null {
  const text = readFileSync(path, "utf8").trimEnd().split("\n").at(-1) ?? "";
  return decodeAuditLine(text);
}

/** All lines of an audit log, the oldest first. */
export function readAuditLines(files: AuditFiles): readonly string[] {
  const paths = [...olderFiles(files), files.current];
  return paths.flatMap((path) => {
    if (statSync(path, { throwIfNoEntry: false }) === undefined) return [];
    return readFileSync(path, "utf8")
      .split("\n")
      .filter((line) => line !== "");
  });
}
