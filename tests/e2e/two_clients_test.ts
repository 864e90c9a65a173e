/** Two clients at once: each gets its own packets and none of the other's, and they reach each other. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { Capture, packetAddresses } from "./harness/capture.ts";
import { DEFAULT_TUN, innerAddresses, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

const PACKETS = 500;

/** An IPv4 address as {@link packetAddresses} writes it. */
function hexOf(address: string): string {
  return Uint8Array.from(address.split("."), Number).toHex();
}

networkTest(
  "two clients: each gets its own packets and none of the other's",
  { clients: 2 },
  async (network) => {
    await startServer(network);
    const tunnels = await Promise.all([startClient(network, 0), startClient(network, 1)]);
    const inner = await Promise.all(tunnels.map((tunnel) => innerAddresses(tunnel)));
    expect(inner[0]!.v4).not.toBe(inner[1]!.v4);
    expect(inner[0]!.v6).not.toBe(inner[1]!.v6);

    const captures = await Promise.all(
      network.clients.map((machine) => Capture.start(network, machine, DEFAULT_TUN, "ip")),
    );
    const answers = await Promise.all(
      inner.map(({ v4 }) => ping(network.server, v4, { count: PACKETS, intervalSeconds: 0.004 })),
    );
    expect(answers.map(({ received }) => received)).toEqual([PACKETS, PACKETS]);

    for (const [index, capture] of captures.entries()) {
      const own = hexOf(inner[index]!.v4);
      const packets = (await capture.stop()).map((packet) => packetAddresses(packet));
      expect(packets.filter(({ destination }) => destination === own).length).toBeGreaterThanOrEqual(PACKETS);
      expect(packets.filter(({ source, destination }) => source !== own && destination !== own)).toEqual([]);
    }
  },
);

networkTest(
  "two clients: they reach each other by the server's forwarding, where the policy lets them",
  { clients: 2 },
  async (network) => {
    const config = join(network.directory, "server.toml");
    await Bun.write(config, '[[policy]]\nnetworks = ["all", "clients"]\n');
    const server = await startServer(network, { args: ["--nat", "--config", config] });
    const [first, second] = await Promise.all([startClient(network, 0), startClient(network, 1)]);
    const target = await innerAddresses(second);
    for (const address of [target.v4, target.v6]) {
      const { received } = await ping(network.client(0), address, { count: 20 });
      expect({ address, received }).toEqual({ address, received: 20 });
    }
    expect((await server.status()).sessions.length).toBe(2);
    await first.stop();
    await server.waitForStatus("one session left", ({ sessions }) => sessions.length === 1);
    const { received } = await ping(network.server, target.v4, { count: 20 });
    expect(received).toBe(20);
  },
);
