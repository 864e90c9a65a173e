/** Kernels and sockets that refuse what makes us fast: everything still arrives, and the log says so once. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { INNER_SERVER, type OmailProgram, startClient, startServer } from "./harness/omail.ts";
import { refuseSegmentation } from "./harness/socket_of.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { iperf, ping, startIperfServer } from "./harness/traffic.ts";

const REFUSED = /refuses UDP_SEGMENT with EINVAL/g;
const NO_OFFLOADS = /has no offloads on this kernel/g;

function timesSaid(program: OmailProgram<unknown>, pattern: RegExp): number {
  return program.program.output.match(pattern)?.length ?? 0;
}

networkTest(
  "refusal: sockets that refuse to segment in mid-run lose nothing, and both programs say so once",
  {},
  async (network) => {
    const client = network.client(0);
    const server = await startServer(network);
    const tunnel = await startClient(network);
    await startIperfServer(network.server, INNER_SERVER);
    const pings = ping(client, INNER_SERVER, { count: 300, bytes: 1000, intervalSeconds: 0.01 });
    const transfers = async () => {
      for (const args of [[], ["-R"]]) {
        const { bytes } = await iperf(client, INNER_SERVER, ["-t", "2", ...args], timeoutSeconds(15));
        expect(bytes).toBeGreaterThan(20e6);
      }
    };
    const transferring = transfers();
    await Bun.sleep(700);
    await Promise.all([refuseSegmentation(server.program.pid), refuseSegmentation(tunnel.program.pid)]);
    await transferring;
    expect((await pings).received).toBe(300);
    for (const program of [server, tunnel]) {
      await until("the log line", timeoutSeconds(5), async () =>
        timesSaid(program, REFUSED) > 0 ? true : undefined,
      );
      expect(timesSaid(program, REFUSED)).toBe(1);
    }
  },
);

networkTest("refusal: a kernel without virtio headers is a warning, and no more", {}, async (network) => {
  const server = await startServer(network);
  const tunnel = await startClient(network, 0, { variant: "plain-tun" });
  expect((await ping(network.client(0), INNER_SERVER, { count: 5, bytes: 3000 })).received).toBe(5);
  expect(timesSaid(tunnel, NO_OFFLOADS)).toBe(1);
  expect(timesSaid(server, NO_OFFLOADS)).toBe(0);
});
