/** Asks for a password on a terminal without showing it. */

import { UsageError } from "../lib/errors.ts";

/** What the prompt needs of `process.stdin`. */
export interface PromptInput {
  setRawMode(raw: boolean): unknown;
  on(event: "data", listener: (chunk: Buffer) => void): unknown;
  off(event: "data", listener: (chunk: Buffer) => void): unknown;
  resume(): unknown;
  pause(): unknown;
}

const CONTROL_C = "\u0003";
const CONTROL_D = "\u0004";
const CONTROL_U = "\u0015";
const BACKSPACES: ReadonlySet<string> = new Set(["\b", "\u007F"]);

/**
 * Reads one line without echo.
 *
 * @param signal gives up: puts the terminal back, and lets go of standard input, which would keep the program alive
 * @throws {UsageError} when the person gives up with Ctrl-C or Ctrl-D, or the signal comes
 */
export async function promptPassword(
  question: string,
  input: PromptInput,
  write: (text: string) => void,
  signal?: AbortSignal,
): Promise<string> {
  write(question);
  input.setRawMode(true);
  try {
    return await readHiddenLine(input, signal);
  } finally {
    input.setRawMode(false);
    input.pause();
    write("\n");
  }
}

function readHiddenLine(input: PromptInput, signal: AbortSignal | undefined): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const decoder = new TextDecoder();
  let typed: string[] = [];
  const take = (chunk: Buffer): void => {
    for (const character of decoder.decode(chunk, { stream: true })) {
      if (character === "\r" || character === "\n") return resolve(typed.join(""));
      if (character === CONTROL_C || character === CONTROL_D)
        return reject(new UsageError("No password was given"));
      if (character === CONTROL_U) typed = [];
      else if (BACKSPACES.has(character)) typed.pop();
      else typed.push(character);
    }
  };
  const giveUp = (): void => reject(new UsageError("Given up before an answer came"));
  if (signal?.aborted === true) giveUp();
  signal?.addEventListener("abort", giveUp);
  input.on("data", take);
  input.resume();
  return promise.finally(() => {
    input.off("data", take);
    signal?.removeEventListener("abort", giveUp);
  });
}
