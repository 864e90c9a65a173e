/** Runs a system command: argument array, no shell, a clean environment, a time limit. */

import { errnoOf, errorCode, messageOf } from "./caught.ts";
import { PrivilegeError, SystemError } from "./errors.ts";

/** What a command left behind. `status` is its exit status, or -1 when a signal or the time limit ended it. */
export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs `argv` with `input` on its standard input.
 *
 * @throws {SystemError} when the command is not installed or cannot be started
 */
export type RunCommand = (argv: readonly string[], input?: string) => Promise<CommandResult>;

/** A command that talks to a dead daemon (resolvectl and D-Bus) must not hang the start or the end of a tunnel. */
const COMMAND_TIMEOUT_MS = 10_000;

/** Debian packages of the commands we use, for the message when one is missing. */
const PACKAGES: Readonly<Record<string, string>> = {
  ip: "iproute2",
  nft: "nftables",
  resolvectl: "systemd-resolved",
  resolvconf: "openresolv",
};

/**
 * Children get a path that has the administrator's folders, untranslated messages, and nothing else of our
 * environment: it may hold a password.
 */
const ENVIRONMENT = {
  PATH: `${process.env["PATH"] ?? "/usr/bin:/bin"}:/usr/sbin:/sbin`,
  LC_ALL: "C",
};

/** The {@link RunCommand} that starts real processes. */
export const runCommand: RunCommand = async (argv, input) => {
  const child = start(argv, input);
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status: child.signalCode === null ? status : -1, stdout, stderr };
};

function start(argv: readonly string[], input: string | undefined) {
  try {
    return Bun.spawn({
      cmd: [...argv],
      env: ENVIRONMENT,
      stdin: input === undefined ? "ignore" : new Blob([input]),
      stdout: "pipe",
      stderr: "pipe",
      timeout: COMMAND_TIMEOUT_MS,
      // Its own process group: Ctrl-C on our terminal must not kill the command that puts the machine back.
      detached: true,
    });
  } catch (error) {
    throw startError(argv[0] ?? "", error);
  }
}

function startError(command: string, error: unknown): SystemError {
  const errno = errnoOf(error);
  if (errorCode(error) !== "ENOENT") {
    return new SystemError(`Cannot run "${command}": ${messageOf(error)}`, command, errno);
  }
  const install = PACKAGES[command];
  const remedy = install === undefined ? "install it" : `install it: apt-get install ${install}`;
  return new SystemError(`Cannot run "${command}": command not found; ${remedy}`, command, errno);
}

/**
 * Runs a command that must succeed.
 *
 * @param purpose what it was for, as the start of an error message: `Cannot set up NAT`
 * @returns its standard output
 * @throws {PrivilegeError} when the kernel refused for lack of privilege
 * @throws {SystemError} when the command is missing or failed otherwise
 */
export async function expectCommand(
  run: RunCommand,
  purpose: string,
  argv: readonly string[],
  input?: string,
): Promise<string> {
  const result = await run(argv, input);
  if (result.status !== 0) throw commandError(purpose, argv[0] ?? "", result.status, result.stderr);
  return result.stdout;
}

/** Makes the error of a failed command; see {@link expectCommand}. */
export function commandError(
  purpose: string,
  command: string,
  status: number,
  stderr: string,
): SystemError | PrivilegeError {
  const detail = stderr.trim().replaceAll(/\s*\n\s*/g, "; ") || `${command} ended with status ${status}`;
  if (/operation not permitted|must be root/i.test(detail)) {
    return new PrivilegeError(`${purpose}: ${detail}; run as root or with CAP_NET_ADMIN`);
  }
  return new SystemError(`${purpose}: ${detail}`, command, status);
}
