/** Runs of UDP datagrams of one flow: joined for the TUN, and as they were sent at the socket. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { Capture } from "./harness/capture.ts";
import { DEFAULT_TUN, innerAddresses, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { untilListening } from "./harness/traffic.ts";

const PORT = "9000";
/** Larger than any packet that comes by itself. */
const MTU_BYTES = 1_500;

networkTest(
  "UDP runs: both ways and families they reach the socket unchanged and in order, and were joined on the way",
  { limitSeconds: 60 },
  async (network) => {
    await startServer(network, { args: ["--tun-ip", "10.8.0.1/24", "--tun-ip6", "fd08:8::1/64"] });
    const { v4, v6 } = await innerAddresses(await startClient(network));
    for (const [from, to, address] of [
      [network.client(0), network.server, "10.8.0.1"],
      [network.server, network.client(0), v6],
      [network.server, network.client(0), v4],
    ] as const) {
      const capture = await Capture.start(network, to, DEFAULT_TUN, "udp");
      const receiver = to.startHelper("udp_runs", "receive", address, PORT);
      await untilListening(receiver);
      const { sent } = (await from.runHelper("udp_runs", ["send", address, PORT], timeoutSeconds(20))) as {
        sent: number;
      };
      const line = await until("the receiver's report", timeoutSeconds(5), async () =>
        receiver.output.split("\n").find((text) => text.startsWith("{")),
      );
      const { received, changed, late } = JSON.parse(line) as Record<string, number>;
      expect({ changed, late }).toEqual({ changed: 0, late: 0 });
      // a socket with an ordinary buffer may lose some on a busy machine
      expect(received).toBeGreaterThan(sent * 0.9);
      const packets = await capture.stop();
      expect(packets.some((packet) => packet.length > MTU_BYTES)).toBe(true);
    }
  },
);
