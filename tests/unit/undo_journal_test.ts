import { describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import * as fc from "fast-check";
import {
  keepDamagedJournal,
  parseJournal,
  readJournal,
  UndoJournal,
  type JournalHeader,
  type UndoStep,
} from "../../lib/undo_journal.ts";
import { check } from "../support/property.ts";
import { scratchDirectories } from "../support/scratch_directory.ts";

const scratch = scratchDirectories();

const HEADER: JournalHeader = { version: 1, bootId: "b", pid: 7, startTime: "99", tun: "omail0", netns: "1" };
const OWNER = { bootId: "b", pid: 7, startTime: "99" };
const STEPS: readonly UndoStep[] = [
  { kind: "rule", family: 4, selector: ["pref", "30000", "lookup", "main"] },
  { kind: "nft-table", table: "omail_omail0" },
  {
    kind: "resolv-conf",
    path: "/r",
    previous: { type: "symlink", target: "../x" },
    written: "nameserver 1\n",
  },
];
const WHOLE = [HEADER, ...STEPS].map((value) => `${JSON.stringify(value)}\n`).join("");

describe("UndoJournal", () => {
  test("what is appended can be read back while the file is open", () => {
    const path = join(scratch(), "j");
    const journal = new UndoJournal(path, HEADER);
    journal.append(STEPS.slice(0, 1));
    journal.append(STEPS.slice(1));
    expect(readJournal(path)).toEqual({ header: HEADER, owner: OWNER, steps: STEPS, damaged: false });
    expect(journal.steps).toEqual(STEPS);
    journal.remove();
  });

  test("clear forgets the steps and keeps the header", () => {
    const path = join(scratch(), "j");
    const journal = new UndoJournal(path, HEADER);
    journal.append(STEPS);
    journal.clear();
    journal.append(STEPS.slice(2));
    expect(readJournal(path)).toEqual({
      header: HEADER,
      owner: OWNER,
      steps: STEPS.slice(2),
      damaged: false,
    });
    journal.remove();
  });

  test("replace leaves the new steps in one move, and nothing beside the file", () => {
    const directory = scratch();
    const path = join(directory, "j");
    const journal = new UndoJournal(path, HEADER);
    journal.append(STEPS);
    journal.replace(STEPS.slice(1, 2));
    journal.append(STEPS.slice(2));
    expect(readJournal(path)).toEqual({
      header: HEADER,
      owner: OWNER,
      steps: STEPS.slice(1),
      damaged: false,
    });
    expect(readdirSync(directory)).toEqual(["j"]);
    journal.clear();
    expect(readJournal(path)?.steps).toEqual([]);
    journal.remove();
  });

  test("close leaves the file for a later process", () => {
    const path = join(scratch(), "j");
    const journal = new UndoJournal(path, HEADER);
    journal.append(STEPS);
    journal.close();
    journal.remove();
    expect(readJournal(path)?.steps).toEqual([...STEPS]);
  });

  test("never takes over a file that exists", () => {
    const path = join(scratch(), "j");
    writeFileSync(path, "mine");
    expect(() => new UndoJournal(path, HEADER)).toThrow("EEXIST");
    expect(readFileSync(path, "utf8")).toBe("mine");
  });

  test("remove deletes the file, once", () => {
    const path = join(scratch(), "j");
    const journal = new UndoJournal(path, HEADER);
    journal.remove();
    journal.remove();
    expect(existsSync(path)).toBeFalse();
    expect(readJournal(path)).toBeNull();
  });
});

describe("parseJournal", () => {
  test("every prefix yields the whole lines in it, and no damage once the header is there", () => {
    const headerBytes = JSON.stringify(HEADER).length + 1;
    for (let length = headerBytes; length <= WHOLE.length; length++) {
      const { header, steps, damaged } = parseJournal(WHOLE.slice(0, length));
      expect({ header, damaged }).toEqual({ header: HEADER, damaged: false });
      expect(steps).toEqual(STEPS.slice(0, WHOLE.slice(headerBytes, length).split("\n").length - 1));
    }
  });

  test("a damaged line is left out and reported", () => {
    const lines = WHOLE.split("\n");
    lines[2] = "{]";
    expect(parseJournal(lines.join("\n"))).toEqual({
      header: HEADER,
      owner: OWNER,
      steps: [STEPS[0], STEPS[2]] as UndoStep[],
      damaged: true,
    });
  });

  test("another version has no header, but its writer is known and its known steps count", () => {
    const found = parseJournal(WHOLE.replace('"version":1', '"version":2,"more":[]'));
    expect(found).toEqual({ header: null, owner: OWNER, steps: STEPS, damaged: true });
  });

  test("a step with an unknown field is not carried out by guess", () => {
    const line = JSON.stringify({ kind: "nft-table", table: "t", family: "ip" });
    expect(parseJournal(`${JSON.stringify(HEADER)}\n${line}\n`).steps).toEqual([]);
  });

  test("random text never throws", () => {
    const text = fc.oneof(
      fc.string(),
      fc.json().map((json) => `${JSON.stringify(HEADER)}\n${json}\n`),
    );
    check(fc.property(text, (each) => void parseJournal(each)));
  });
});

test("keepDamagedJournal: moves the file aside", () => {
  const path = join(scratch(), "j");
  writeFileSync(path, "?");
  expect(keepDamagedJournal(path)).toBe(`${path}.damaged`);
  expect([existsSync(path), existsSync(`${path}.damaged`)]).toEqual([false, true]);
});
