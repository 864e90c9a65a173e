/** UDP that is blocked, in both directions or in one, from the start or in mid-session: data goes on in the TLS stream. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { Capture } from "./harness/capture.ts";
import type { Machine } from "./harness/network.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { iperf, ping, startIperfServer } from "./harness/traffic.ts";

/** The required figures; not time-outs, so they are not scaled. */
const MOVED_WITHIN_MS = 5_000;
const BACK_WITHIN_MS = 30_000;

type Direction = "input" | "output";

/** Drops the tunnel's UDP in the given directions. */
async function blockUdp(machine: Machine, directions: readonly Direction[]): Promise<void> {
  const chains = directions.map((direction) => {
    const port = direction === "output" ? "dport" : "sport";
    return `chain ${direction} { type filter hook ${direction} priority 0; udp ${port} 51820 drop; }`;
  });
  await machine.nft(`table inet blocked {\n${chains.join("\n")}\n}`);
}

async function unblockUdp(machine: Machine): Promise<void> {
  await machine.nft("delete table inet blocked");
}

/** Milliseconds until a ping is answered. */
async function untilAnswer(machine: Machine): Promise<number> {
  const start = performance.now();
  await until("an answer through the tunnel", timeoutSeconds(30), async () => {
    const { received } = await ping(machine, INNER_SERVER, { count: 1, lastWaitSeconds: 0.2 });
    return received === 1 ? true : undefined;
  });
  return performance.now() - start;
}

for (const directions of [["input", "output"], ["output"], ["input"]] as const) {
  networkTest(
    `transport: UDP blocked (${directions.join(" and ")}) in mid-session moves data into TLS within 5 s, and back`,
    { limitSeconds: 60 },
    async (network) => {
      const client = network.client(0);
      const server = await startServer(network);
      const tunnel = await startClient(network);
      expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);
      expect((await tunnel.status()).transport).toBe("udp");

      await blockUdp(client, directions);
      const movedMs = await untilAnswer(client);
      console.log(`answers over TLS after ${Math.round(movedMs)} ms`);
      expect(movedMs).toBeLessThan(MOVED_WITHIN_MS);
      await tunnel.waitForStatus(
        "TLS",
        ({ state, transport }) => state === "connected" && transport === "tcp",
      );
      expect((await server.status()).sessions.map(({ transport }) => transport)).toEqual(["tcp"]);
      expect((await ping(client, INNER_SERVER, { count: 20 })).received).toBe(20);

      await unblockUdp(client);
      const start = performance.now();
      await tunnel.waitForStatus("UDP", ({ transport }) => transport === "udp", BACK_WITHIN_MS);
      console.log(`back on UDP after ${Math.round(performance.now() - start)} ms`);
      // no packet is lost by going back
      expect((await ping(client, INNER_SERVER, { count: 20 })).received).toBe(20);
      await server.waitForStatus("UDP", ({ sessions }) => sessions[0]?.transport === "udp");
    },
  );
}

networkTest("transport: UDP blocked from the start", {}, async (network) => {
  const client = network.client(0);
  await startServer(network);
  await blockUdp(client, ["input", "output"]);
  const start = performance.now();
  const tunnel = await startClient(network);
  await untilAnswer(client);
  console.log(`first answer after ${Math.round(performance.now() - start)} ms`);
  expect(performance.now() - start).toBeLessThan(MOVED_WITHIN_MS);
  expect((await tunnel.status()).transport).toBe("tcp");
});

networkTest(
  "transport: --transport tcp sends no datagram, --transport udp no record over TLS",
  {},
  async (network) => {
    const client = network.client(0);
    await startServer(network);
    const capture = await Capture.start(network, client, "wan", "udp");
    const tunnel = await startClient(network, 0, { args: ["--transport", "tcp"] });
    expect((await ping(client, INNER_SERVER, { count: 10 })).received).toBe(10);
    expect((await tunnel.status()).transport).toBe("tcp");
    await tunnel.stop();
    expect(await capture.stop()).toEqual([]);

    await blockUdp(client, ["input", "output"]);
    const stubborn = await startClient(network, 0, { args: ["--transport", "udp"], waitUntilReady: false });
    await until("the warning", timeoutSeconds(10), async () =>
      stubborn.program.output.includes("is UDP blocked?") ? true : undefined,
    );
    // not connected: status 3
    expect((await stubborn.control("status")).status).toBe(3);
  },
);

networkTest(
  "transport: over TCP, through a bottleneck, a ping does not wait behind a flow at full speed, either way",
  { limitSeconds: 60 },
  async (network) => {
    const client = network.client(0);
    for (const device of ["c1", "srv"]) {
      const shape = `tc qdisc add dev ${device} root tbf rate 50mbit burst 70kb latency 30ms`;
      await network.internet.run(shape.split(" "));
    }
    await startServer(network);
    await startClient(network, 0, { args: ["--transport", "tcp"] });
    await startIperfServer(network.server, INNER_SERVER);
    for (const direction of [[], ["-R"]]) {
      const load = iperf(client, INNER_SERVER, ["-t", "5", ...direction], timeoutSeconds(20));
      await Bun.sleep(2_000);
      const { medianMs } = await ping(client, INNER_SERVER, { count: 60, intervalSeconds: 0.03 });
      const { megabitsPerSecond } = await load;
      console.log(`ping ${medianMs} ms beside ${Math.round(megabitsPerSecond)} Mbit/s ${direction.join("")}`);
      // without bounds it is nearly 400
      expect(medianMs).toBeLessThan(150);
      expect(megabitsPerSecond).toBeGreaterThan(30);
    }
  },
);
