/** Client and server know within two keep-alives whether the other is there, and say why not. */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";

const KEEPALIVE = ["--keepalive", "2s"];
/** Two keep-alives. */
const KNOWN_WITHIN_MS = 4_000;
/** The clock of the data plane ticks ten times a second, and a busy machine is late. */
const SLACK_MS = 500;

/** Milliseconds of silence after which a program said `message` the first time, by its own log. */
function silenceIn(output: string, message: string): number {
  const line = output.split("\n").find((text) => text.includes(message)) ?? "";
  return Number(/seconds=([\d.]+)/.exec(line)?.[1]) * 1000;
}

networkTest("presence: a path that swallows everything is known at both ends", {}, async (network) => {
  const client = network.client(0);
  const server = await startServer(network, { args: KEEPALIVE });
  const tunnel = await startClient(network, 0, { args: KEEPALIVE });
  expect((await ping(client, INNER_SERVER, { count: 3 })).received).toBe(3);
  await network.internet.nft("table inet hole { chain f { type filter hook forward priority 0; drop; }\n}");
  await server.waitForStatus("silent", ({ sessions }) => sessions[0]?.state === "silent");
  const lost = await tunnel.control("status");
  expect(lost.status).toBe(3);
  expect(lost.stderr).toContain("reconnecting");
  await until("the client's word", timeoutSeconds(5), async () =>
    tunnel.program.output.includes("the server is silent") ? true : undefined,
  );
  await network.internet.nft("delete table inet hole");
  await tunnel.waitForStatus("connected", ({ state }) => state === "connected");
  await server.waitForStatus("connected", ({ sessions }) => sessions[0]?.state === "connected");
  const known = [
    silenceIn(server.program.output, "client is silent"),
    silenceIn(tunnel.program.output, "the server is silent"),
  ];
  console.log(`silence was known after ${known.join(" and ")} ms`);
  for (const ms of known) expect(ms).toBeLessThan(KNOWN_WITHIN_MS + SLACK_MS);
  expect(server.program.output).toContain("client is heard again");
});

networkTest("presence: TCP that dies alone ends no data, and is told of", {}, async (network) => {
  const client = network.client(0);
  const server = await startServer(network, { args: KEEPALIVE });
  const tunnel = await startClient(network, 0, { args: KEEPALIVE });
  const steady = ping(client, INNER_SERVER, { count: 250, intervalSeconds: 0.03 });
  await client.nft(
    "table inet cut { chain out { type filter hook output priority 0; tcp dport 51820 drop; }\n}",
  );
  await server.waitForStatus("the first status", ({ sessions }) => sessions.length === 1);
  while (!tunnel.program.output.includes("trying again")) await Bun.sleep(50);
  expect((await tunnel.control("status")).stderr).toContain("data goes on over UDP");
  const { sent, received } = await steady;
  expect(received).toBe(sent);
  await client.nft("delete table inet cut");
  await tunnel.waitForStatus("connected", ({ state }) => state === "connected");
});

networkTest("presence: the server knows who left and why", { clients: 2 }, async (network) => {
  const server = await startServer(network, { args: KEEPALIVE });
  const polite = await startClient(network, 0, { args: KEEPALIVE });
  const crashed = await startClient(network, 1, { args: KEEPALIVE });
  await polite.stop();
  await crashed.program.kill();
  const status = await server.waitForStatus(
    "one gone, one reconnecting",
    ({ gone, sessions }) => gone.length === 1 && sessions[0]?.state === "reconnecting",
  );
  expect(status.gone[0]!.reason).toContain("The client left");
  await server.waitForStatus("silent", ({ sessions }) => sessions[0]?.state === "silent");
});
