/** Real applications as traffic: ping, iperf3 and curl, with their answers as values. */

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

/** Sends echo requests and counts the answers; no answer is a result and not an error. */
export async function ping(machine: Machine, target: string, options: PingOptions): Promise<PingResult> {
  const interval = options.intervalSeconds ?? 0.02;
  const lastWait = options.lastWaitSeconds ?? 2;
  const argv = ["ping", "-n", "-c", `${options.count}`, "-i", `${interval}`, "-W", `${lastWait}`];
  if (options.bytes !== undefined) argv.push("-s", `${options.bytes}`);
  if (options.from !== undefined) argv.push("-I", options.from);
  if (options.pattern !== undefined) argv.push("-p", options.pattern);
  const limitMs = timeoutSeconds(10 + options.count * (interval + 0.01) + lastWait);
  const { stdout, stderr } = await machine.tryRun([...argv, target], { limitMs });
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(stdout);
  // "Network is unreachable" is a refusal of the first packet: nothing was sent, nothing answered.
  if (counts === null && /unreachable|Cannot assign/i.test(stderr))
    return { sent: 0, received: 0, medianMs: null };
  if (counts === null) throw new Error(`Cannot read ping's answer for "${target}": ${stdout}${stderr}`);
  const times = Array.from(stdout.matchAll(/time=([\d.]+) ms/g), (match) => Number(match[1])).toSorted(
    (a, b) => a - b,
  );
  return { sent: Number(counts[1]), received: Number(counts[2]), medianMs: times[times.length >> 1] ?? null };
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
  await until("iperf3 to listen", timeoutSeconds(5), async () =>
    program.output.includes("listening") ? true : undefined,
  );
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
