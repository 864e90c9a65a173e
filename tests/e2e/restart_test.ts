/** A server that dies and comes back: its clients come back too, by themselves. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";

/** The required figure; not a time-out, so it is not scaled. */
const BACK_WITHIN_MS = 5_000;

for (const how of ["killed", "stopped"] as const) {
  networkTest(
    `restart: the client is back within 5 s of a server that was ${how} and restarted`,
    {},
    async (network) => {
      const client = network.client(0);
      const server = await startServer(network);
      const tunnel = await startClient(network);
      expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);

      await (how === "killed" ? server.program.kill() : server.stop());
      expect((await ping(client, INNER_SERVER, { count: 2, lastWaitSeconds: 1 })).received).toBe(0);
      const start = performance.now();
      await startServer(network);
      await until("the first answer", timeoutSeconds(20), async () => {
        const { received } = await ping(client, INNER_SERVER, { count: 1, lastWaitSeconds: 0.2 });
        return received === 1 ? true : undefined;
      });
      const backMs = performance.now() - start;
      console.log(`back after ${Math.round(backMs)} ms`);
      expect(backMs).toBeLessThan(BACK_WITHIN_MS);
      await tunnel.waitForStatus("connected", ({ state }) => state === "connected");
    },
  );
}
