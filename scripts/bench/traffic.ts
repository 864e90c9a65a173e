/** Runs ping and iperf3 through a tunnel and reads what they print. The readers are pure. */

import * as v from "valibot";
import { OmailError } from "../../lib/errors.ts";
import { median, percentile, type Sample } from "./statistics.ts";
import type { Side, Testbed } from "./testbed.ts";

/** Round trips of one run of ping, in microseconds, in order. */
export interface PingResult {
  readonly sent: number;
  readonly timesUs: readonly number[];
}

/** Median, 99th percentile and longest round trip in microseconds. */
export interface PingSummary {
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  /** Percent of the requests that had no answer. */
  readonly lostPercent: number;
}

/** Reads what `ping -n` printed. @throws {OmailError} when it has no summary */
export function parsePing(output: string): PingResult {
  const sent = /(\d+) packets transmitted/.exec(output)?.[1];
  if (sent === undefined) throw new OmailError(`Cannot read ping's report: "${output.trim().slice(-200)}"`);
  const timesUs = Array.from(output.matchAll(/time=([\d.]+) ms/g), ([, ms]) => Number(ms) * 1000);
  return { sent: Number(sent), timesUs };
}

/** @throws {OmailError} when fewer than half of the requests were answered */
export function summarizePing({ sent, timesUs }: PingResult): PingSummary {
  const p50Us = median(timesUs);
  const p99Us = percentile(timesUs, 99);
  const maxUs = percentile(timesUs, 100);
  if (p50Us === null || p99Us === null || maxUs === null || timesUs.length < sent / 2) {
    throw new OmailError(`only ${timesUs.length} of ${sent} pings were answered`);
  }
  return { p50Us, p99Us, maxUs, lostPercent: (1 - timesUs.length / sent) * 100 };
}

export interface PingOptions {
  readonly from?: Side;
  readonly count: number;
  readonly intervalMs: number;
  /** Of the whole IP packet. */
  readonly packetBytes?: number;
}

/** IPv4 and ICMP header. */
const PING_HEADER_BYTES = 28;

/** Sends echo requests at a fixed pace. */
export async function ping(bed: Testbed, target: string, options: PingOptions): Promise<PingResult> {
  const { from = "client", count, intervalMs, packetBytes = 84 } = options;
  const pace = ["-c", String(count), "-i", String(intervalMs / 1000), "-W", "2"];
  const command = ["ping", "-n", ...pace, "-s", String(packetBytes - PING_HEADER_BYTES), target];
  const { stdout } = await bed.run(from, command, count * intervalMs * 3 + 15_000);
  return parsePing(stdout);
}

/** Whether a ping from every client reaches the other end. */
export async function answersPing(bed: Testbed, target: string): Promise<boolean> {
  for (const client of bed.clients) {
    const { exitCode } = await bed.run(client, ["ping", "-n", "-c", "1", "-W", "1", target]);
    if (exitCode !== 0) return false;
  }
  return true;
}

const Rate = v.object({ bits_per_second: v.number(), retransmits: v.optional(v.number()) });

/** The part that we need of what `iperf3 --json` prints of TCP (version 3.7 or later, for --bidir). */
const TcpReport = v.object({
  intervals: v.array(
    v.object({ sum: v.object({ bytes: v.number(), end: v.number(), bits_per_second: v.number() }) }),
  ),
  end: v.object({
    sum_sent: Rate,
    sum_received: Rate,
    sum_received_bidir_reverse: v.optional(Rate),
  }),
});

const UdpReport = v.object({
  end: v.object({
    sum: v.object({
      packets: v.number(),
      lost_packets: v.number(),
      seconds: v.number(),
      jitter_ms: v.number(),
      bytes: v.number(),
    }),
  }),
});

/** What a TCP run delivered. */
export interface TcpResult {
  /** Delivered, both ways together. */
  readonly mbps: number;
  readonly retransmits: number;
  /** Everything that was sent, the start that does not count for {@link mbps} included. */
  readonly gigabytes: number;
  /** What was sent over time, in Mbit/s at the end of each interval. */
  readonly series: readonly Sample[];
}

/** What a UDP run delivered. */
export interface UdpResult {
  readonly packetsPerSecond: number;
  readonly mbps: number;
  readonly lostPercent: number;
  readonly jitterUs: number;
}

function parseReport<Schema extends v.GenericSchema>(schema: Schema, output: string): v.InferOutput<Schema> {
  let report: unknown;
  try {
    report = JSON.parse(output);
  } catch {
    throw new OmailError(`Cannot read iperf3's report: expected JSON, not "${output.trim().slice(0, 200)}"`);
  }
  const failure = v.safeParse(v.object({ error: v.string() }), report);
  if (failure.success) throw new OmailError(`iperf3 failed: ${failure.output.error}`);
  const parsed = v.safeParse(schema, report);
  if (parsed.success) return parsed.output;
  throw new OmailError(`Cannot read iperf3's report: ${v.summarize(parsed.issues)}`);
}

/** @throws {OmailError} with iperf3's words when it failed */
export function parseTcpReport(output: string): TcpResult {
  const { intervals, end } = parseReport(TcpReport, output);
  const back = end.sum_received_bidir_reverse?.bits_per_second ?? 0;
  return {
    mbps: (end.sum_received.bits_per_second + back) / 1e6,
    retransmits: end.sum_sent.retransmits ?? 0,
    gigabytes: intervals.reduce((bytes, { sum }) => bytes + sum.bytes, 0) / 1e9,
    series: intervals.map(({ sum }) => ({ seconds: sum.end, value: sum.bits_per_second / 1e6 })),
  };
}

/** @throws {OmailError} with iperf3's words when it failed */
export function parseUdpReport(output: string): UdpResult {
  const {
    packets,
    lost_packets: lost,
    seconds,
    jitter_ms: jitterMs,
    bytes,
  } = parseReport(UdpReport, output).end.sum;
  const delivered = packets === 0 ? 0 : (packets - lost) / packets;
  return {
    packetsPerSecond: (packets * delivered) / seconds,
    mbps: (bytes * 8 * delivered) / seconds / 1e6,
    lostPercent: (1 - delivered) * 100,
    jitterUs: jitterMs * 1000,
  };
}

/** iperf3's port; further servers have the next ones. */
const IPERF_PORT = 5201;

/** Starts as many iperf3 servers as clients will ask at once, and waits until they listen. */
export async function startIperfServers(bed: Testbed, count = 1): Promise<void> {
  const ports = Array.from({ length: count }, (_, i) => IPERF_PORT + i);
  for (const port of ports) bed.start("server", ["iperf3", "--server", "--port", String(port)]);
  for (const port of ports) await bed.until("iperf3 listens", () => bed.isListening(port));
}

export interface IperfOptions {
  readonly from?: Side;
  /** Which of the servers, counted from 0. */
  readonly server?: number;
  readonly seconds: number;
  /** iperf3's own options. */
  readonly args?: readonly string[];
}

async function iperf(bed: Testbed, target: string, options: IperfOptions): Promise<string> {
  const { from = "client", server = 0, seconds, args = [] } = options;
  const where = ["--client", target, "--port", String(IPERF_PORT + server)];
  const command = ["iperf3", "--json", ...where, "--time", String(seconds), ...args];
  const { stdout, stderr } = await bed.run(from, command, (seconds + 30) * 1000);
  return stdout === "" ? JSON.stringify({ error: stderr.trim() || "no report in time" }) : stdout;
}

/**
 * A TCP run; the first second, that of slow start, does not count for the speed.
 *
 * The congestion control is set on the connections, since a namespace may not make a restricted one its default; see also
 * `#addNamespace` of `testbed.ts`.
 */
export async function tcp(bed: Testbed, target: string, options: IperfOptions): Promise<TcpResult> {
  const args = ["-O", "1", "-C", bed.path.congestion, ...(options.args ?? [])];
  return parseTcpReport(await iperf(bed, target, { ...options, args }));
}

/** A TCP run of which every interval counts. @param everyS length of an interval */
export async function tcpOverTime(
  bed: Testbed,
  target: string,
  seconds: number,
  everyS: number,
): Promise<readonly Sample[]> {
  const args = ["-i", String(everyS), "-C", bed.path.congestion];
  return parseTcpReport(await iperf(bed, target, { seconds, args })).series;
}

/** A UDP run of packets with `bytes` of payload. @param bitsPerSecond as iperf3 writes it; 0 is as fast as it can */
export async function udp(
  bed: Testbed,
  target: string,
  {
    seconds,
    bytes,
    bitsPerSecond,
  }: { readonly seconds: number; readonly bytes: number; readonly bitsPerSecond: string },
): Promise<UdpResult> {
  const args = ["--udp", "-b", bitsPerSecond, "-l", String(bytes)];
  return parseUdpReport(await iperf(bed, target, { seconds, args }));
}
