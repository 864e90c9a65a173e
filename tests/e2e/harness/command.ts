/** Runs programs for the end-to-end tests: to their end, or in the background with their output kept. */

import { timeoutSeconds, within } from "./timing.ts";

/** How a program ended. */
export interface CommandResult {
  /** Exit status; a program that a signal ended has 128 + its number. */
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly elapsedMs: number;
}

export interface CommandOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly input?: string;
  /** After this time the program is killed; 20 scaled seconds if not given. */
  readonly limitMs?: number;
}

/** The environment that programs under test get: nothing of ours but the search path. */
const cleanEnvironment = {
  PATH: process.env["PATH"] ?? "/usr/sbin:/usr/bin:/sbin:/bin",
  LC_ALL: "C",
  HOME: "/nonexistent",
};

/** Runs a program to its end, whatever its exit status. */
export async function tryCommand(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<CommandResult> {
  const start = performance.now();
  const child = Bun.spawn([...argv], {
    env: { ...cleanEnvironment, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    timeout: Math.ceil(options.limitMs ?? timeoutSeconds(20)),
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout, stderr, elapsedMs: performance.now() - start };
}

/**
 * Runs a program that must succeed.
 *
 * @throws {Error} with the command line and what it printed when it did not
 */
export async function command(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const result = await tryCommand(argv, options);
  if (result.status === 0) return result;
  const said = (result.stderr.trim() || result.stdout.trim()).slice(-2000);
  throw new Error(`"${argv.join(" ")}" ended with ${result.status}: ${said}`);
}

/** A program in the background; its output is kept and can be waited for. */
export class BackgroundProgram {
  readonly title: string;
  readonly pid: number;
  /** Exit status; a program that a signal ended has 128 + its number. */
  readonly exited: Promise<number>;
  readonly #child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  readonly #drained: Promise<unknown>;
  #output = "";

  constructor(
    title: string,
    argv: readonly string[],
    options: Omit<CommandOptions, "limitMs" | "input"> = {},
  ) {
    this.title = title;
    this.#child = Bun.spawn([...argv], {
      env: { ...cleanEnvironment, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.pid = this.#child.pid;
    this.exited = this.#child.exited;
    this.#drained = Promise.all([this.#collect(this.#child.stdout), this.#collect(this.#child.stderr)]);
  }

  /** Standard output and error so far, as they came; the last 200,000 characters. */
  get output(): string {
    return this.#output;
  }

  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  signal(name: NodeJS.Signals): void {
    if (this.running) this.#child.kill(name);
  }

  /** Waits for the end and for the last of the output. */
  async wait(limitMs: number): Promise<number> {
    const status = await within(`The end of ${this.title}`, limitMs, this.exited);
    await within(`The last output of ${this.title}`, limitMs, this.#drained);
    return status;
  }

  /** Asks the program to end and returns its exit status; one that does not end in time is killed and is an error. */
  async stop(signal: NodeJS.Signals = "SIGTERM", limitMs = timeoutSeconds(10)): Promise<number> {
    this.signal("SIGCONT");
    this.signal(signal);
    try {
      return await this.wait(limitMs);
    } catch (error) {
      this.#child.kill("SIGKILL");
      await this.exited;
      throw error;
    }
  }

  /** Ends the program at once, as a crash would. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.exited;
  }

  async #collect(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      this.#output = (this.#output + decoder.decode(chunk, { stream: true })).slice(-200_000);
    }
  }
}
