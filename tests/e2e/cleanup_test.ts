/** What the programs change on a machine is put back: after an orderly end, and after none. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import { type Network, SERVER_ADDRESS } from "./harness/network.ts";
import { executable, PASSWORD, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

/** Arguments that change as much as possible. */
const SERVER = { args: ["--nat"] };
const CLIENT = { fullTunnel: true };

async function states(network: Network): Promise<{ client: string; server: string }> {
  return { client: await machineState(network.client(0)), server: await machineState(network.server) };
}

/** Takes the states, starts both, and checks that there is something to put back. */
async function startBoth(network: Network) {
  const before = await states(network);
  const server = await startServer(network, SERVER);
  const client = await startClient(network, 0, CLIENT);
  const during = await states(network);
  expect(during.client).not.toBe(before.client);
  expect(during.server).not.toBe(before.server);
  return { before, server, client };
}

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  networkTest(`clean-up: ${signal} leaves both machines as they were`, {}, async (network) => {
    const { before, server, client } = await startBoth(network);
    await client.stop(signal);
    await server.stop(signal);
    expect(await states(network)).toEqual(before);
  });
}

networkTest("clean-up: a server that stops first leaves both machines as they were", {}, async (network) => {
  const { before, server, client } = await startBoth(network);
  await server.stop();
  await client.stop();
  expect(await states(network)).toEqual(before);
});

networkTest("clean-up: `down` stops a running client", {}, async (network) => {
  const { before, client } = await startBoth(network);
  expect((await client.control("down")).status).toBe(0);
  expect(await client.program.wait(5_000)).toBe(0);
  expect(await machineState(network.client(0))).toBe(before.client);
  expect((await client.control("status", "--json")).status).toBe(3);
});

networkTest("clean-up: after kill -9 of the client `down` puts everything back", {}, async (network) => {
  const { before, client } = await startBoth(network);
  await client.program.kill();
  const down = await client.control("down");
  expect({ status: down.status, stderr: down.stderr }).toMatchObject({ status: 0 });
  expect(await machineState(network.client(0))).toBe(before.client);
});

networkTest(
  "clean-up: after kill -9 of the client a new start and stop put everything back",
  {},
  async (network) => {
    const { before, client } = await startBoth(network);
    await client.program.kill();
    const again = await startClient(network, 0, CLIENT);
    await again.stop();
    expect(await machineState(network.client(0))).toBe(before.client);
  },
);

networkTest(
  "clean-up: after kill -9 of the server a new start and stop put everything back",
  {},
  async (network) => {
    const { before, server } = await startBoth(network);
    await server.program.kill();
    const again = await startServer(network, SERVER);
    await again.stop();
    expect(await machineState(network.server)).toBe(before.server);
  },
);

networkTest(
  "clean-up: the reader of the log leaves: the tunnel stays, and its end is orderly",
  {},
  async (network) => {
    const machine = network.client(0);
    const server = await startServer(network, SERVER);
    const before = await machineState(machine);
    const stateDir = ["--state-dir", join(network.directory, "unread")];
    const script = 'exec "$@" 2> >(head -n 1)';
    const argv = ["bash", "-c", script, "bash", executable("client"), "--server", SERVER_ADDRESS];
    const client = machine.start("client", [...argv, ...stateDir], { env: { OMAIL_PASSWORD: PASSWORD } });
    const status = () => machine.tryRun([executable("client"), "status", ...stateDir]);
    await until("the tunnel", timeoutSeconds(15), async () =>
      /^state +connected$/m.test((await status()).stdout) ? true : undefined,
    );
    // it has something to say to nobody
    await server.stop();
    await until("the loss of the server", timeoutSeconds(15), async () =>
      (await status()).stderr.includes("reconnecting") ? true : undefined,
    );
    expect(await client.stop("SIGTERM")).toBe(0);
    expect(await machineState(machine)).toBe(before);
  },
);
