/** Scenarios of many clients and long runs: fairness, and memory over time. */

import { type Columns, OMAIL_PEERS, type Running, type Scenario, TUNNELS } from "./calm.ts";
import { logInMany } from "./login_load.ts";
import { rssMib } from "./process_usage.ts";
import { driftPercent, jainIndex, median } from "./statistics.ts";
import { tcp } from "./traffic.ts";

export const fairness: Scenario = {
  name: "fairness",
  title: "shares of --clients clients at full speed, as Jain's index",
  about:
    "All clients upload at the same time, then all download: Jain's index of their shares (1 is equal, 1/n is one has all), " +
    "the sum, and the smallest share against an equal one.",
  columns: {
    clients: "clients",
    upJain: "up, Jain",
    upMbps: "sum (Mbit/s)",
    upLeast: "least share (%)",
    downJain: "down, Jain",
    downMbps: "sum (Mbit/s)",
    downLeast: "least share (%)",
  },
  peers: TUNNELS,
  clients: ({ clients }) => clients,
  measure: async (running) => {
    const up = await shares(running, []);
    const down = await shares(running, ["--reverse"]);
    const clients = running.bed.clients.length;
    return { figures: { clients, ...shareFigures("up", up), ...shareFigures("down", down) } };
  },
};

/** Mbit/s of each client, all at the same time. */
async function shares(
  { bed, tunnel, options }: Running,
  args: readonly string[],
): Promise<readonly number[]> {
  const { seconds } = options;
  const runs = bed.clients.map((from, server) => tcp(bed, tunnel.target, { from, server, seconds, args }));
  return (await Promise.all(runs)).map(({ mbps }) => mbps);
}

function shareFigures(prefix: string, mbps: readonly number[]): Record<string, number | null> {
  const sum = mbps.reduce((total, one) => total + one, 0);
  return {
    [`${prefix}Jain`]: jainIndex(mbps),
    [`${prefix}Mbps`]: sum,
    [`${prefix}Least`]: sum === 0 ? null : (Math.min(...mbps) * mbps.length * 100) / sum,
  };
}

/** Share of a run until caches and pools have their size. */
const WARM_UP = 0.1;
const SAMPLE_MS = 500;

function memoryColumns(side: string): Columns {
  return {
    [`${side}First`]: `${side}, first (MiB)`,
    [`${side}Last`]: "last",
    [`${side}Most`]: "most",
    [`${side}Drift`]: "growth (%)",
  };
}

export const memory: Scenario = {
  name: "memory",
  title: "resident memory over --minutes at full speed, both ways",
  about:
    "Resident memory, sampled twice a second, while TCP runs both ways at full speed: median of the first tenth after a " +
    "warm-up of a tenth, median of the last tenth, the most, and the growth between the two medians.",
  columns: {
    minutes: "minutes",
    mbps: "Mbit/s",
    ...memoryColumns("client"),
    ...memoryColumns("server"),
  },
  peers: TUNNELS,
  measure: async ({ bed, tunnel, options }) => {
    const samples: Record<"client" | "server", number[]> = { client: [], server: [] };
    const sampler = setInterval(() => {
      for (const side of ["client", "server"] as const) samples[side].push(rssMib(tunnel.programs, side));
    }, SAMPLE_MS);
    try {
      const { mbps } = await tcp(bed, tunnel.target, { seconds: options.minutes * 60, args: ["--bidir"] });
      const { minutes } = options;
      return {
        figures: {
          minutes,
          mbps,
          ...memoryFigures("client", samples.client),
          ...memoryFigures("server", samples.server),
        },
      };
    } finally {
      clearInterval(sampler);
    }
  },
};

function memoryFigures(prefix: string, series: readonly number[]): Record<string, number | null> {
  const settled = series.slice(Math.floor(series.length * WARM_UP));
  const tenth = Math.ceil(settled.length / 10);
  return {
    [`${prefix}First`]: median(settled.slice(0, tenth)),
    [`${prefix}Last`]: median(settled.slice(-tenth)),
    [`${prefix}Most`]: Math.max(...series),
    [`${prefix}Drift`]: driftPercent(series, WARM_UP),
  };
}

/** Log-ins a second: as fast as one program makes them on a small machine without queueing up. */
const CONNECTS_PER_SECOND = 50;
/** Parts of a run, of which the first warms up. */
const PARTS = 10;

export const connects: Scenario = {
  name: "connects",
  title: "the server's resident memory over --connects log-ins and departures",
  about:
    'Clients log in and leave again, one after the other; the server\'s resident memory after each tenth of them: "early" ' +
    'is the median after the second to the fourth tenth, "late" that after the last two.',
  columns: {
    done: "log-ins",
    perSecond: "a second",
    before: "before (MiB)",
    early: "early",
    late: "late",
    growth: "growth (%)",
  },
  peers: OMAIL_PEERS,
  measure: async (running) => {
    const { programs } = running.tunnel;
    const before = rssMib(programs, "server");
    const count = Math.ceil(running.options.connects / PARTS);
    const after: number[] = [];
    const speeds: number[] = [];
    let done = 0;
    for (let part = 0; part < PARTS; part++) {
      const report = await logInMany(running, { count, perSecond: CONNECTS_PER_SECOND });
      done += report.done;
      speeds.push(report.perSecond);
      after.push(rssMib(programs, "server"));
    }
    const early = median(after.slice(1, 4));
    const late = median(after.slice(-2));
    const growth = early === null || late === null ? null : (late / early - 1) * 100;
    return { figures: { done, perSecond: median(speeds), before, early, late, growth } };
  },
};
