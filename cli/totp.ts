/** Finds the one-time code of a log-in: file, environment, or a prompt on a terminal. */

import { readFileSync } from "node:fs";
import { errorCode } from "../lib/caught.ts";
import type { ClientConfig } from "../lib/config_client.ts";
import { UsageError } from "../lib/errors.ts";
import { promptPassword } from "./prompt.ts";

/**
 * Makes the reader of this process. `OMAIL_TOTP` is removed from `env`, so that no child inherits it.
 *
 * @returns a function that gives the next code; it throws {@link UsageError} when there is no way to get one
 */
export function createCodeReader(
  { totpFile, user }: Pick<ClientConfig, "totpFile" | "user">,
  env: NodeJS.ProcessEnv,
): (signal: AbortSignal) => Promise<string> {
  let given = env["OMAIL_TOTP"];
  delete env["OMAIL_TOTP"];
  return async (signal) => {
    if (totpFile !== null) return readCodeFile(totpFile);
    const fromEnvironment = given;
    // a code works once
    given = undefined;
    if (fromEnvironment !== undefined) return checkCode(fromEnvironment, "OMAIL_TOTP");
    if (!process.stdin.isTTY || !process.stderr.isTTY) {
      throw new UsageError(
        "Cannot log in without a new one-time code: give OMAIL_TOTP or --totp-file FILE, or start it on a terminal to be asked",
      );
    }
    const question = `One-time code of ${user}: `;
    const typed = await promptPassword(question, process.stdin, (text) => process.stderr.write(text), signal);
    return checkCode(typed, "the terminal");
  };
}

function readCodeFile(path: string): string {
  try {
    return checkCode(readFileSync(path, "utf8"), `--totp-file "${path}"`);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(
      `--totp-file: Cannot read "${path}" (${errorCode(error)}): expected a file with the one-time code`,
    );
  }
}

/** The code itself is not repeated. */
function checkCode(text: string, place: string): string {
  const code = text.replaceAll(/\s/g, "");
  if (/^[0-9]{6,8}$/.test(code)) return code;
  throw new UsageError(`Cannot use the one-time code from ${place}: expected 6 digits`);
}
