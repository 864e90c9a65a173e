import { expect, test } from "bun:test";
import { EventEmitter } from "node:events";
import { type PromptInput, promptPassword } from "../../cli/prompt.ts";

class FakeTerminal extends EventEmitter implements PromptInput {
  raw: boolean[] = [];
  setRawMode(raw: boolean): void {
    this.raw.push(raw);
  }
  resume(): void {}
  pause(): void {}
}

/** Types text at a prompt, in pieces; gives the answer and what the terminal showed. */
async function type(...pieces: string[]) {
  const terminal = new FakeTerminal();
  let shown = "";
  const answer = promptPassword("Password: ", terminal, (text) => (shown += text));
  for (const piece of pieces) terminal.emit("data", Buffer.from(piece, "latin1"));
  const password = await answer.catch((error: Error) => error);
  return { password, shown, terminal };
}

test("promptPassword() reads a line without showing it, and puts the terminal back", async () => {
  const { password, shown, terminal } = await type("hun", "ter2\r");
  expect(password).toBe("hunter2");
  expect(shown).toBe("Password: \n");
  expect(terminal.raw).toEqual([true, false]);
  expect(terminal.listenerCount("data")).toBe(0);
});

test("promptPassword() knows backspace, Ctrl-U and characters of several bytes in pieces", async () => {
  expect((await type("wrong\u0015ab\u007Fc\n")).password).toBe("ac");
  expect((await type("\u00C3", "\u00A4\r")).password).toBe("ä");
});

test("promptPassword() ends at its signal with the terminal put back", async () => {
  const terminal = new FakeTerminal();
  const stop = new AbortController();
  const answer = promptPassword("Code: ", terminal, () => undefined, stop.signal).catch(String);
  stop.abort();
  expect(await answer).toContain("Given up");
  expect(terminal.raw).toEqual([true, false]);
  expect(terminal.listenerCount("data")).toBe(0);
  const late = promptPassword("Code: ", terminal, () => undefined, stop.signal).catch(String);
  expect(await late).toContain("Given up");
});

test("promptPassword() ends at Ctrl-C with the terminal put back", async () => {
  const { password, terminal } = await type("ab\u0003");
  expect(password).toBeInstanceOf(Error);
  expect(terminal.raw).toEqual([true, false]);
});
