/** Measures one started tunnel: ping, iperf3, and what its programs use. */

import type { FigureKey, Figures, TestName } from "./figures.ts";
import { cpuSeconds, rssMib } from "./process_usage.ts";
import type { Testbed } from "./testbed.ts";
import { answersPing, ping, startIperfServers, summarizePing, tcp, udp } from "./traffic.ts";
import type { Tunnel } from "./tunnel.ts";

const PINGS = 300;
const PING_INTERVAL_MS = 3;
const LOADED_PINGS = 150;
const LOADED_PING_INTERVAL_MS = 10;
/** Longer than the pings beside it. */
const LOAD_SECONDS = 3;
const LOAD_STARTS_MS = 700;

/** What a measurement needs. */
export interface Measurement {
  readonly bed: Testbed;
  readonly tunnel: Tunnel;
  readonly tests: readonly TestName[];
  /** Length of an iperf3 run. */
  readonly seconds: number;
  /** Told of each figure as it is known. */
  readonly report: (key: FigureKey, value: number) => void;
  /** Told of a part that failed; the others are measured all the same. */
  readonly failed: (test: TestName, error: unknown) => void;
}

type Add = (key: FigureKey, value: number) => void;

/** Each part of the measurement. */
const TESTS: Readonly<Record<TestName, (measurement: Measurement, add: Add) => Promise<void>>> = {
  rtt: async ({ bed, tunnel }, add) => {
    const options = { count: PINGS, intervalMs: PING_INTERVAL_MS };
    const { p50Us, p99Us } = summarizePing(await ping(bed, tunnel.target, options));
    add("pingUs", p50Us);
    add("ping99Us", p99Us);
  },
  up: async ({ bed, tunnel: { target, programs }, seconds }, add) => {
    const before = cpuSeconds(programs);
    const { mbps, gigabytes } = await tcp(bed, target, { seconds });
    add("upMbps", mbps);
    if (programs.length > 0) add("cpuSecondsPerGb", (cpuSeconds(programs) - before) / gigabytes);
  },
  down: async ({ bed, tunnel, seconds }, add) => {
    add("downMbps", (await tcp(bed, tunnel.target, { seconds, args: ["--reverse"] })).mbps);
  },
  bidir: async ({ bed, tunnel, seconds }, add) => {
    const args = ["--parallel", "4", "--bidir"];
    add("bidirMbps", (await tcp(bed, tunnel.target, { seconds, args })).mbps);
  },
  pps: async ({ bed, tunnel, seconds }, add) => {
    const result = await udp(bed, tunnel.target, { seconds, bytes: 64, bitsPerSecond: "0" });
    add("udp64Pps", result.packetsPerSecond);
  },
  loaded: async ({ bed, tunnel }, add) => {
    const load = tcp(bed, tunnel.target, { seconds: LOAD_SECONDS, args: ["-b", "100M"] });
    await Bun.sleep(LOAD_STARTS_MS);
    const options = { count: LOADED_PINGS, intervalMs: LOADED_PING_INTERVAL_MS };
    const [result] = await Promise.all([ping(bed, tunnel.target, options), load]);
    add("loadedPingUs", summarizePing(result).p50Us);
  },
  rss: ({ tunnel: { programs } }, add) => {
    if (programs.length > 0) add("rssMib", rssMib(programs, "client") + rssMib(programs, "server"));
    return Promise.resolve();
  },
};

/** Measures every figure of `tests`. @throws {OmailError} when the tunnel does not carry packets */
export async function measure(measurement: Measurement): Promise<Figures> {
  const { bed, tunnel, tests, report, failed } = measurement;
  const figures: Figures = {};
  const add: Add = (key, value) => {
    figures[key] = value;
    report(key, value);
  };
  await bed.until("a ping goes through the tunnel", () => answersPing(bed, tunnel.target));
  await startIperfServers(bed);
  for (const test of tests) {
    try {
      await TESTS[test](measurement, add);
    } catch (error) {
      bed.throwIfAborted();
      failed(test, error);
    }
  }
  return figures;
}
