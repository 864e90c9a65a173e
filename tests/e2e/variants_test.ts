/**
 * The tunnel in each variant (`harness/variant.ts`), in short: both families and directions, super-packets, two clients.
 *
 * `bun run test:variants` runs whole test files in every variant.
 */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import type { Machine } from "./harness/network.ts";
import { INNER_SERVER, INNER_SERVER6, innerAddresses, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";
import { iperf, ping, startIperfServer } from "./harness/traffic.ts";
import { VARIANTS } from "./harness/variant.ts";

const TRANSFER_BYTES = 50_000_000;

/** Small packets, full ones and such that the inner kernel fragments, all at a time. */
async function expectAnswers(machine: Machine, targets: readonly string[]): Promise<void> {
  const asked = targets.flatMap((target) => [64, 1440, 3000].map((bytes) => ({ target, bytes })));
  const answers = await Promise.all(
    asked.map(({ target, bytes }) => ping(machine, target, { count: 10, bytes })),
  );
  expect(answers.map(({ received }) => received)).toEqual(asked.map(() => 10));
}

for (const variant of VARIANTS.filter((name) => name !== "default")) {
  networkTest(`variant ${variant}: ping, TCP and two clients`, { clients: 2 }, async (network) => {
    const [first, second] = [network.client(0), network.client(1)];
    const server = await startServer(network, { variant });
    const tunnels = await Promise.all([0, 1].map((index) => startClient(network, index, { variant })));
    const [inner, other] = await Promise.all(tunnels.map((tunnel) => innerAddresses(tunnel)));
    // a server knows where a client is once it has heard from it
    await expectAnswers(first, [INNER_SERVER, INNER_SERVER6]);
    await expectAnswers(second, [INNER_SERVER, INNER_SERVER6]);
    await expectAnswers(network.server, [inner!.v4, inner!.v6, other!.v4, other!.v6]);

    await startIperfServer(network.server, INNER_SERVER);
    for (const direction of [[], ["-R"]]) {
      const args = ["-n", `${TRANSFER_BYTES}`, ...direction];
      // the receiver may close while the last blocks of a reversed test are on their way
      const { bytes } = await iperf(first, INNER_SERVER, args, timeoutSeconds(15));
      expect(bytes).toBeGreaterThan(TRANSFER_BYTES * 0.9);
    }
    expect((await server.status()).sessions.length).toBe(2);
  });
}
