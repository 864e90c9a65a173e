/** The two executables under test: starts them, waits until they say that they are ready, asks for their status. */

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { BackgroundProgram, CommandResult } from "./command.ts";
import { type Machine, type Network, SERVER_ADDRESS } from "./network.ts";
import { timeoutSeconds, until } from "./timing.ts";
import { RUN_VARIANT, type Variant, variantCommand, variantReady } from "./variant.ts";

export const PASSWORD = "correct horse battery staple";
export const DEFAULT_TUN = "omail0";
/** Inner networks of a server that a test starts without its own. */
export const INNER_NETWORK = "10.8.0.0/24";
export const INNER_NETWORK6 = "fd08:8::/64";
export const INNER_SERVER = "10.8.0.1";
export const INNER_SERVER6 = "fd08:8::1";
/** What a client without a full tunnel routes. */
export const SPLIT_TUNNEL = `${INNER_NETWORK},${INNER_NETWORK6}`;

/** One entry of `omail-server status --json`, as far as the tests look at it. */
export interface SessionStatus {
  readonly id: number | string;
  readonly user: string;
  readonly endpoint: string | null;
  readonly addresses: readonly string[];
  readonly epoch: number | null;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly datagramBytes: number | null;
  readonly recordLimit: number;
  readonly transport: "udp" | "tcp";
  readonly state: "connected" | "silent" | "reconnecting";
}

export interface ServerStatus {
  readonly refusals?: Readonly<Record<string, number>>;
  readonly tun: string;
  readonly sessions: readonly SessionStatus[];
  readonly gone: readonly { readonly user: string; readonly reason: string }[];
  readonly totals: { readonly drops: Readonly<Record<string, number>> };
}

export interface ClientStatus {
  readonly state: "connecting" | "connected" | "reconnecting";
  readonly server: string;
  readonly transport: "udp" | "tcp";
  readonly reason: string | null;
  readonly addresses: readonly string[];
  readonly datagramBytes: number | null;
  readonly drops: Readonly<Record<string, number>>;
}

export type Role = "server" | "client";

/** Path of an executable; it must have been built. */
export function executable(role: Role): string {
  const path = new URL(`../../../omail-${role}`, import.meta.url).pathname;
  if (!existsSync(path)) throw new Error(`There is no "${path}": build it with "bun run build"`);
  return path;
}

export interface StartOptions {
  /** More arguments; one that the harness would give itself replaces it. */
  readonly args?: readonly string[];
  readonly tun?: string;
  readonly password?: string;
  /** Directory name inside the network's; one per role and machine if not given. */
  readonly stateDir?: string;
  /** Return as soon as the process exists; for starts that are expected to fail or to take long. */
  readonly waitUntilReady?: boolean;
  /** The machine that it finds; the run's if not given. */
  readonly variant?: Variant;
}

/** A running `omail-server` or `omail-client`. */
export class OmailProgram<Status> {
  readonly program: BackgroundProgram;
  readonly machine: Machine;
  readonly role: Role;
  readonly tun: string;
  readonly stateDir: string;

  constructor(program: BackgroundProgram, machine: Machine, role: Role, tun: string, stateDir: string) {
    this.program = program;
    this.machine = machine;
    this.role = role;
    this.tun = tun;
    this.stateDir = stateDir;
  }

  /** Runs another subcommand against this instance, whatever its exit status. */
  control(...args: readonly string[]): Promise<CommandResult> {
    return this.machine.tryRun([
      executable(this.role),
      ...args,
      "--tun",
      this.tun,
      "--state-dir",
      this.stateDir,
    ]);
  }

  /** Answer of `status --json`. @throws {Error} when it is not 0 or not JSON */
  async status(): Promise<Status> {
    const answer = await this.control("status", "--json");
    if (answer.status !== 0) throw new Error(`status ended with ${answer.status}: ${answer.stderr.trim()}`);
    return JSON.parse(answer.stdout) as Status;
  }

  /** Largest resident memory that the process has now, in bytes (`VmRSS` of proc(5)). */
  async residentBytes(): Promise<number> {
    const status = await Bun.file(`/proc/${this.program.pid}/status`).text();
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024;
  }

  /** Waits for a `status` that satisfies `wanted`; ends early when the program ends. */
  waitForStatus(
    what: string,
    wanted: (status: Status) => boolean,
    limitMs = timeoutSeconds(15),
  ): Promise<Status> {
    return until(`${this.program.title}: ${what}`, limitMs, async () => {
      if (!this.program.running) return undefined;
      const status = await this.status();
      return wanted(status) ? status : undefined;
    });
  }

  /** Ends it in an orderly way; anything but exit status 0 is an error. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    const status = await this.program.stop(signal);
    if (status !== 0)
      throw new Error(`${this.program.title} ended with ${status} after ${signal}: ${this.program.output}`);
  }
}

/** Adds each default whose flag is not among the arguments. */
function withDefaults(args: readonly string[], defaults: Readonly<Record<string, string>>): string[] {
  const missing = Object.entries(defaults).filter(([flag]) => !args.includes(flag));
  return [...args, ...missing.flat()];
}

function start<Status>(
  network: Network,
  machine: Machine,
  role: Role,
  options: StartOptions,
  args: string[],
): OmailProgram<Status> {
  const tun = options.tun ?? DEFAULT_TUN;
  const stateDir = join(network.directory, options.stateDir ?? `${machine.namespace}-${role}`);
  const argv = [executable(role), ...args, "--tun", tun, "--state-dir", stateDir];
  const env = { OMAIL_PASSWORD: options.password ?? PASSWORD };
  const command = variantCommand(options.variant ?? RUN_VARIANT, role, argv);
  const program = machine.start(`omail-${role} ${tun}`, command, { env, cwd: network.directory });
  return new OmailProgram<Status>(program, machine, role, tun, stateDir);
}

/** Starts a server on the network's server machine and waits until its `status` answers. */
export async function startServer(
  network: Network,
  options: StartOptions = {},
): Promise<OmailProgram<ServerStatus>> {
  const args = withDefaults(options.args ?? [], {
    "--tun-ip": `${INNER_SERVER}/24`,
    "--tun-ip6": `${INNER_SERVER6}/64`,
    "--log-level": "debug",
  });
  const server = start<ServerStatus>(network, network.server, "server", options, args);
  if (options.waitUntilReady !== false) await waitForStart(server, options, () => true);
  return server;
}

export interface ClientStartOptions extends StartOptions {
  /** Send everything through the tunnel; without it only the inner networks. */
  readonly fullTunnel?: boolean;
}

/** Starts a client and waits until it is connected. */
export async function startClient(
  network: Network,
  index = 0,
  options: ClientStartOptions = {},
): Promise<OmailProgram<ClientStatus>> {
  const args = withDefaults(options.args ?? [], {
    "--server": `${SERVER_ADDRESS}:51820`,
    "--log-level": "debug",
    ...(options.fullTunnel === true ? {} : { "--split-tunnel": SPLIT_TUNNEL }),
  });
  const client = start<ClientStatus>(network, network.client(index), "client", options, args);
  if (options.waitUntilReady !== false)
    await waitForStart(client, options, (status) => status.state === "connected");
  return client;
}

/** Waits for readiness; a program that ends instead is an error with what it said. */
async function waitForStart<Status>(
  started: OmailProgram<Status>,
  options: StartOptions,
  ready: (status: Status) => boolean,
): Promise<void> {
  const ended = started.program.exited.then((status) => {
    throw new Error(`${started.program.title} ended with ${status}: ${started.program.output}`);
  });
  await Promise.race([started.waitForStatus("ready", ready), ended]);
  await variantReady(options.variant ?? RUN_VARIANT, started.program);
}

/** The inner addresses of a connected client, without prefix lengths. */
export async function innerAddresses(
  client: OmailProgram<ClientStatus>,
): Promise<{ v4: string; v6: string }> {
  const addresses = (await client.status()).addresses.map((text) => text.split("/")[0]!);
  const v4 = addresses.find((text) => !text.includes(":"));
  const v6 = addresses.find((text) => text.includes(":"));
  if (v4 === undefined || v6 === undefined)
    throw new Error(`Expected an address of both families, got "${addresses.join(" ")}"`);
  return { v4, v6 };
}

/** Adds up `totals.drops` under one reason. */
export async function dropCount(server: OmailProgram<ServerStatus>, reason: string): Promise<number> {
  return (await server.status()).totals.drops[reason] ?? 0;
}

export interface FailingStart {
  readonly args: readonly string[];
  readonly password?: string;
  /** Put in front of the executable, for example `setpriv …`. */
  readonly wrapper?: readonly string[];
}

/** Runs an executable that is expected to end by itself; one that does not is killed and has status 137. */
export function runToEnd(
  network: Network,
  machine: Machine,
  role: Role,
  options: FailingStart,
): Promise<CommandResult> {
  const stateDir = ["--state-dir", join(network.directory, `${machine.namespace}-${role}-failing`)];
  const argv = [...(options.wrapper ?? []), executable(role), ...options.args];
  return machine.tryRun(options.args.includes("--state-dir") ? argv : [...argv, ...stateDir], {
    env: { OMAIL_PASSWORD: options.password ?? PASSWORD },
    cwd: network.directory,
    limitMs: timeoutSeconds(10),
  });
}
