/** Packets of both families and of all sizes get through the tunnel, and only through the tunnel. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import type { Machine } from "./harness/network.ts";
import { INNER_SERVER, INNER_SERVER6, innerAddresses, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

/** ICMP payloads: a small one, one just over a full packet, one that the inner kernel must fragment. */
const PAYLOAD_BYTES = [64, 1440, 3000];

async function expectAllAnswered(machine: Machine, targets: readonly string[]): Promise<void> {
  for (const target of targets) {
    for (const bytes of PAYLOAD_BYTES) {
      const { received } = await ping(machine, target, { count: 20, bytes });
      expect({ target, bytes, received }).toEqual({ target, bytes, received: 20 });
    }
  }
}

async function expectNoneAnswered(machine: Machine): Promise<void> {
  for (const target of [INNER_SERVER, INNER_SERVER6]) {
    const { received } = await ping(machine, target, { count: 2, lastWaitSeconds: 1 });
    expect({ target, received }).toEqual({ target, received: 0 });
  }
}

networkTest(
  "ping: 20 of 20 in both directions, both families, 64, 1,440 and 3,000 bytes",
  {},
  async (network) => {
    await startServer(network);
    const client = await startClient(network);
    await expectAllAnswered(network.client(0), [INNER_SERVER, INNER_SERVER6]);
    const inner = await innerAddresses(client);
    await expectAllAnswered(network.server, [inner.v4, inner.v6]);
  },
);

networkTest("ping: nothing answers before the tunnel is up and after it is down", {}, async (network) => {
  await expectNoneAnswered(network.client(0));
  await startServer(network);
  await expectNoneAnswered(network.client(0));
  const client = await startClient(network);
  const { received } = await ping(network.client(0), INNER_SERVER, { count: 3 });
  expect(received).toBe(3);
  await client.stop();
  await expectNoneAnswered(network.client(0));
});
