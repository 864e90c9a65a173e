/** A client may only send from the addresses that it was given. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import {
  DEFAULT_TUN,
  dropCount,
  INNER_SERVER,
  INNER_SERVER6,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

const PACKETS = 20;

for (const { family, address, target } of [
  { family: "IPv4", address: "10.8.0.77/32", target: INNER_SERVER },
  { family: "IPv6", address: "fd08:8::77/128", target: INNER_SERVER6 },
]) {
  networkTest(
    `spoofing: ${family} packets from an address that is not the client's are dropped and counted`,
    {},
    async (network) => {
      const client = network.client(0);
      const server = await startServer(network);
      await startClient(network);
      await client.run(["ip", "address", "add", address, "dev", DEFAULT_TUN]);
      const before = await dropCount(server, "source-not-allowed");
      const from = address.split("/")[0]!;
      const forged = await ping(client, target, { count: PACKETS, from, lastWaitSeconds: 1 });
      expect(forged).toMatchObject({ sent: PACKETS, received: 0 });
      await server.waitForStatus(
        "the drops",
        ({ totals }) => (totals.drops["source-not-allowed"] ?? 0) >= before + PACKETS,
      );
      await client.run(["ip", "address", "del", address, "dev", DEFAULT_TUN]);
      expect((await ping(client, target, { count: 5 })).received).toBe(5);
    },
  );
}
