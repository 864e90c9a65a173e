/** Servers that are dead, silent or have moved, and a machine that slept: the client finds its way by itself. */

import { expect } from "bun:test";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { machineState } from "./harness/machine_state.ts";
import { clientAddress, type Machine, type Network, SERVER_ADDRESS } from "./harness/network.ts";
import {
  executable,
  INNER_SERVER,
  PASSWORD,
  runToEnd,
  SPLIT_TUNNEL,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";

/** The required figure; not a time-out, so it is not scaled. */
const BACK_AFTER_SLEEP_MS = 3_000;

async function untilAnswer(machine: Machine): Promise<number> {
  const start = performance.now();
  await until("an answer through the tunnel", timeoutSeconds(30), async () => {
    const { received } = await ping(machine, INNER_SERVER, { count: 1, lastWaitSeconds: 0.1 });
    return received === 1 ? true : undefined;
  });
  return performance.now() - start;
}

/** A second server, on the machine of the second client. */
async function startSecondServer(network: Network): Promise<{ kill(): Promise<void> }> {
  const machine = network.client(1);
  const stateDir = join(network.directory, "second-server");
  const args = ["--tun-ip", `${INNER_SERVER}/24`, "--tun-ip6", "fd08:8::1/64", "--state-dir", stateDir];
  const program = machine.start("second omail-server", [executable("server"), ...args], {
    env: { OMAIL_PASSWORD: PASSWORD },
  });
  await until("the second server", timeoutSeconds(10), async () =>
    program.output.includes("listening") ? true : undefined,
  );
  return program;
}

async function startStallingServer(machine: Machine, port: number, how: string): Promise<void> {
  const program = machine.startHelper("stalling_server", `${port}`, how);
  await until("the stalling server", timeoutSeconds(10), async () =>
    program.output.includes("listening") ? true : undefined,
  );
}

/** Gives programs of a machine that start later names of their own (ip-netns(8)), and takes them away again. */
async function withHosts(
  machine: Machine,
  body: (set: (text: string) => Promise<void>) => Promise<void>,
): Promise<void> {
  const directory = `/etc/netns/${machine.namespace}`;
  const set = (text: string): Promise<void> => writeFile(join(directory, "hosts"), text);
  await mkdir(directory, { recursive: true });
  try {
    await writeFile(join(directory, "nsswitch.conf"), "hosts: files\n");
    await set("127.0.0.1 localhost\n");
    await body(set);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

networkTest(
  "reconnect: dead and silent servers are passed by, and none is stuck to",
  { clients: 2, limitSeconds: 60 },
  async (network) => {
    const [client, server] = [network.client(0), network.server];
    await startStallingServer(server, 51001, "silent");
    await startStallingServer(server, 51002, "half-tls");
    const first = await startServer(network);
    const second = await startSecondServer(network);
    const dead = [`${SERVER_ADDRESS}:51000`, `${SERVER_ADDRESS}:51001`, `${SERVER_ADDRESS}:51002`];
    const servers = [...dead, `${SERVER_ADDRESS}:51820`, `${clientAddress(1)}:51820`];
    const start = performance.now();
    const args = servers.flatMap((one) => ["--server", one]);
    const tunnel = await startClient(network, 0, { args });
    console.log(`connected past three dead servers after ${Math.round(performance.now() - start)} ms`);
    expect((await tunnel.status()).server).toBe(`${SERVER_ADDRESS}:51820`);
    expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);

    await first.program.kill();
    await tunnel.waitForStatus(
      "the second server",
      ({ state, server: now }) => state === "connected" && now === `${clientAddress(1)}:51820`,
      timeoutSeconds(20),
    );
    expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);

    await startServer(network);
    await second.kill();
    await tunnel.waitForStatus(
      "the first server again",
      ({ state, server: now }) => state === "connected" && now === `${SERVER_ADDRESS}:51820`,
      timeoutSeconds(20),
    );
    expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);
  },
);

networkTest(
  "reconnect: a server that moved is found by its name, resolved anew",
  { clients: 2 },
  async (network) => {
    const client = network.client(0);
    await withHosts(client, async (setHosts) => {
      const unknown = await runToEnd(network, client, "client", {
        args: ["--server", "no-such.test", "--split-tunnel", SPLIT_TUNNEL],
      });
      expect(unknown.status).toBe(1);
      expect(unknown.stderr).toContain('Cannot resolve "no-such.test": there is no such name');

      await setHosts(`${SERVER_ADDRESS} vpn.test\n`);
      const first = await startServer(network);
      const tunnel = await startClient(network, 0, { args: ["--server", "vpn.test"] });
      await startSecondServer(network);
      await setHosts(`${clientAddress(1)} vpn.test\n`);
      await first.program.kill();
      const start = performance.now();
      await tunnel.waitForStatus("connected again", ({ state }) => state === "connected");
      await untilAnswer(client);
      console.log(`at the server's new address after ${Math.round(performance.now() - start)} ms`);
    });
  },
);

networkTest(
  "reconnect: a machine that slept while the server was restarted is back within 3 s",
  {},
  async (network) => {
    const client = network.client(0);
    const server = await startServer(network);
    const tunnel = await startClient(network);
    expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);
    tunnel.program.signal("SIGSTOP");
    // the network forgets the connection meanwhile: nothing tells the client that the server is another one
    await network.server.nft("table inet mute { chain out { type filter hook output priority 0; drop; }\n}");
    await server.program.kill();
    await Bun.sleep(4_000);
    await network.server.nft("delete table inet mute");
    await startServer(network);
    tunnel.program.signal("SIGCONT");
    const backMs = await untilAnswer(client);
    console.log(`back ${Math.round(backMs)} ms after the sleep`);
    expect(backMs).toBeLessThan(BACK_AFTER_SLEEP_MS);
    expect(tunnel.program.output).toContain("the machine slept");
  },
);

networkTest(
  "reconnect: a server that stalls is named, and the machine is untouched",
  { limitSeconds: 60 },
  async (network) => {
    const client = network.client(0);
    const ways = [
      [51001, "silent", "TCP is accepted, but TLS does not come about within 10000 ms"],
      [51002, "half-tls", "TCP is accepted, but TLS does not come about within 10000 ms"],
      [51003, "no-login", "TLS stands, but no answer came within 10000 ms"],
    ] as const;
    const before = await machineState(client);
    for (const [port, how] of ways) await startStallingServer(network.server, port, how);
    const tunnels = await Promise.all(
      ways.map(([port, how]) =>
        startClient(network, 0, {
          args: ["--server", `${SERVER_ADDRESS}:${port}`],
          tun: `omail${port}`,
          stateDir: how,
          waitUntilReady: false,
        }),
      ),
    );
    for (const [i, [port, , says]] of ways.entries()) {
      const { program } = tunnels[i]!;
      await until(`the ${says}`, timeoutSeconds(20), async () =>
        program.output.includes(`${SERVER_ADDRESS}:${port}`) && program.output.includes(says)
          ? true
          : undefined,
      );
    }
    for (const tunnel of tunnels) await tunnel.stop();
    expect(await machineState(client)).toBe(before);
  },
);
