/** A route that leads the tunnel into itself makes no storm, and the tunnel is back when the route is gone. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { type Machine, SERVER_ADDRESS } from "./harness/network.ts";
import { type ClientStatus, DEFAULT_TUN, INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { ping } from "./harness/traffic.ts";

/** The most that may go into the tunnel meanwhile, as in WireGuard's own test of it. */
const MOST_BYTES = 70_000;

async function bytesSent(machine: Machine): Promise<number> {
  const { stdout } = await machine.run(["cat", `/sys/class/net/${DEFAULT_TUN}/statistics/tx_bytes`]);
  return Number(stdout);
}

networkTest(
  "routing loop: a route to the server through its own tunnel makes no storm",
  {},
  async (network) => {
    await startServer(network);
    const client = network.client(0);
    const omail = await startClient(network);
    expect((await ping(client, INNER_SERVER, { count: 5 })).received).toBe(5);
    const before = await bytesSent(client);
    await client.run(["ip", "route", "add", `${SERVER_ADDRESS}/32`, "dev", DEFAULT_TUN]);
    await ping(client, INNER_SERVER, { count: 10, lastWaitSeconds: 1 });
    expect((await bytesSent(client)) - before).toBeLessThan(MOST_BYTES);
    // it may have noticed that the server does not answer, and be reconnecting
    const { stdout } = await omail.control("status", "--json");
    expect((JSON.parse(stdout) as ClientStatus).drops["routing-loop"]).toBeGreaterThan(0);
    await client.run(["ip", "route", "del", `${SERVER_ADDRESS}/32`, "dev", DEFAULT_TUN]);
    await omail.waitForStatus("connected again", ({ state }) => state === "connected");
    expect((await ping(client, INNER_SERVER, { count: 5 })).received).toBeGreaterThan(0);
  },
);
