/**
 * What we change on this machine, written to disk before the change, so that a later process can put it back.
 *
 * A journal is a file of JSON lines: a header that says whose it is, then one undo step a line in the order of the
 * changes. Steps are idempotent: one that was written and never came to be applied is undone without harm.
 */

import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import * as v from "valibot";
import { errorCode } from "./caught.ts";

const familySchema = v.picklist([4, 6]);
const textsSchema = v.pipe(v.array(v.string()), v.readonly());

const fileStateSchema = v.variant("type", [
  v.strictObject({ type: v.literal("absent") }),
  v.strictObject({ type: v.literal("symlink"), target: v.string() }),
  /** `content` is Base64: the file comes back byte for byte. */
  v.strictObject({
    type: v.literal("file"),
    content: v.string(),
    mode: v.number(),
    uid: v.number(),
    gid: v.number(),
  }),
]);

/** One undo step; `kind` names the module that carries it out. */
const stepSchema = v.variant("kind", [
  /** `ip rule del SELECTOR` (ip-rule(8)). */
  v.strictObject({ kind: v.literal("rule"), family: familySchema, selector: textsSchema }),
  /** `ip route del ROUTE` (ip-route(8)). */
  v.strictObject({ kind: v.literal("route"), family: familySchema, route: textsSchema }),
  /** `nft delete table inet TABLE` of a kill switch: a program that fails leaves it, `down` and an orderly end do not. */
  v.strictObject({ kind: v.literal("kill-switch"), table: v.string() }),
  /** `nft delete table inet TABLE` (nft(8)). */
  v.strictObject({ kind: v.literal("nft-table"), table: v.string() }),
  /** Give up a claim on forwarding; see `forwarding_linux.ts`. */
  v.strictObject({
    kind: v.literal("forwarding"),
    directory: v.string(),
    claim: v.string(),
    switches: v.array(v.strictObject({ path: v.string(), from: v.string(), to: v.string() })),
    followers: v.array(v.strictObject({ path: v.string(), value: v.string() })),
  }),
  /** Put a resolv.conf back if it still has the text that we wrote; see `dns_linux.ts`. */
  v.strictObject({
    kind: v.literal("resolv-conf"),
    path: v.string(),
    previous: fileStateSchema,
    written: v.string(),
  }),
  /** `resolvectl revert TUN` (resolvectl(1)); needless when the interface is gone. */
  v.strictObject({ kind: v.literal("resolved"), tun: v.string() }),
  /** `resolvconf -d RECORD` (resolvconf(8)). */
  v.strictObject({ kind: v.literal("resolvconf"), record: v.string() }),
  /** A whole command (macOS). */
  v.strictObject({ kind: v.literal("command"), argv: textsSchema, input: v.optional(v.string()) }),
]);

const ownerEntries = { bootId: v.string(), pid: v.number(), startTime: v.string() };
const headerSchema = v.strictObject({
  version: v.literal(1),
  ...ownerEntries,
  tun: v.string(),
  netns: v.string(),
});
/** What every version's header says: enough to tell whether its writer still lives. */
const ownerSchema = v.object(ownerEntries);

/** How to put one change back. */
export type UndoStep = v.InferOutput<typeof stepSchema>;
/** The steps of one kind. */
export type UndoStepOf<Kind extends UndoStep["kind"]> = Extract<UndoStep, { kind: Kind }>;
/** What a path was before we replaced it. */
export type FileState = v.InferOutput<typeof fileStateSchema>;
/** Whose journal it is: a process of a boot (see `process_identity.ts`), its interface and its network namespace. */
export type JournalHeader = v.InferOutput<typeof headerSchema>;
/** The process that wrote a journal. */
export type JournalOwner = v.InferOutput<typeof ownerSchema>;

/** A journal that was found on disk. */
export interface FoundJournal {
  /** Null when the first line cannot be read or has another version. */
  readonly header: JournalHeader | null;
  /** Known also when the header has another version. */
  readonly owner: JournalOwner | null;
  /** The steps that can be read, in the order of the changes. */
  readonly steps: readonly UndoStep[];
  /** A whole line could not be read. A last line without its line feed is no damage: its change was never made. */
  readonly damaged: boolean;
}

/**
 * Reads a journal's text.
 *
 * @param text whole content of the file
 */
export function parseJournal(text: string): FoundJournal {
  const lines = text.split("\n").slice(0, -1);
  const header = parseLine(headerSchema, lines[0] ?? "");
  const steps = lines.slice(1).map((line) => parseLine(stepSchema, line));
  return {
    header,
    owner: parseLine(ownerSchema, lines[0] ?? ""),
    steps: steps.filter((step) => step !== null),
    damaged: header === null || steps.includes(null),
  };
}

function parseLine<S extends v.GenericSchema>(schema: S, line: string): v.InferOutput<S> | null {
  try {
    const result = v.safeParse(schema, JSON.parse(line));
    return result.success ? result.output : null;
  } catch {
    return null; // not JSON: reported by the caller as damage
  }
}

/**
 * Reads the journal at `path`; null when there is none.
 *
 * @throws the file system's error when it exists and cannot be read
 */
export function readJournal(path: string): FoundJournal | null {
  try {
    return parseJournal(readFileSync(path, "utf8"));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

/** Puts a journal that could not be read wholly aside, where a person can look at it; returns its new path. */
export function keepDamagedJournal(path: string): string {
  const kept = `${path}.damaged`;
  renameSync(path, kept);
  return kept;
}

/** An open journal of this process. Its methods throw the file system's error. */
export class UndoJournal {
  readonly #path: string;
  readonly #header: JournalHeader;
  readonly #headerBytes: number;
  #fd: number;
  #steps: UndoStep[] = [];
  #open = true;

  /**
   * Creates the file with its header. A full disk shows here, before anything was changed.
   *
   * @throws the file system's error: EEXIST when there is a journal already, ENOSPC when the disk is full
   */
  constructor(path: string, header: JournalHeader) {
    this.#path = path;
    this.#header = header;
    this.#fd = openSync(path, "ax", 0o600);
    try {
      this.#headerBytes = this.#write([header]);
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  /** The steps written so far, in the order of the changes. */
  get steps(): readonly UndoStep[] {
    return this.#steps;
  }

  /** Writes steps; they are on disk when this returns. All or none: on an error the file is as before. */
  append(steps: readonly UndoStep[]): void {
    if (steps.length === 0) return;
    const before = fstatSync(this.#fd).size;
    try {
      this.#write(steps);
      fsyncSync(this.#fd);
      syncDirectory(dirname(this.#path));
    } catch (error) {
      ftruncateSync(this.#fd, before);
      throw error;
    }
    this.#steps.push(...steps);
  }

  /**
   * Forgets steps that no longer count, after a change took another one's place: what is left is `steps`. In one move,
   * so that a crash finds either the old list or the new one.
   */
  replace(steps: readonly UndoStep[]): void {
    const draft = `${this.#path}.new`;
    rmSync(draft, { force: true });
    const old = this.#fd;
    this.#fd = openSync(draft, "ax", 0o600);
    try {
      this.#write([this.#header, ...steps]);
      fsyncSync(this.#fd);
      renameSync(draft, this.#path);
    } catch (error) {
      closeSync(this.#fd);
      rmSync(draft, { force: true });
      this.#fd = old;
      throw error;
    }
    closeSync(old);
    this.#steps = [...steps];
    syncDirectory(dirname(this.#path));
  }

  /** Forgets all steps, after they were undone. Not synced: after a crash they are undone once more, without harm. */
  clear(): void {
    ftruncateSync(this.#fd, this.#headerBytes);
    this.#steps = [];
  }

  /** Closes and deletes the file. */
  remove(): void {
    if (!this.#open) return;
    this.close();
    rmSync(this.#path, { force: true });
  }

  /** Closes the file and leaves it for a later process. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    closeSync(this.#fd);
  }

  #write(values: readonly object[]): number {
    const bytes = Buffer.from(values.map((value) => `${JSON.stringify(value)}\n`).join(""));
    let written = 0;
    while (written < bytes.length) written += writeSync(this.#fd, bytes, written);
    return bytes.length;
  }
}

/** A new file is safe only when its directory entry is (fsync(2), notes). */
function syncDirectory(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
