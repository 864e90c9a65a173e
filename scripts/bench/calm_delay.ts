/** Scenarios that measure delay: voice beside a download, many log-ins, pauses, packets at a fixed pace. */

import {
  type Columns,
  EVERYTHING,
  OMAIL_PEERS,
  type Running,
  type Scenario,
  STREAMS,
  TUNNELS,
} from "./calm.ts";
import { logInMany } from "./login_load.ts";
import { percentile } from "./statistics.ts";
import { ping, type PingOptions, summarizePing, tcp, udp } from "./traffic.ts";

/** Time that a load gets to come up before something is measured beside it, and that it goes on after. */
const LOAD_MARGIN_MS = 1_500;

/** Pings while `load` runs, which must last longer. */
async function pingBeside(
  { bed, tunnel }: Running,
  options: PingOptions,
  load: Promise<unknown>,
): Promise<readonly number[]> {
  await Bun.sleep(LOAD_MARGIN_MS);
  const [{ timesUs }] = await Promise.all([ping(bed, tunnel.target, options), load]);
  return timesUs;
}

/** Seconds of a load that covers a measurement. */
export function loadSeconds(seconds: number): number {
  return seconds + Math.ceil((2 * LOAD_MARGIN_MS) / 1000);
}

function delayColumns(prefix: string, label: string): Columns {
  return {
    [`${prefix}P50`]: `${label}, p50 (µs)`,
    [`${prefix}P99`]: "p99",
  };
}

function delays(prefix: string, timesUs: readonly number[]): Record<string, number | null> {
  return { [`${prefix}P50`]: percentile(timesUs, 50), [`${prefix}P99`]: percentile(timesUs, 99) };
}

/** 50 packets a second of 200 bytes each way; the kernel answers, so that no program's wake-up is counted. */
const VOICE = { intervalMs: 20, packetBytes: 200 };

export const voice: Scenario = {
  name: "voice",
  title: "round trip of 50 packets a second of 200 bytes, alone and beside a download",
  about:
    "Round trip of 50 ICMP echo packets a second of 200 bytes, alone and beside one TCP download at full speed. " +
    "The kernels answer and take the time, so that no program's wake-up but the tunnel's is counted.",
  columns: {
    ...delayColumns("alone", "alone"),
    ...delayColumns("beside", "beside a download"),
    downMbps: "download (Mbit/s)",
    lostPercent: "lost (%)",
  },
  peers: EVERYTHING,
  measure: async (running) => {
    const { bed, tunnel, options } = running;
    const pings = { ...VOICE, count: Math.ceil((options.seconds * 1000) / VOICE.intervalMs) };
    const alone = await ping(bed, tunnel.target, pings);
    const load = tcp(bed, tunnel.target, { seconds: loadSeconds(options.seconds), args: ["--reverse"] });
    const beside = await pingBeside(running, pings, load);
    const lostPercent = (1 - beside.length / pings.count) * 100;
    const { mbps } = await load;
    return {
      figures: {
        ...delays("alone", alone.timesUs),
        ...delays("beside", beside),
        downMbps: mbps,
        lostPercent,
      },
    };
  },
};

const LOGINS_PER_SECOND = 50;

export const logins: Scenario = {
  name: "logins",
  title: `round trip of pings during ${LOGINS_PER_SECOND} log-ins a second`,
  about:
    `Round trip of 100 pings a second through a connected client, quiet and while ${LOGINS_PER_SECOND} other clients a ` +
    "second log in (TLS 1.3, SCRAM, X25519 with ML-KEM-768) and leave again, all from one program on the same machine.",
  columns: {
    ...delayColumns("quiet", "quiet"),
    ...delayColumns("beside", "during log-ins"),
    longest: "longest",
    perSecond: "log-ins a second",
    loginMs: "a log-in, p50 (ms)",
  },
  peers: OMAIL_PEERS,
  measure: async (running) => {
    const { bed, tunnel, options } = running;
    const pings = { intervalMs: 10, count: options.seconds * 100 };
    const quiet = await ping(bed, tunnel.target, pings);
    const seconds = loadSeconds(options.seconds);
    const load = logInMany(running, { perSecond: LOGINS_PER_SECOND, count: LOGINS_PER_SECOND * seconds });
    const beside = await pingBeside(running, pings, load);
    const { perSecond, p50Ms } = await load;
    return {
      figures: {
        ...delays("quiet", quiet.timesUs),
        ...delays("beside", beside),
        longest: percentile(beside, 100),
        perSecond,
        loginMs: p50Ms,
      },
    };
  },
};

/** From here on a delay counts as a pause. */
const PAUSES_MS = [5, 20] as const;

export const pauses: Scenario = {
  name: "pauses",
  title: "longest pause of the packet path at 100 Mbit/s, seen by a ping each millisecond",
  about:
    "A ping each millisecond beside a TCP upload of 100 Mbit/s: what stops the packet path for a while (a collection, a " +
    "turn of the event loop) shows as round trips of that length. What veth shows is the machine's own.",
  columns: {
    p50: "p50 (µs)",
    p99: "p99",
    p999: "p99.9",
    longest: "longest",
    ...Object.fromEntries(PAUSES_MS.map((ms) => [`over${ms}`, `over ${ms} ms (pings)`])),
    lostPercent: "lost (%)",
  },
  peers: EVERYTHING,
  measure: async (running) => {
    const { bed, tunnel, options } = running;
    const pings = { intervalMs: 1, count: options.seconds * 1000 };
    // ping keeps its pace only as well as the machine lets it: the load goes on for as long as it may take
    const seconds = loadSeconds(Math.ceil(options.seconds * 1.3));
    const times = await pingBeside(
      running,
      pings,
      tcp(bed, tunnel.target, { seconds, args: ["-b", "100M"] }),
    );
    const over = PAUSES_MS.map((ms) => [`over${ms}`, times.filter((us) => us > ms * 1000).length] as const);
    return {
      figures: {
        p50: percentile(times, 50),
        p99: percentile(times, 99),
        p999: percentile(times, 99.9),
        longest: percentile(times, 100),
        ...Object.fromEntries(over),
        lostPercent: (1 - times.length / pings.count) * 100,
      },
    };
  },
};

export const pace: Scenario = {
  name: "udp",
  title: "UDP at 1 Gbit/s in packets of 1,200 bytes: loss and jitter",
  about:
    "iperf3 sends UDP packets of 1,200 bytes at 1 Gbit/s; loss and jitter (RFC 1889) are what its receiver saw.",
  columns: {
    mbps: "delivered (Mbit/s)",
    lostPercent: "lost (%)",
    jitterUs: "jitter (µs)",
  },
  peers: EVERYTHING,
  measure: async ({ bed, tunnel, options }) => {
    const result = await udp(bed, tunnel.target, {
      seconds: options.seconds,
      bytes: 1_200,
      bitsPerSecond: "1G",
    });
    const { mbps, lostPercent, jitterUs } = result;
    return { figures: { mbps, lostPercent, jitterUs } };
  },
};

export const bottleneck: Scenario = {
  name: "bottleneck",
  title: "TCP through bottlenecks of 50 and 200 Mbit/s, and the ping beside it",
  about:
    "A token bucket (tc tbf, 30 ms of queue) each way on the outer path, and one TCP upload at full speed through it. The " +
    "share is that of the bottleneck; headers of the tunnel and of IP belong to the rest.",
  columns: {
    mbps: "TCP up (Mbit/s)",
    share: "of the bottleneck (%)",
    ...delayColumns("beside", "ping beside it"),
  },
  peers: EVERYTHING,
  paths: ["50mbit", "200mbit"].map((rate) => ({ lossPercent: 0, congestion: "cubic", rate })),
  measure: async (running) => {
    const { bed, tunnel, options } = running;
    const load = tcp(bed, tunnel.target, { seconds: loadSeconds(options.seconds) });
    const pings = { intervalMs: 20, count: options.seconds * 50 };
    const beside = await pingBeside(running, pings, load);
    const { mbps } = await load;
    const limit = Number.parseInt(bed.path.rate ?? "", 10);
    return { figures: { mbps, share: (mbps / limit) * 100, ...delays("beside", beside) } };
  },
};

export const stream: Scenario = {
  name: "stream",
  title: "data over TCP: one flow up and one down, and the ping beside each, free and through a bottleneck",
  about:
    "The tunnels' data goes by TCP (`--transport tcp`; OpenVPN with `--proto tcp-client`), as where UDP is blocked. One TCP flow " +
    "through the tunnel at full speed, up and then down, with 50 pings a second beside it; the bottleneck is a token bucket " +
    "(tc tbf, 30 ms of queue) each way on the outer path.",
  columns: {
    quietP50: "ping alone, p50 (µs)",
    up: "TCP up (Mbit/s)",
    ...delayColumns("besideUp", "ping beside it"),
    down: "TCP down (Mbit/s)",
    ...delayColumns("besideDown", "ping beside it"),
  },
  peers: STREAMS,
  paths: [null, "50mbit"].map((rate) => ({ lossPercent: 0, congestion: "cubic", rate })),
  measure: async (running) => {
    const { bed, tunnel, options } = running;
    const pings = { intervalMs: 20, count: options.seconds * 50 };
    const seconds = loadSeconds(options.seconds);
    const quiet = summarizePing(await ping(bed, tunnel.target, pings));
    const up = tcp(bed, tunnel.target, { seconds });
    const besideUp = await pingBeside(running, pings, up);
    const down = tcp(bed, tunnel.target, { seconds, args: ["--reverse"] });
    const besideDown = await pingBeside(running, pings, down);
    return {
      figures: {
        quietP50: quiet.p50Us,
        up: (await up).mbps,
        ...delays("besideUp", besideUp),
        down: (await down).mbps,
        ...delays("besideDown", besideDown),
      },
    };
  },
};

export const idle: Scenario = {
  name: "idle",
  title: "ping of an idle client beside one at full speed, with --clients sessions",
  about:
    "Round trip of 100 pings a second of one client: with nobody else busy, beside a download and beside an upload of another.",
  columns: {
    sessions: "sessions",
    ...delayColumns("quiet", "quiet"),
    ...delayColumns("down", "beside a download"),
    ...delayColumns("up", "beside an upload"),
  },
  peers: TUNNELS,
  clients: ({ clients }) => Math.max(2, clients),
  measure: async (running) => {
    const { bed, tunnel, options } = running;
    const pings = { from: bed.clients.at(-1)!, intervalMs: 10, count: options.seconds * 100 };
    const seconds = loadSeconds(options.seconds);
    const quiet = summarizePing(await ping(bed, tunnel.target, pings));
    const down = await pingBeside(running, pings, tcp(bed, tunnel.target, { seconds, args: ["--reverse"] }));
    const up = await pingBeside(running, pings, tcp(bed, tunnel.target, { seconds }));
    return {
      figures: {
        sessions: bed.clients.length,
        quietP50: quiet.p50Us,
        quietP99: quiet.p99Us,
        ...delays("down", down),
        ...delays("up", up),
      },
    };
  },
};
