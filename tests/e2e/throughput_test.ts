/** A gigabyte gets through the tunnel each way. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";
import { iperf, startIperfServer } from "./harness/traffic.ts";

const GIGABYTE = 1_000_000_000;

for (const [direction, args] of [
  ["up", []],
  ["down", ["-R"]],
] as const) {
  networkTest(`throughput: 1 GB by TCP ${direction}`, { limitSeconds: 75 }, async (network) => {
    await startServer(network);
    await startClient(network);
    await startIperfServer(network.server, INNER_SERVER);
    const result = await iperf(
      network.client(0),
      INNER_SERVER,
      ["-n", `${GIGABYTE}`, ...args],
      timeoutSeconds(60),
    );
    console.log(`1 GB ${direction}: ${Math.round(result.megabitsPerSecond)} Mbit/s`);
    // The receiver may close while the last blocks of a reversed test are on their way.
    expect(result.bytes).toBeGreaterThan(GIGABYTE * 0.99);
  });
}
