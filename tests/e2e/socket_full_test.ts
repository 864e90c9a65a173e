/** More than the way out takes: the socket is full, the TUN is not read, nothing grows and nothing is sent twice. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { iperf, ping, startIperfServer } from "./harness/traffic.ts";

/** A link of 100 Mbit/s that holds more than the socket's buffer, so that the socket is full before the link drops. */
const BOTTLENECK = "tc qdisc add dev wan root tbf rate 100mbit burst 64kb limit 40mb";
const MAX_GROWTH_BYTES = 60e6;

networkTest("full socket: three times what the link takes is held back, not hoarded", {}, async (network) => {
  const client = network.client(0);
  await startServer(network);
  const tunnel = await startClient(network);
  await startIperfServer(network.server, INNER_SERVER);
  await iperf(client, INNER_SERVER, ["-u", "-b", "300M", "-l", "1200", "-t", "1"], timeoutSeconds(15));
  const memoryBefore = await tunnel.residentBytes();
  await client.run(BOTTLENECK.split(" "));
  const { packets, lostPackets } = await iperf(
    client,
    INNER_SERVER,
    ["-u", "-b", "300M", "-l", "1200", "-t", "4"],
    timeoutSeconds(30),
  );
  const growth = (await tunnel.residentBytes()) - memoryBefore;
  const queue = (await client.run(["tc", "-s", "qdisc", "show", "dev", "wan"])).stdout;
  console.log(`${packets} packets, ${lostPackets} lost, memory grew by ${(growth / 1e6).toFixed(1)} MB`);
  // the kernel dropped what nobody read from the TUN; the link itself dropped nothing
  expect(/dropped (\d+)/.exec(queue)?.[1]).toBe("0");
  expect(lostPackets).toBeGreaterThan(packets / 4);
  expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
  expect((await tunnel.status()).drops).toEqual({});
  await until("the queue to empty and an answer", timeoutSeconds(15), async () => {
    const { received } = await ping(client, INNER_SERVER, { count: 1, lastWaitSeconds: 0.5 });
    return received === 1 ? true : undefined;
  });
});
