/**
 * Network namespaces joined by veth pairs, and the processes that run in them; all of it is removed by `close`.
 *
 *     client namespace             server namespace
 *     10.99.0.1/24  ---- veth ---- 10.99.0.2/24     outer
 *     10.77.0.1/24  ---- tunnel -- 10.77.0.2/24     inner, made by the peer
 *
 * More clients have a namespace and a veth pair each: number i has 10.99.i.1 outside and 10.77.0.(i + 2) inside.
 */

import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OmailError, SystemError } from "../../lib/errors.ts";

/** The server's inner address, and the network of all inner addresses. */
export const INNER_SERVER = "10.77.0.2";
export const INNER_NETWORK = "10.77.0.0/24";
/** Inner addresses that are left for clients. */
export const MOST_CLIENTS = 200;

/** An end of a tunnel; further clients are numbered from 1. */
export type Side = "server" | "client" | `client${number}`;

/** A client's number, counted from 0. */
function numberOf(client: Side): number {
  return Number(client.slice("client".length));
}

/** Both ends of a client's veth pair. */
export function outerOf(client: Side): { readonly client: string; readonly server: string } {
  const network = `10.99.${numberOf(client)}`;
  return { client: `${network}.1`, server: `${network}.2` };
}

/** Inner address of an end. */
export function innerOf(side: Side): string {
  if (side === "server") return INNER_SERVER;
  const number = numberOf(side);
  return `10.77.0.${number === 0 ? 1 : number + 2}`;
}

/** What the path between the ends is like. */
export interface Path {
  /** Percent of outer UDP datagrams that are lost at random, each way. */
  readonly lossPercent: number;
  /** Congestion control of the TCP flows through the tunnel, as iperf3 takes it. */
  readonly congestion: string;
  /** A bottleneck each way, as tc(8) writes rates; null for none. */
  readonly rate: string | null;
}

/** As fast as the machine can. */
export const FREE_PATH: Path = { lossPercent: 0, congestion: "cubic", rate: null };

export interface TestbedOptions {
  readonly clients?: number;
  readonly path?: Path;
}

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
  readonly #id = process.pid;
  readonly path: Path;
  readonly #running: Running[] = [];
  /** For keys, state and logs; readable by its owner only. */
  readonly directory: string;
  readonly clients: readonly Side[];

  constructor(signal: AbortSignal, { clients = 1, path = FREE_PATH }: TestbedOptions = {}) {
    this.#signal = signal;
    this.path = path;
    this.clients = Array.from({ length: clients }, (_, i): Side => (i === 0 ? "client" : `client${i}`));
    this.directory = mkdtempSync(join(tmpdir(), "omail-bench-"));
  }

  /** @throws what the measurement was ended with, if it was */
  throwIfAborted(): void {
    this.#signal.throwIfAborted();
  }

  /** Makes the namespaces. After a failure, `close` removes what was made. */
  async open(): Promise<void> {
    await this.#addNamespace("server");
    for (const client of this.clients) await this.#join(client);
    if (this.path.lossPercent > 0) await this.setLoss(this.path.lossPercent);
  }

  /**
   * Makes a namespace. Its default congestion control is one that every kernel has and any namespace may have, and that does
   * not pace: a connection that begins with the machine's default, BBR say, stays paced when iperf3 gives it another one.
   */
  async #addNamespace(side: Side): Promise<void> {
    await this.command(["ip", "netns", "add", this.namespace(side)]);
    await this.#inNamespace(side, ["sh", "-c", "echo reno >/proc/sys/net/ipv4/tcp_congestion_control"]);
    await this.ip(side, "link", "set", "lo", "up");
  }

  /** Makes a client's namespace and its veth pair. */
  async #join(client: Side): Promise<void> {
    const [near, far] = [this.#vethOf(client, "client"), this.#vethOf(client, "server")];
    const outer = outerOf(client);
    await this.#addNamespace(client);
    const pair = ["type", "veth", "peer", "name", far, "netns", this.namespace("server")];
    await this.command(["ip", "link", "add", near, "netns", this.namespace(client), ...pair]);
    for (const [side, link, address] of [
      [client, near, outer.client],
      ["server", far, outer.server],
    ] as const) {
      await this.ip(side, "addr", "add", `${address}/24`, "dev", link);
      await this.ip(side, "link", "set", link, "up");
      if (this.path.rate !== null) await this.#limitRate(side, link, this.path.rate);
    }
  }

  async #limitRate(side: Side, link: string, rate: string): Promise<void> {
    const shape = ["tbf", "rate", rate, "burst", "70kb", "latency", "30ms"];
    await this.command(["tc", "-n", this.namespace(side), "qdisc", "add", "dev", link, "root", ...shape]);
  }

  /**
   * Sets the loss of the path, also while traffic flows.
   *
   * Datagrams are lost one by one: once there is loss, the pairs hand over no super-packets, of which the whole would be
   * lost at once.
   */
  async setLoss(percent: number): Promise<void> {
    if (percent > 0) await this.splitDatagrams();
    for (const client of this.clients) {
      await this.#lose(client, this.#vethOf(client, "client"), percent);
      await this.#lose("server", this.#vethOf(client, "server"), percent);
    }
  }

  /** Hands over datagrams one by one from now on, as {@link setLoss} does when there is any. */
  async splitDatagrams(): Promise<void> {
    const off = ["gso", "off", "tso", "off", "gro", "off", "tx-udp-segmentation", "off"];
    for (const client of this.clients) {
      await this.#inNamespace(client, ["ethtool", "-K", this.#vethOf(client, "client"), ...off]);
      await this.#inNamespace("server", ["ethtool", "-K", this.#vethOf(client, "server"), ...off]);
    }
  }

  async #lose(side: Side, link: string, percent: number): Promise<void> {
    const table = `loss-${link}`;
    const share = `numgen random mod 100000 < ${Math.round(percent * 1000)}`;
    const rule = `iifname "${link}" meta l4proto udp ${share} drop`;
    const chain = `chain input { type filter hook prerouting priority -300; ${rule}; }`;
    const script = [
      `add table inet ${table}`,
      `delete table inet ${table}`,
      ...(percent > 0 ? [`table inet ${table} {`, chain, "}"] : []),
    ];
    await this.#inNamespace(side, ["nft", "-f", "-"], `${script.join("\n")}\n`);
  }

  async #inNamespace(side: Side, command: readonly string[], input = ""): Promise<string> {
    return await this.command(this.#inside(side, command), input);
  }

  namespace(side: Side): string {
    return `omail-bench-${side}-${this.#id}`;
  }

  /** Name of an end of a client's veth pair. */
  #vethOf(client: Side, end: "client" | "server"): string {
    return this.link(end === "client" ? "va" : "vb", client);
  }

  /** A name for an interface that no other run uses: at most 15 bytes, the kernel's limit. */
  link(prefix: string, client: Side = "client"): string {
    const number = numberOf(client);
    return `${prefix}${this.#id}${number === 0 ? "" : `-${number}`}`;
  }

  /** Configures a namespace with `ip`. */
  async ip(side: Side, ...args: string[]): Promise<void> {
    await this.command(["ip", "-n", this.namespace(side), ...args]);
  }

  /** Runs a command in a namespace, with `input` on its standard input; its failure is for the caller to judge. */
  run(side: Side, command: readonly string[], timeoutMs = COMMAND_TIMEOUT_MS, input = ""): Promise<Finished> {
    return this.#finish(this.#inside(side, command), { timeout: timeoutMs, signal: this.#signal }, input);
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

  /** Whether something listens on a TCP port at the server's end. */
  async isListening(port: number): Promise<boolean> {
    const { stdout } = await this.run("server", ["ss", "-Hltn", `sport = :${port}`]);
    return stdout.trim() !== "";
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
    for (const side of [...this.clients, "server"] as const) {
      const name = this.namespace(side);
      if (!existsSync(`/run/netns/${name}`)) continue;
      const { exitCode, stderr } = Bun.spawnSync(["ip", "netns", "del", name]);
      if (exitCode !== 0) console.error(`bench: cannot remove the namespace "${name}": ${stderr.toString()}`);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}
