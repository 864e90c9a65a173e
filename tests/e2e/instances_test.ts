/** Three tunnels side by side between the same two machines, told apart by the name of their interface. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import { SERVER_ADDRESS } from "./harness/network.ts";
import { startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

const INSTANCES = [0, 1, 2];
const FIRST_PORT = 51820;

networkTest(
  "instances: three side by side, and one that ends leaves the others alone",
  { limitSeconds: 60 },
  async (network) => {
    const before = [await machineState(network.server), await machineState(network.client(0))];
    const servers = await Promise.all(
      INSTANCES.map((index) =>
        startServer(network, {
          tun: `omail${index}`,
          args: [
            "--nat",
            "--address",
            `:${FIRST_PORT + index}`,
            "--tun-ip",
            `10.8.${index}.1/24`,
            "--tun-ip6",
            `fd08:${index}::1/64`,
          ],
        }),
      ),
    );
    const clients = await Promise.all(
      INSTANCES.map((index) =>
        startClient(network, 0, {
          tun: `omail${index}`,
          args: [
            "--server",
            `${SERVER_ADDRESS}:${FIRST_PORT + index}`,
            "--split-tunnel",
            `10.8.${index}.0/24,fd08:${index}::/64`,
          ],
        }),
      ),
    );
    const answers = async () => {
      const results = await Promise.all(
        INSTANCES.map((index) =>
          ping(network.client(0), `10.8.${index}.1`, { count: 5, lastWaitSeconds: 1 }),
        ),
      );
      return results.map(({ received }) => received);
    };
    expect(await answers()).toEqual([5, 5, 5]);
    const status = await Promise.all(servers.map((server) => server.status()));
    expect(status.map(({ tun, sessions }) => ({ tun, sessions: sessions.length }))).toEqual(
      INSTANCES.map((index) => ({ tun: `omail${index}`, sessions: 1 })),
    );

    await clients[1]!.stop();
    await servers[1]!.stop();
    expect(await answers()).toEqual([5, 0, 5]);
    for (const index of [0, 2]) {
      await clients[index]!.stop();
      await servers[index]!.stop();
    }
    expect([await machineState(network.server), await machineState(network.client(0))]).toEqual(before);
  },
);
