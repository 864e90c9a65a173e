/** Real applications as traffic: ping, iperf3 and curl, with their answers as values. */

import { join } from "node:path";
import { type BackgroundProgram, command } from "./command.ts";
import type { Machine } from "./network.ts";
import { timeoutSeconds, until } from "./timing.ts";

/** What ping counted. */
export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** Median of the round-trip times it printed; null with `-q` or when nothing came back. */
  readonly medianMs: number | null;
}

export interface PingOptions {
  readonly count: number;
  /** ICMP payload in bytes. */
  readonly bytes?: number;
  readonly intervalSeconds?: number;
  /** Source address or interface. */
  readonly from?: string;
  /** Up to 16 bytes of padding, in hexadecimal digits, repeated through the payload. */
  readonly pattern?: string;
  /** Time to wait for the last answer. */
  readonly lastWaitSeconds?: number;
}

/**
 * Sends echo requests and counts the answers; no answer is a result and not an error.
 *
 * ping(8) waits for the last answer only twice as long as the slowest came back, which on a busy machine is too short:
 * -W counts only if there is none at all. With -w it sends on until it has `count` answers, so that the last one asked for has
 * its time; what it sent beyond `count` is not counted.
 */
export async function ping(machine: Machine, target: string, options: PingOptions): Promise<PingResult> {
  const { count } = options;
  const interval = options.intervalSeconds ?? 0.02;
  const lastWait = options.lastWaitSeconds ?? 2;
  const argv = ["ping", "-n", "-c", `${count}`, "-i", `${interval}`, "-W", `${lastWait}`];
  // a busy machine sends more slowly than it should
  const seconds = Math.ceil(count * (interval + 0.01) + lastWait);
  if (count > 1) argv.push("-w", `${seconds}`);
  if (options.bytes !== undefined) argv.push("-s", `${options.bytes}`);
  if (options.from !== undefined) argv.push("-I", options.from);
  if (options.pattern !== undefined) argv.push("-p", options.pattern);
  const limitMs = timeoutSeconds(10 + seconds);
  const { stdout, stderr } = await machine.tryRun([...argv, target], { limitMs });
  return readPing(target, count, stdout, stderr);
}

/** Reads what ping printed, as far as it is of the first `count` requests. */
function readPing(target: string, count: number, stdout: string, stderr: string): PingResult {
  const sent = /(\d+) packets transmitted/.exec(stdout);
  // "Network is unreachable" is a refusal of the first packet: nothing was sent, nothing answered.
  if (sent === null && /unreachable|Cannot assign/i.test(stderr))
    return { sent: 0, received: 0, medianMs: null };
  if (sent === null) throw new Error(`Cannot read ping's answer for "${target}": ${stdout}${stderr}`);
  const times = new Map<number, number>();
  for (const [, sequence, time] of stdout.matchAll(/icmp_seq=(\d+) .*time=([\d.]+) ms/g)) {
    if (Number(sequence) <= count && !times.has(Number(sequence))) times.set(Number(sequence), Number(time));
  }
  const sorted = [...times.values()].toSorted((a, b) => a - b);
  return {
    sent: Math.min(count, Number(sent[1])),
    received: times.size,
    medianMs: sorted[sorted.length >> 1] ?? null,
  };
}

/** Waits until a program says that it listens. */
export async function untilListening(program: BackgroundProgram): Promise<void> {
  await until(`${program.title} to listen`, timeoutSeconds(10), async () =>
    program.output.includes("listening") ? true : undefined,
  );
}

/** Starts a web server that serves a file, and what tells who asks; see `programs/web_server.ts`. */
export async function startWebServer(machine: Machine, path: string): Promise<void> {
  await untilListening(machine.startHelper("web_server", path));
}

/** Makes a file of random bytes and returns its path. */
export async function randomFile(directory: string, mebibytes: number): Promise<string> {
  const path = join(directory, "file");
  await command(["dd", "if=/dev/urandom", `of=${path}`, "bs=1M", `count=${mebibytes}`]);
  return path;
}

/** What iperf3 measured, as its receiver saw it. */
export interface IperfResult {
  readonly bytes: number;
  readonly megabitsPerSecond: number;
  /** UDP only. */
  readonly packets: number;
  readonly lostPackets: number;
}

/** Starts an iperf3 server that listens on `address`, and waits until it does. */
export async function startIperfServer(
  machine: Machine,
  address: string,
  port = 5201,
): Promise<BackgroundProgram> {
  const argv = ["iperf3", "-s", "-B", address, "-p", `${port}`, "--forceflush"];
  const program = machine.start("iperf3 server", argv);
  await untilListening(program);
  return program;
}

interface IperfSum {
  readonly bytes: number;
  readonly bits_per_second: number;
  readonly packets?: number;
  readonly lost_packets?: number;
}

/** Runs iperf3 against a server of {@link startIperfServer}; `args` are its own, for example `-n 1G -R`. */
export async function iperf(
  machine: Machine,
  target: string,
  args: readonly string[],
  limitMs: number,
): Promise<IperfResult> {
  const { stdout } = await machine.tryRun(["iperf3", "-c", target, "-J", ...args], { limitMs });
  const report = JSON.parse(stdout) as { error?: string; end?: { sum_received?: IperfSum; sum?: IperfSum } };
  const sum = report.end?.sum_received ?? report.end?.sum;
  if (report.error !== undefined || sum === undefined)
    throw new Error(`iperf3 to "${target}" failed: ${report.error ?? "no result"}`);
  return {
    bytes: sum.bytes,
    megabitsPerSecond: sum.bits_per_second / 1e6,
    packets: sum.packets ?? 0,
    lostPackets: sum.lost_packets ?? 0,
  };
}

/** Fetches a URL with curl into a file or as text; a connection that does not come about in 5 s is an error. */
export async function curl(machine: Machine, url: string, limitMs: number, file?: string): Promise<string> {
  const where = file === undefined ? [] : ["-o", file];
  const { stdout } = await machine.run(["curl", "-sS", "-f", "--connect-timeout", "5", ...where, url], {
    limitMs,
  });
  return stdout;
}

/** SHA-256 of a file, by the system's own program, in hexadecimal digits. */
export async function sha256OfFile(path: string): Promise<string> {
  const { stdout } = await command(["sha256sum", path]);
  return stdout.slice(0, 64);
}
