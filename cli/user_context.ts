/** What the commands of `omail-server user` share: the database, the server that shall know, names and passwords. */

import type { AuthMode } from "../lib/auth_mode.ts";
import { requestAction } from "../lib/control_socket.ts";
import { makeSecret } from "../lib/config_field.ts";
import { messageOf } from "../lib/caught.ts";
import { NotRunningError, OmailError, UsageError } from "../lib/errors.ts";
import type { Instance } from "../lib/instance.ts";
import { makeVerifier, prepareText, saltForUser, type Verifier } from "../lib/password.ts";
import type { Secret } from "../lib/secret.ts";
import { loadServerSecret } from "../lib/server_identity.ts";
import { readUserName } from "../lib/user_record.ts";
import { type Moment, monthOf } from "../lib/user_rules.ts";
import { COMMAND_BUSY_TIMEOUT_MS, findUserStore, UserStore } from "../lib/user_store.ts";
import type { CommandInput } from "./command.ts";
import type { FlagValues } from "./flags.ts";
import { findInstance } from "./instance.ts";
import { createPasswordReader } from "./password.ts";
import { promptPassword } from "./prompt.ts";
import { INSTANCE_FLAGS } from "./tunnel_flags.ts";

/** Random bytes of a password that nobody knows. */
const UNKNOWN_PASSWORD_BYTES = 32;

/** Finds the instance by those flags that tell it. */
export async function findServer(flags: FlagValues): Promise<Instance> {
  const known = Object.entries(flags).filter(([name]) => Object.hasOwn(INSTANCE_FLAGS, name));
  return (await findInstance("server", Object.fromEntries(known))).instance;
}

/** The name that a command was given. @throws {UsageError} when it cannot be one */
export function nameOf({ positionals }: CommandInput): string {
  return readUserName(prepareText(positionals[0] ?? "", "user name"));
}

/** Uses the database and closes it. */
export async function withStore<T>(
  { stateDir }: Instance,
  use: (store: UserStore) => T | Promise<T>,
): Promise<T> {
  const store = new UserStore(stateDir, COMMAND_BUSY_TIMEOUT_MS);
  try {
    return await use(store);
  } finally {
    store.close();
  }
}

/** Like {@link withStore} for a command that only reads: does not make a database. Null when there is none. */
export async function withStoreIfThere<T>(
  instance: Instance,
  use: (store: UserStore) => T | Promise<T>,
): Promise<T | null> {
  return findUserStore(instance.stateDir) === null ? null : await withStore(instance, use);
}

/** The moment and use of every user now. */
export function momentsOf(store: UserStore): (name: string) => Moment {
  const wallMs = Date.now();
  const usage = store.usageOf(monthOf(wallMs));
  return (name) => ({ wallMs, usedBytes: usage.get(name) ?? 0 });
}

/**
 * Has a running server take a stored change over, and tells what came of it.
 *
 * @param done what was stored, as a sentence
 * @throws {OmailError} when the server runs but could not
 */
export async function finish(instance: Instance, done: string): Promise<void> {
  try {
    process.stdout.write(`${done}. ${await requestAction(instance, "users")}.\n`);
  } catch (error) {
    if (error instanceof NotRunningError) {
      process.stdout.write(
        `${done}. No server runs with interface "${instance.tun}": it counts from its start.\n`,
      );
      return;
    }
    throw new OmailError(`${done}, but the server has not taken it over: ${messageOf(error)}`);
  }
}

/**
 * Takes the password out of the environment; call it before the settings are read, which take it away.
 *
 * @returns null when it is not there
 */
export function takePassword(env: NodeJS.ProcessEnv): Secret | null {
  const text = env["OMAIL_PASSWORD"];
  delete env["OMAIL_PASSWORD"];
  return text === undefined ? null : makeSecret(text);
}

/**
 * Gets the new password of a user: from a file, from the environment, or asked for twice on a terminal.
 *
 * @throws {UsageError} when there is none, or it cannot be used
 */
export async function readNewPassword(
  name: string,
  flags: FlagValues,
  given: Secret | null,
): Promise<Secret> {
  const path = flags["password-file"];
  const read = typeof path === "string" ? createPasswordReader({}).read({ "password-file": path }) : given;
  if (read !== null) return read;
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new UsageError(
      "Cannot go on without a password: give OMAIL_PASSWORD or --password-file FILE, or use a terminal to be asked",
    );
  }
  const first = await ask(`New password of ${name}: `);
  if ((await ask("Again: ")) !== first) throw new UsageError("The two passwords differ: nothing was changed");
  return makeSecret(first);
}

/**
 * The same for a user who is being added. One who needs none, and is given none, gets one that nobody knows.
 *
 * @param auth what the user has to prove
 */
export async function readFirstPassword(
  name: string,
  flags: FlagValues,
  given: Secret | null,
  auth: AuthMode | null,
): Promise<Secret> {
  if (auth === "cert" && given === null && flags["password-file"] === undefined)
    return makeSecret(crypto.getRandomValues(new Uint8Array(UNKNOWN_PASSWORD_BYTES)).toHex());
  return await readNewPassword(name, flags, given);
}

function ask(question: string): Promise<string> {
  return promptPassword(question, process.stdin, (text) => process.stderr.write(text));
}

/** Makes the verifier to be stored, with the salt that the server has shown for this name before. */
export async function verifierFor(instance: Instance, name: string, password: Secret): Promise<Verifier> {
  const secret = Uint8Array.from(await loadServerSecret(instance.stateDir));
  return await makeVerifier(password.reveal(), await saltForUser(secret, name));
}
