/** Measures one started tunnel: ping, iperf3, and what `/proc` tells of the tunnel's programs. */

import { readFileSync } from "node:fs";
import * as v from "valibot";
import { OmailError } from "../../lib/errors.ts";
import { type FigureKey, type Figures, median } from "./figures.ts";
import type { Tunnel } from "./peers.ts";
import type { Side, Started, Testbed } from "./testbed.ts";

const PINGS = 300;
const PING_INTERVAL_S = 0.003;
/** Start of a TCP run that does not count: slow start. */
const OMIT_S = 1;
/** Clock ticks a second in `/proc`: USER_HZ, fixed at 100 by the ABI of every architecture that Bun runs on. */
const USER_HZ = 100;

const Rate = v.object({ bits_per_second: v.number() });
/** The part that we need of what `iperf3 --json` prints (version 3.7 or later, for --bidir). */
const TcpReport = v.object({
  intervals: v.array(v.object({ sum: v.object({ bytes: v.number() }) })),
  end: v.object({ sum_received: Rate, sum_received_bidir_reverse: v.optional(Rate) }),
});
const UdpReport = v.object({
  end: v.object({ sum: v.object({ packets: v.number(), lost_packets: v.number(), seconds: v.number() }) }),
});

/** What a measurement needs. */
export interface Measurement {
  readonly bed: Testbed;
  readonly tunnel: Tunnel;
  /** Length of an iperf3 run. */
  readonly seconds: number;
  /** Told of each figure as it is known. */
  readonly report: (key: FigureKey, value: number) => void;
}

/** Measures every figure. @throws {OmailError} when the tunnel does not carry packets, or a program fails */
export async function measure({ bed, tunnel, seconds, report }: Measurement): Promise<Figures> {
  const { target, programs } = tunnel;
  const figures: Figures = {};
  const add = (key: FigureKey, value: number): void => {
    figures[key] = value;
    report(key, value);
  };
  const tcp = (...more: string[]) => iperf(bed, TcpReport, target, seconds, ["-O", String(OMIT_S), ...more]);

  await bed.until("a ping goes through the tunnel", () => answersPing(bed, target));
  bed.start("server", ["iperf3", "--server"]);
  await bed.until("iperf3 listens", async () => (await bed.run("server", LISTENS)).stdout.trim() !== "");

  add("pingUs", await pingMedianUs(bed, target));
  const cpuBefore = cpuSeconds(programs);
  const up = await tcp();
  const cpu = cpuSeconds(programs) - cpuBefore;
  add("upMbps", up.end.sum_received.bits_per_second / 1e6);
  if (programs.length > 0) add("cpuSecondsPerGb", cpu / gigabytes(up));
  add("downMbps", (await tcp("--reverse")).end.sum_received.bits_per_second / 1e6);
  add("bidirMbps", bothWaysMbps(await tcp("--parallel", "4", "--bidir")));
  const udp = await iperf(bed, UdpReport, target, seconds, ["--udp", "-b", "0", "-l", "64"]);
  add("udp64Pps", (udp.end.sum.packets - udp.end.sum.lost_packets) / udp.end.sum.seconds);
  if (programs.length > 0) {
    add("clientRssMib", rssMib(programs, "client"));
    add("serverRssMib", rssMib(programs, "server"));
  }
  return figures;
}

const LISTENS = ["ss", "-Hltn", "sport = :5201"];

async function answersPing(bed: Testbed, target: string): Promise<boolean> {
  return (await bed.run("client", ["ping", "-n", "-c", "1", "-W", "1", target])).exitCode === 0;
}

async function pingMedianUs(bed: Testbed, target: string): Promise<number> {
  const command = ["ping", "-n", "-c", String(PINGS), "-i", String(PING_INTERVAL_S), target];
  const { stdout, stderr } = await bed.run("client", command);
  const timesUs = [...stdout.matchAll(/time=([\d.]+) ms/g)].map(([, ms]) => Number(ms) * 1000);
  const middle = median(timesUs);
  if (middle === null || timesUs.length < PINGS / 2) {
    throw new OmailError(`only ${timesUs.length} of ${PINGS} pings were answered ${stderr.trim()}`);
  }
  return middle;
}

/** Runs an iperf3 client. @throws {OmailError} with iperf3's words when it fails */
async function iperf<Schema extends v.GenericSchema>(
  bed: Testbed,
  schema: Schema,
  target: string,
  seconds: number,
  more: readonly string[],
): Promise<v.InferOutput<Schema>> {
  const command = ["iperf3", "--json", "--client", target, "--time", String(seconds), ...more];
  const { exitCode, stdout, stderr } = await bed.run("client", command, (seconds + 30) * 1000);
  const what = `"${command.join(" ")}"`;
  if (exitCode !== 0) {
    const reason = /"error":\s*"([^"]*)"/.exec(stdout)?.[1] ?? stderr.trim();
    throw new OmailError(`${what} failed: ${reason}`);
  }
  const parsed = v.safeParse(schema, JSON.parse(stdout));
  if (parsed.success) return parsed.output;
  throw new OmailError(`${what} printed an unknown report: ${v.summarize(parsed.issues)}`);
}

function bothWaysMbps({ end }: v.InferOutput<typeof TcpReport>): number {
  const down = end.sum_received_bidir_reverse;
  if (down === undefined)
    throw new OmailError("iperf3 reports one way only: --bidir needs version 3.7 or later");
  return (end.sum_received.bits_per_second + down.bits_per_second) / 1e6;
}

/** Everything that was sent: unlike the totals, the intervals have the omitted start, whose CPU time we count too. */
function gigabytes({ intervals }: v.InferOutput<typeof TcpReport>): number {
  return intervals.reduce((bytes, { sum }) => bytes + sum.bytes, 0) / 1e9;
}

/** User and system time of the programs with all their threads, see proc_pid_stat(5). */
function cpuSeconds(programs: readonly Started[]): number {
  let ticks = 0;
  for (const { pid } of programs) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // the name, field 2, is in brackets and may hold anything: field 3 is the first after them
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[14 - 3]) + Number(fields[15 - 3]);
  }
  return ticks / USER_HZ;
}

function rssMib(programs: readonly Started[], side: Side): number {
  const kib = programs
    .filter((program) => program.side === side)
    .map(({ pid }) => Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]));
  return kib.reduce((sum, value) => sum + value, 0) / 1024;
}
