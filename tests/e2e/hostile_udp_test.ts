/** Floods of random and of replayed datagrams: no answer, no memory, and the client at work does not notice. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { Capture, cutSuperPackets, packetAddresses, udpPayload } from "./harness/capture.ts";
import { clientAddress, type Machine, type Network, SERVER_ADDRESS } from "./harness/network.ts";
import {
  INNER_SERVER,
  type OmailProgram,
  type ServerStatus,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";
import { iperf, ping, startIperfServer } from "./harness/traffic.ts";

const DATAGRAMS = 100_000;
const MAX_GROWTH_BYTES = 10e6;

interface Flood {
  /** `random` or a file of recorded datagrams. */
  readonly source: string;
  readonly count: number;
  /** Where the datagrams claim to come from. */
  readonly address: string;
  readonly port: number;
}

/** Sends a flood from `machine` to the server's data port and returns what came back. */
async function send(machine: Machine, flood: Flood): Promise<{ sent: number; replies: number }> {
  const { source, count, address, port } = flood;
  const args = [source, SERVER_ADDRESS, "51820", `${count}`, address, `${port}`];
  return (await machine.runHelper("datagram_sender", args, timeoutSeconds(60))) as {
    sent: number;
    replies: number;
  };
}

/** Pings through the tunnel while `attack` goes on: all must be answered, and the server must not grow. */
async function expectUnharmed(
  client: Machine,
  server: OmailProgram<ServerStatus>,
  attack: () => Promise<void>,
): Promise<void> {
  const memoryBefore = await server.residentBytes();
  const [session] = (await server.status()).sessions;
  const answers = ping(client, INNER_SERVER, { count: 400, intervalSeconds: 0.02 });
  await attack();
  expect((await answers).received).toBe(400);
  const growth = (await server.residentBytes()) - memoryBefore;
  console.log(`server memory grew by ${(growth / 1e6).toFixed(1)} MB`);
  expect(growth).toBeLessThan(MAX_GROWTH_BYTES);
  expect((await server.status()).sessions).toMatchObject([{ id: session!.id, endpoint: session!.endpoint }]);
}

/** A client that has worked for a moment, so that the server's buffers exist before its memory is looked at. */
async function startWorkingTunnel(network: Network): Promise<OmailProgram<ServerStatus>> {
  const server = await startServer(network, { args: ["--log-level", "info"] });
  await startClient(network, 0, { args: ["--log-level", "info"] });
  await startIperfServer(network.server, INNER_SERVER);
  await iperf(network.client(0), INNER_SERVER, ["-t", "2"], timeoutSeconds(20));
  // What the garbage collector gives back after that work must not hide growth.
  await Bun.sleep(3_000);
  return server;
}

/** Counts what the attacker's machine receives, whatever program it is for. */
async function countIncoming(machine: Machine): Promise<void> {
  await machine.nft(
    "table inet seen { chain in { type filter hook input priority 0; meta l4proto { tcp, udp } counter; }\n}",
  );
}

async function incomingPackets(machine: Machine): Promise<number> {
  const { stdout } = await machine.run(["nft", "list", "table", "inet", "seen"]);
  return Number(/packets (\d+)/.exec(stdout)?.[1]);
}

networkTest(
  "hostile UDP: 100,000 random datagrams get no answer and harm nobody",
  { clients: 2, limitSeconds: 90 },
  async (network) => {
    const attacker = network.client(1);
    await countIncoming(attacker);
    const server = await startWorkingTunnel(network);
    await expectUnharmed(network.client(0), server, async () => {
      const flood = { source: "random", count: DATAGRAMS, address: clientAddress(1), port: 4000 };
      expect(await send(attacker, flood)).toEqual({ sent: DATAGRAMS, replies: 0 });
    });
    expect(await incomingPackets(attacker)).toBe(0);
  },
);

/** Records genuine datagrams of the client to the server and writes them to a file; returns it and the client's port. */
async function recordGenuine(network: Network): Promise<{ source: string; port: number }> {
  const client = network.client(0);
  await cutSuperPackets(client, "wan");
  const capture = await Capture.start(
    network,
    client,
    "wan",
    `udp and dst host ${SERVER_ADDRESS} and dst port 51820`,
  );
  await iperf(client, INNER_SERVER, ["-u", "-b", "40M", "-l", "1200", "-t", "2"], timeoutSeconds(20));
  await iperf(client, INNER_SERVER, ["-n", "20M"], timeoutSeconds(20));
  const packets = await capture.stop();
  const own = Uint8Array.from(clientAddress(0).split("."), Number).toHex();
  expect(packets.every((packet) => packetAddresses(packet).source === own)).toBe(true);
  const datagrams = packets.map((packet) => udpPayload(packet)!).filter((payload) => payload.length < 2000);
  expect(datagrams.length).toBeGreaterThan(5_000);
  const source = join(network.directory, "genuine");
  await Bun.write(
    source,
    Buffer.concat(datagrams.flatMap((bytes) => [Uint8Array.of(bytes.length >> 8, bytes.length), bytes])),
  );
  const first = packets[0]!;
  return { source, port: (first[20]! << 8) | first[21]! };
}

networkTest(
  "hostile UDP: 100,000 replayed genuine datagrams get no answer and harm nobody",
  { clients: 2, limitSeconds: 90 },
  async (network) => {
    const client = network.client(0);
    const attacker = network.client(1);
    await countIncoming(attacker);
    await countIncoming(client);
    const server = await startWorkingTunnel(network);
    const { source, port } = await recordGenuine(network);
    const incomingBefore = await incomingPackets(client);
    const rxBefore = (await server.status()).sessions[0]!.rxPackets;
    await expectUnharmed(client, server, async () => {
      // Half as the attacker, half with the client's own address and port: nobody on this path checks sources.
      await attacker.run(["ip", "address", "add", `${clientAddress(0)}/32`, "dev", "lo"]);
      const half = DATAGRAMS / 2;
      const floods = [
        { source, count: half, address: clientAddress(1), port: 4000 },
        { source, count: half, address: clientAddress(0), port },
      ];
      for (const flood of floods) expect(await send(attacker, flood)).toEqual({ sent: half, replies: 0 });
    });
    expect(await incomingPackets(attacker)).toBe(0);
    // Answers to forged datagrams would go to the client: it received hardly more than what its own 400 pings brought.
    expect((await incomingPackets(client)) - incomingBefore).toBeLessThan(1_500);
    // Not one replayed packet was taken for a new one.
    expect((await server.status()).sessions[0]!.rxPackets - rxBefore).toBeLessThan(1_000);
  },
);
