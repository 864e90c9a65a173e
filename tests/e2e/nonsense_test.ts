/** A server that is allowed to log us in and then tells nonsense: refused by name, and this machine stays as it was. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import type { BackgroundProgram } from "./harness/command.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import { runToEnd, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

const FIRST_PORT = 51900;

/** Wrong in itself: the message is not believed. At the first log-in the client ends, for trying again cannot help. */
const ILL_FORMED: readonly (readonly [object, string])[] = [
  [{ mtu: 10 }, '"config.mtu": Invalid value: Expected >=576 but received 10'],
  [{ dns: ["dns.example"] }, 'Expected an address but received "dns.example"'],
  [{ routeCount: 2_000 }, "Expected <=1024 but received 2000"],
  [{ routeCount: 100_000 }, 'it has "1702542" bytes, expected 1 to 65536'],
  [{ searchDomains: ["a b"] }, 'Expected a domain name but received "a b"'],
];
/** Well-formed, and still nothing that a machine could do. */
const IMPOSSIBLE: readonly (readonly [object, string])[] = [
  [{ routes: [`${SERVER_ADDRESS}/32`] }, `Cannot use the server's route "${SERVER_ADDRESS}/32"`],
  [{ routes: ["203.0.113.0/24"] }, 'Cannot use the server\'s route "203.0.113.0/24"'],
  [{ dns: ["127.0.0.1"] }, 'Cannot use the server\'s DNS server "127.0.0.1"'],
  [{ addresses: ["203.0.113.9/24"] }, 'Cannot use "203.0.113.0/24" as the tunnel\'s network'],
];

const LIES = [...ILL_FORMED, ...IMPOSSIBLE];

/** Starts the liar: the n-th lie is told on the n-th port. */
async function startLiar(
  network: Network,
  firstPort: number,
  lies: readonly object[],
): Promise<BackgroundProgram> {
  const args = [`${firstPort}`, ...lies.map((lie) => JSON.stringify(lie))];
  const liar = network.server.startHelper("lying_server", ...args);
  await until("the liar", timeoutSeconds(10), async () =>
    liar.output.includes("listening") ? true : undefined,
  );
  return liar;
}

networkTest("nonsense from the server is refused by name, the machine untouched", {}, async (network) => {
  const client = network.client(0);
  await startLiar(
    network,
    FIRST_PORT,
    LIES.map(([lie]) => lie),
  );
  const before = await machineState(client);
  for (const [index, [, reason]] of LIES.entries()) {
    const args = ["--server", `${SERVER_ADDRESS}:${FIRST_PORT + index}`];
    const { status, stderr } = await runToEnd(network, client, "client", { args });
    expect({ isClear: [1, 2].includes(status), stderr }).toEqual({
      isClear: true,
      stderr: expect.stringContaining(reason),
    });
  }
  expect(await machineState(client)).toBe(before);
});

networkTest(
  "nonsense from one server: the next one has its turn, and when all talk it the client ends",
  {},
  async (network) => {
    await startLiar(network, FIRST_PORT, [{ mtu: 10 }, { routeCount: 100_000 }]);
    await startServer(network);
    const [first, second] = [0, 1].map((index) => `${SERVER_ADDRESS}:${FIRST_PORT + index}`);
    const args = ["--server", `${first},${second}`];
    const { status, stderr } = await runToEnd(network, network.client(0), "client", { args });
    expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringContaining("error: Cannot use") });
    const client = await startClient(network, 0, { args: ["--server", `${first},${SERVER_ADDRESS}`] });
    expect((await client.status()).server).toBe(`${SERVER_ADDRESS}:51820`);
  },
);

networkTest(
  "nonsense at a reconnect: a client that had a tunnel keeps it up and tries again until the server makes sense",
  {},
  async (network) => {
    const server = await startServer(network);
    const client = await startClient(network);
    const routes = async (): Promise<string> => (await network.client(0).run(["ip", "route"])).stdout;
    const before = await routes();
    await server.stop();
    const liar = await startLiar(network, 51820, [{ mtu: 10 }]);
    await until("a second try", timeoutSeconds(15), async () =>
      client.program.output.split("Cannot use the configuration of the server").length > 2 ? true : undefined,
    );
    expect(await routes()).toBe(before);
    await liar.stop();
    await startServer(network);
    await client.waitForStatus("a connection", ({ state }) => state === "connected");
  },
);
