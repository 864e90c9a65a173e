/** Changing keys costs no packet. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

const PACKETS = 10_000;
const REKEYS = 100;

networkTest(
  "rekey: 100 changes of keys under load lose 0 of 10,000 packets",
  { limitSeconds: 90 },
  async (network) => {
    const server = await startServer(network, { args: ["--rekey-after", "80ms", "--log-level", "info"] });
    await startClient(network, 0, { args: ["--log-level", "info"] });
    const epoch = async () => (await server.status()).sessions[0]?.epoch ?? 0;
    const firstEpoch = await epoch();
    // 10,000 packets take somewhat more than 10 s: 125 times the life of a key.
    const { received } = await ping(network.client(0), INNER_SERVER, {
      count: PACKETS,
      bytes: 1000,
      intervalSeconds: 0.001,
    });
    expect(received).toBe(PACKETS);
    const rekeys = (await epoch()) - firstEpoch;
    console.log(`${rekeys} changes of keys, ${PACKETS - received} packets lost`);
    expect(rekeys).toBeGreaterThanOrEqual(REKEYS);
  },
);
