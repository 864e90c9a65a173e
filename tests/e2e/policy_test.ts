/** The access policy: what a user may reach is reached, what it may not is refused at once, and changes act at once. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import { type Machine, type Network, WEB_ADDRESS, WEB_ADDRESS6 } from "./harness/network.ts";
import {
  INNER_SERVER,
  INNER_SERVER6,
  innerAddresses,
  type OmailProgram,
  PASSWORD,
  type ServerStatus,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping, startWebServer, untilListening } from "./harness/traffic.ts";

/** Ports that are listened on: by the web server, and on the server itself. */
const WEB_PORT = 80;
const OWN_PORT = 8080;

async function answers(machine: Machine, address: string): Promise<boolean> {
  return (await ping(machine, address, { count: 2, lastWaitSeconds: 1 })).received > 0;
}

/** Whether TCP connects; a refusal by the policy comes at once and does not wait for a time-out. */
async function connects(machine: Machine, address: string, port: number): Promise<boolean> {
  const host = address.includes(":") ? `[${address}]` : address;
  const { status } = await machine.tryRun([
    "curl",
    "-s",
    "-o",
    "/dev/null",
    "-m",
    "3",
    `http://${host}:${port}/whoami`,
  ]);
  // 7: could not connect; 28: timed out
  expect([0, 7, 52]).toContain(status);
  return status !== 7;
}

async function listen(network: Network): Promise<void> {
  const file = join(network.directory, "file");
  await Bun.write(file, "x");
  await startWebServer(network.internet, file);
  const script = `Bun.serve({ port: ${OWN_PORT}, hostname: "::", fetch: () => new Response("x") }); console.log("listening")`;
  const own = network.server.start("server's own service", [process.execPath, "-e", script]);
  await untilListening(own);
}

const USERS = ["alice", "bob"]
  .map((name) => `[[users]]\nname = "${name}"\npassword = "${PASSWORD}"\n`)
  .join("");

async function configure(network: Network, policy: string): Promise<string> {
  const path = join(network.directory, "server.toml");
  await Bun.write(path, `${USERS}${policy}`);
  return path;
}

async function reload(server: OmailProgram<ServerStatus>, config: string): Promise<void> {
  const { status, stderr } = await server.control("reload", "--config", config);
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
}

networkTest(
  "policy: without rules clients reach everything but each other",
  { clients: 2 },
  async (network) => {
    await listen(network);
    await startServer(network, { args: ["--nat"] });
    await startClient(network, 0, { fullTunnel: true });
    const second = await innerAddresses(await startClient(network, 1));
    const client = network.client(0);
    expect(await connects(client, WEB_ADDRESS, WEB_PORT)).toBe(true);
    expect(await connects(client, WEB_ADDRESS6, WEB_PORT)).toBe(true);
    expect(await answers(client, INNER_SERVER)).toBe(true);
    expect(await answers(client, second.v4)).toBe(false);
    expect(await answers(client, second.v6)).toBe(false);
    // the server itself reaches both
    expect(await answers(network.server, second.v4)).toBe(true);
  },
);

networkTest(
  "policy: each user reaches what its rules say, reload changes that at once, and nothing is left behind",
  { clients: 2, limitSeconds: 60 },
  async (network) => {
    await listen(network);
    const before = await machineState(network.server);
    const config = await configure(
      network,
      `[[policy]]\nwho = "alice"\nnetworks = "${WEB_ADDRESS}"\nproto = "tcp"\nports = ${WEB_PORT}\n` +
        `[[policy]]\nwho = "alice"\nnetworks = "server"\nproto = "icmp"\n`,
    );
    const server = await startServer(network, { args: ["--nat", "--config", config] });
    await startClient(network, 0, { fullTunnel: true, args: ["--user", "alice"] });
    const second = await startClient(network, 1, { fullTunnel: true, args: ["--user", "bob"] });
    const [alice, bob] = network.clients;
    expect(await connects(alice!, WEB_ADDRESS, WEB_PORT)).toBe(true);
    expect(await connects(alice!, WEB_ADDRESS, WEB_PORT + 1)).toBe(false);
    expect(await connects(alice!, WEB_ADDRESS6, WEB_PORT)).toBe(false);
    expect(await connects(alice!, INNER_SERVER, OWN_PORT)).toBe(false);
    expect(await answers(alice!, INNER_SERVER)).toBe(true);
    expect(await answers(alice!, (await innerAddresses(second)).v4)).toBe(false);
    // nobody named bob: he has the default
    expect(await connects(bob!, WEB_ADDRESS6, WEB_PORT)).toBe(true);
    expect(await connects(bob!, INNER_SERVER6, OWN_PORT)).toBe(true);

    const tested = await server.control("policy", "test", "alice", WEB_ADDRESS, "81", "--config", config);
    expect(tested).toMatchObject({ status: 4, stdout: "" });
    expect(tested.stderr).toContain(`"alice" may not reach ${WEB_ADDRESS} tcp 81`);

    await configure(network, '[[policy]]\nwho = ["alice", "bob"]\nnetworks = ["server", "clients"]\n');
    await reload(server, config);
    expect(await connects(alice!, WEB_ADDRESS, WEB_PORT)).toBe(false);
    expect(await connects(alice!, INNER_SERVER, OWN_PORT)).toBe(true);
    expect(await answers(alice!, (await innerAddresses(second)).v4)).toBe(true);

    await server.program.kill();
    expect((await server.control("down")).status).toBe(0);
    expect(await machineState(network.server)).toBe(before);
  },
);

/** What ping(8) says of an answer by ICMP or ICMPv6 that the way is closed by a rule. */
const CLOSED_BY_A_RULE = /Packet filtered|Administratively prohibited/;

networkTest(
  "policy: what is not allowed is answered at once, so that nobody waits for a time-out",
  { clients: 2 },
  async (network) => {
    const config = await configure(network, `[[policy]]\nwho = "*"\nnetworks = "server"\nproto = "icmp"\n`);
    await startServer(network, { args: ["--nat", "--config", config] });
    await startClient(network, 0, { fullTunnel: true, args: ["--user", "alice"] });
    const second = await innerAddresses(await startClient(network, 1, { args: ["--user", "bob"] }));
    const client = network.client(0);
    for (const address of [WEB_ADDRESS, WEB_ADDRESS6, second.v4, second.v6]) {
      const { stdout } = await client.tryRun(["ping", "-n", "-c", "1", "-W", "3", address]);
      expect({ address, stdout }).toEqual({ address, stdout: expect.stringMatching(CLOSED_BY_A_RULE) });
    }
    for (const [address, port] of [
      [WEB_ADDRESS, WEB_PORT],
      [WEB_ADDRESS6, WEB_PORT],
      [INNER_SERVER, OWN_PORT],
      [INNER_SERVER6, OWN_PORT],
    ] as const) {
      const startMs = performance.now();
      expect(await connects(client, address, port)).toBe(false);
      const tookMs = performance.now() - startMs;
      console.log(`${address} port ${port}: refused after ${Math.round(tookMs)} ms`);
      expect(tookMs).toBeLessThan(timeoutSeconds(0.8));
    }
  },
);

networkTest("policy: a server that pushes networks says when nothing is forwarded", {}, async (network) => {
  const says = "Clients reach this machine only: forwarding is off";
  const pushing = await startServer(network, { args: ["--push-route", "192.168.7.0/24"] });
  expect(pushing.program.output).toContain(says);
  await pushing.stop();
  for (const args of [[], ["--push-route", "192.168.7.0/24", "--nat"]]) {
    const server = await startServer(network, { args });
    expect(server.program.output).not.toContain(says);
    await server.stop();
  }
});

networkTest(
  "policy: a group of the database counts, and taking it away acts at once",
  {},
  async (network) => {
    await listen(network);
    const config = await configure(
      network,
      `[[policy]]\nwho = "@staff"\nnetworks = ["server", "${WEB_ADDRESS}"]\n[[policy]]\nwho = "*"\nnetworks = "server"\n`,
    );
    const server = await startServer(network, { args: ["--nat", "--config", config] });
    const user = async (...args: readonly string[]): Promise<void> => {
      const file = join(network.directory, "password");
      await Bun.write(file, PASSWORD);
      const password = args[0] === "add" ? ["--password-file", file] : [];
      const { status, stderr } = await server.control("user", ...args, ...password);
      expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    };
    await user("add", "carol", "--group", "staff", "--network", "192.168.50.0/24");
    await startClient(network, 0, { fullTunnel: true, args: ["--user", "carol"] });
    const client = network.client(0);
    await client.run(["ip", "address", "add", "192.168.50.1/32", "dev", "lo"]);
    expect(await connects(client, WEB_ADDRESS, WEB_PORT)).toBe(true);
    // from behind the client, too
    const fromBehind = () =>
      ping(client, INNER_SERVER, { count: 1, from: "192.168.50.1", lastWaitSeconds: 1 });
    expect((await fromBehind()).received).toBe(1);
    const tested = await server.control("policy", "test", "carol", WEB_ADDRESS, "80", "--config", config);
    expect(tested.status).toBe(0);

    await user("set", "carol", "--group", "none");
    await until("the group to be gone", timeoutSeconds(5), async () =>
      (await connects(client, WEB_ADDRESS, WEB_PORT)) ? undefined : true,
    );
    expect(await answers(client, INNER_SERVER)).toBe(true);
  },
);
