/**
 * Two network namespaces joined by a veth pair, and the processes that run in them; all of it is removed by `close`.
 *
 *     client namespace             server namespace
 *     10.99.0.1/24  ---- veth ---- 10.99.0.2/24     outer
 *     10.77.0.1/24  ---- tunnel -- 10.77.0.2/24     inner, made by the peer
 */

import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OmailError, SystemError } from "../../lib/errors.ts";

export const OUTER = { client: "10.99.0.1", server: "10.99.0.2" } as const;
export const INNER = { client: "10.77.0.1", server: "10.77.0.2" } as const;

/** An end of the tunnel. */
export type Side = "client" | "server";

/** How long a command that only asks or sets something may take. */
const COMMAND_TIMEOUT_MS = 15_000;
/** How long a process may take to end by itself. */
const STOP_TIMEOUT_MS = 5_000;

/** A program that runs until it is stopped. */
export interface Started {
  readonly pid: number;
  readonly side: Side;
}

interface Running extends Started {
  readonly child: Bun.Subprocess;
}

/** What a finished command left. */
export interface Finished {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** See the file's head. Every wait ends when `signal` aborts, apart from those of `stop` and `close`. */
export class Testbed {
  readonly #signal: AbortSignal;
  readonly #id: number;
  readonly #running: Running[] = [];
  /** For keys, state and logs; readable by its owner only. */
  readonly directory: string;

  constructor(signal: AbortSignal, id = process.pid) {
    this.#signal = signal;
    this.#id = id;
    this.directory = mkdtempSync(join(tmpdir(), "omail-bench-"));
  }

  /** Makes the namespaces. After a failure, `close` removes what was made. */
  async open(): Promise<void> {
    const [client, server] = [this.namespace("client"), this.namespace("server")];
    const [near, far] = [this.link("va"), this.link("vb")];
    await this.command(["ip", "netns", "add", client]);
    await this.command(["ip", "netns", "add", server]);
    const pair = ["type", "veth", "peer", "name", far, "netns", server];
    await this.command(["ip", "link", "add", near, "netns", client, ...pair]);
    for (const [side, link] of [
      ["client", near],
      ["server", far],
    ] as const) {
      await this.ip(side, "link", "set", "lo", "up");
      await this.ip(side, "addr", "add", `${OUTER[side]}/24`, "dev", link);
      await this.ip(side, "link", "set", link, "up");
    }
  }

  namespace(side: Side): string {
    return `omail-bench-${side}-${this.#id}`;
  }

  /** A name for an interface that no other run uses: at most 15 bytes, the kernel's limit. */
  link(prefix: string): string {
    return `${prefix}${this.#id}`;
  }

  /** Configures a namespace with `ip`. */
  async ip(side: Side, ...args: string[]): Promise<void> {
    await this.command(["ip", "-n", this.namespace(side), ...args]);
  }

  /** Runs a command in a namespace; its failure is for the caller to judge. */
  run(side: Side, command: readonly string[], timeoutMs = COMMAND_TIMEOUT_MS): Promise<Finished> {
    return this.#finish(this.#inside(side, command), { timeout: timeoutMs, signal: this.#signal });
  }

  /** Runs a command, with `input` on its standard input. @throws {SystemError} when it fails */
  async command(command: readonly string[], input = ""): Promise<string> {
    const options = { timeout: COMMAND_TIMEOUT_MS, signal: this.#signal };
    const { exitCode, stdout, stderr } = await this.#finish(command, options, input);
    if (exitCode === 0) return stdout.trim();
    throw new SystemError(`"${command.join(" ")}" failed: ${stderr.trim()}`, command[0] ?? "", exitCode);
  }

  async #finish(
    command: readonly string[],
    options: { readonly timeout: number; readonly signal?: AbortSignal },
    input = "",
  ): Promise<Finished> {
    this.#signal.throwIfAborted();
    const streams = { stdin: new TextEncoder().encode(input), stdout: "pipe", stderr: "pipe" } as const;
    const child = Bun.spawn([...command], { ...streams, ...options, killSignal: "SIGKILL" });
    const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
    const exitCode = await child.exited;
    this.#signal.throwIfAborted();
    return { exitCode, stdout, stderr };
  }

  #inside(side: Side, command: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.namespace(side), ...command];
  }

  /** Starts a program in a namespace; what it says goes to the log. Only PATH and `env` are its environment. */
  start(side: Side, command: readonly string[], env: Readonly<Record<string, string>> = {}): Started {
    this.#signal.throwIfAborted();
    const log = openSync(this.#log, "a");
    try {
      const child = Bun.spawn(this.#inside(side, command), {
        cwd: this.directory,
        env: { PATH: process.env["PATH"] ?? "", ...env },
        stdio: ["ignore", log, log],
      });
      // `ip netns exec` becomes the program, so this is the program's id
      const running = { pid: child.pid, side, child };
      this.#running.push(running);
      return running;
    } finally {
      closeSync(log);
    }
  }

  /** Repeats a question until its answer is yes. @throws {OmailError} with the end of the log, after `timeoutMs` */
  async until(what: string, question: () => Promise<boolean>, timeoutMs = 15_000): Promise<void> {
    const endMs = performance.now() + timeoutMs;
    while (!(await question())) {
      const dead = this.#running.find(({ child }) => child.exitCode !== null);
      if (dead !== undefined || performance.now() > endMs) {
        const why = dead === undefined ? `not within ${timeoutMs} ms` : `a program ended`;
        throw new OmailError(`${what}: ${why}\n${this.#logTail()}`);
      }
      await Bun.sleep(100);
    }
  }

  get #log(): string {
    return join(this.directory, "log");
  }

  #logTail(lines = 8): string {
    if (!existsSync(this.#log)) return "";
    return readFileSync(this.#log, "utf8").trimEnd().split("\n").slice(-lines).join("\n");
  }

  /** Ends every started program, by force if need be, and empties the log. */
  async stop(): Promise<void> {
    const stopping = this.#running.splice(0);
    for (const { child } of stopping) child.kill("SIGTERM");
    await Promise.all(
      stopping.map(async ({ child }) => {
        const force = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
        await child.exited;
        clearTimeout(force);
      }),
    );
    rmSync(this.#log, { force: true });
  }

  /** Removes everything, as far as it was made. */
  async close(): Promise<void> {
    await this.stop();
    for (const side of ["client", "server"] as const) {
      const name = this.namespace(side);
      if (!existsSync(`/run/netns/${name}`)) continue;
      const { exitCode, stderr } = Bun.spawnSync(["ip", "netns", "del", name]);
      if (exitCode !== 0) console.error(`bench: cannot remove the namespace "${name}": ${stderr.toString()}`);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}
