/**
 * The machines of the end-to-end tests: network namespaces joined by veth pairs, removed without a trace.
 *
 *   client 1                            internet                               server
 *  +-----------------------+           +--------------------------+           +------------------------+
 *  | wan 100.64.1.2/24     |---veth----| c1  100.64.1.1           |           |                        |
 *  |     2001:db8:1::2/64  |           |     2001:db8:1::1        |           |                        |
 *  | default via c1        |           |                  srv     |---veth----| wan 203.0.113.2/24     |
 *  +-----------------------+           |     203.0.113.1          |           |     2001:db8:203::2/64 |
 *   client 2                           |     2001:db8:203::1      |           | default via srv        |
 *  +-----------------------+           |                          |           +------------------------+
 *  | wan 100.64.2.2/24 ... |---veth----| c2 ...                   |
 *  +-----------------------+           | lo  198.51.100.80 (web)  |
 *                                      |     2001:db8:80::80      |
 *                                      +--------------------------+
 *
 * The server is reached through a router, by the client's default route: what a full tunnel must not swallow. The
 * router knows no inner address, so inner packets that leave outside a tunnel get nowhere. The web server sees who
 * asks: the client's own address without a tunnel, the server's with one. All addresses are documentation or
 * carrier-grade NAT ranges (RFC 5737, RFC 3849, RFC 6598).
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  BackgroundProgram,
  type CommandOptions,
  type CommandResult,
  command,
  tryCommand,
} from "./command.ts";
import { timeoutSeconds, until } from "./timing.ts";

/** Outer addresses of the server and of the web server. */
export const SERVER_ADDRESS = "203.0.113.2";
export const SERVER_ADDRESS6 = "2001:db8:203::2";
export const WEB_ADDRESS = "198.51.100.80";
export const WEB_ADDRESS6 = "2001:db8:80::80";

/** Outer addresses of a client, counted from 0. */
export function clientAddress(index: number): string {
  return `100.64.${index + 1}.2`;
}
export function clientAddress6(index: number): string {
  return `2001:db8:${index + 1}::2`;
}

let networksMade = 0;

/** One machine: a network namespace and the programs that run in it. */
export class Machine {
  readonly namespace: string;
  /** Programs started here that must not outlive the machine. */
  readonly programs: BackgroundProgram[] = [];

  constructor(namespace: string) {
    this.namespace = namespace;
  }

  /** Runs a program to its end; it must succeed. */
  run(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return command(this.#inside(argv), options);
  }

  /** Runs a program to its end, whatever its exit status. */
  tryRun(argv: readonly string[], options?: CommandOptions): Promise<CommandResult> {
    return tryCommand(this.#inside(argv), options);
  }

  /** Starts a program in the background. Its process ID is the program's own: `ip netns exec` only replaces itself. */
  start(title: string, argv: readonly string[], options?: CommandOptions): BackgroundProgram {
    const program = new BackgroundProgram(`${title} in ${this.namespace}`, this.#inside(argv), options);
    this.programs.push(program);
    return program;
  }

  /** Starts one of the helper programs in `tests/e2e/programs`. */
  startHelper(name: string, ...args: readonly string[]): BackgroundProgram {
    return this.start(name, [process.execPath, helperPath(name), ...args]);
  }

  /** Runs one of the helper programs to its end and returns the JSON value that it prints. */
  async runHelper(name: string, args: readonly string[], limitMs: number): Promise<unknown> {
    const { stdout } = await this.run([process.execPath, helperPath(name), ...args], { limitMs });
    return JSON.parse(stdout);
  }

  /** Loads an nft ruleset. */
  async nft(rules: string): Promise<void> {
    await this.run(["nft", "-f", "-"], { input: rules });
  }

  /** Ends every program by its process ID, then removes the namespace with all that is in it. */
  async remove(): Promise<void> {
    await Promise.all(this.programs.map((program) => program.kill()));
    const left = await tryCommand(["ip", "netns", "pids", this.namespace]);
    for (const pid of left.stdout.split("\n").filter(Boolean)) killByPid(Number(pid));
    await tryCommand(["ip", "netns", "del", this.namespace]);
  }

  #inside(argv: readonly string[]): string[] {
    return ["ip", "netns", "exec", this.namespace, ...argv];
  }
}

/** Path of a helper program. */
export function helperPath(name: string): string {
  return new URL(`../programs/${name}.ts`, import.meta.url).pathname;
}

/** Ends a process that runs in one of our namespaces; it may be gone already. */
function killByPid(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

/** The machines of one test, and a directory for its files. */
export class Network {
  readonly directory: string;
  readonly internet: Machine;
  readonly server: Machine;
  readonly clients: readonly Machine[];

  private constructor(directory: string, prefix: string, clientCount: number) {
    this.directory = directory;
    this.internet = new Machine(`${prefix}i`);
    this.server = new Machine(`${prefix}s`);
    this.clients = Array.from({ length: clientCount }, (_, index) => new Machine(`${prefix}c${index + 1}`));
  }

  /** Makes the machines and joins them. What was made is removed again when a step fails. */
  static async make(clientCount: number): Promise<Network> {
    const directory = await mkdtemp(join(tmpdir(), "omail-e2e-"));
    const network = new Network(directory, `omail${process.pid}x${networksMade++}`, clientCount);
    try {
      await network.#build();
      return network;
    } catch (error) {
      await network.remove();
      throw error;
    }
  }

  /** The machines in the order in which they are made. */
  get machines(): readonly Machine[] {
    return [this.internet, this.server, ...this.clients];
  }

  client(index: number): Machine {
    const machine = this.clients[index];
    if (machine === undefined)
      throw new Error(`There is no client ${index}: the network was made with ${this.clients.length}`);
    return machine;
  }

  /** Ends all programs, removes all machines and the directory. */
  async remove(): Promise<void> {
    await Promise.all(this.machines.map((machine) => machine.remove()));
    await rm(this.directory, { recursive: true, force: true });
  }

  async #build(): Promise<void> {
    for (const machine of this.machines) {
      await command(["ip", "netns", "add", machine.namespace]);
      // Without duplicate address detection addresses do not change by themselves a second later.
      const noDad = "for f in all default; do echo 0 >/proc/sys/net/ipv6/conf/$f/accept_dad; done";
      await machine.run(["sh", "-c", `${noDad}; ip link set lo up`]);
    }
    await this.internet.run([
      "sh",
      "-c",
      "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
    ]);
    await this.#ipBatch(this.internet, [
      `address add ${WEB_ADDRESS}/32 dev lo`,
      `address add ${WEB_ADDRESS6}/128 dev lo`,
    ]);
    await this.#join(this.server, "srv", "203.0.113", "2001:db8:203");
    for (const [index, machine] of this.clients.entries()) {
      await this.#join(machine, `c${index + 1}`, `100.64.${index + 1}`, `2001:db8:${index + 1}`);
    }
    await Promise.all([this.server, ...this.clients].map((machine) => this.#waitForRest(machine)));
  }

  /** When the kernel notices the carrier, the link gets its link-local address and routes by itself. */
  async #waitForRest(machine: Machine): Promise<void> {
    await until(`a carrier in ${machine.namespace}`, timeoutSeconds(5), async () => {
      const { stdout } = await machine.run(["ip", "address", "show", "wan"]);
      const atRest = stdout.includes("state UP") && stdout.includes("fe80:") && !stdout.includes("tentative");
      return atRest ? true : undefined;
    });
  }

  /** A veth pair from a machine (`wan`) to the internet (`far`): .2 here, .1 and the default route there. */
  async #join(machine: Machine, far: string, net4: string, net6: string): Promise<void> {
    const here = `ip link add wan netns ${machine.namespace} type veth`;
    await command(`${here} peer name ${far} netns ${this.internet.namespace}`.split(" "));
    await this.#ipBatch(this.internet, [
      `address add ${net4}.1/24 dev ${far}`,
      `address add ${net6}::1/64 dev ${far}`,
      `link set ${far} up`,
    ]);
    await this.#ipBatch(machine, [
      `address add ${net4}.2/24 dev wan`,
      `address add ${net6}::2/64 dev wan`,
      "link set wan up",
      `route add default via ${net4}.1`,
      `-6 route add default via ${net6}::1`,
    ]);
  }

  async #ipBatch(machine: Machine, lines: readonly string[]): Promise<void> {
    for (const line of lines) await machine.run(["ip", ...line.split(" ")], { limitMs: timeoutSeconds(5) });
  }
}
