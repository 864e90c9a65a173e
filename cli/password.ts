/** Finds the password: setting, file, standard input, systemd credential, or a prompt on a terminal. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { errorCode } from "../lib/caught.ts";
import type { ResolvedSettings, SettingsLayer } from "../lib/config.ts";
import { makeSecret } from "../lib/config_field.ts";
import { UsageError } from "../lib/errors.ts";
import type { Secret } from "../lib/secret.ts";

/** The settings that matter here, of either program. */
interface PasswordSettings {
  readonly password?: Secret | undefined;
  readonly "password-file"?: string | undefined;
}

/** Name of the credential in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), LoadCredential=). */
const CREDENTIAL_NAME = "omail-password";

/** Reads passwords; standard input only once, because it cannot be read again on reload. */
export interface PasswordReader {
  /** @returns null when there is none. @throws {UsageError} when its file cannot be read or holds none */
  read(settings: PasswordSettings): Secret | null;
}

/** Makes the reader of this process. */
export function createPasswordReader(env: NodeJS.ProcessEnv): PasswordReader {
  let fromStdin: Secret | null = null;
  return {
    read: (settings) => {
      if (settings.password !== undefined) return settings.password;
      const path = settings["password-file"];
      if (path === "-") return (fromStdin ??= makeSecret(readSecretFile("/dev/stdin", "--password-file -")));
      if (path !== undefined) return makeSecret(readSecretFile(path, `--password-file "${path}"`));
      const directory = env["CREDENTIALS_DIRECTORY"];
      return directory === undefined ? null : readCredential(join(directory, CREDENTIAL_NAME));
    },
  };
}

/** What to say about a password given by argument; null when it was not. */
export function argumentWarning(settings: ResolvedSettings<unknown>, flags: SettingsLayer): string | null {
  if (settings.layerOf("password") !== flags) return null;
  return "The password is in the arguments, where other users of this machine can see it: use OMAIL_PASSWORD or --password-file";
}

function readCredential(path: string): Secret | null {
  try {
    return makeSecret(stripLineEnd(readFileSync(path, "utf8")));
  } catch (error) {
    if (errorCode(error) === "ENOENT") return null;
    throw error;
  }
}

function readSecretFile(path: string, name: string): string {
  try {
    return stripLineEnd(readFileSync(path, "utf8"));
  } catch (error) {
    throw new UsageError(
      `${name}: Cannot read the password (${errorCode(error)}): expected a file with the password on one line`,
    );
  }
}

/** Editors and `echo` end the line; passwords do not contain one. */
function stripLineEnd(text: string): string {
  const line = text.replace(/\r?\n$/, "");
  if (line.includes("\n")) throw new UsageError("Cannot read the password: expected one line, found more");
  return line;
}
