/** The size of datagrams follows the path: holes that eat large ones are found, in silence or with ICMP, and survived. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { command } from "./harness/command.ts";
import { type Machine, type Network, SERVER_ADDRESS, SERVER_ADDRESS6 } from "./harness/network.ts";
import {
  type ClientStatus,
  innerAddresses,
  INNER_SERVER,
  type OmailProgram,
  type ServerStatus,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { curl, iperf, ping, sha256OfFile, startIperfServer, startWebServer } from "./harness/traffic.ts";

/** Longest IP packet that the narrow router forwards, and the UDP payload that fits it. */
const HOLE_BYTES = 1_300;
const HOLE_DATAGRAM_BYTES = HOLE_BYTES - 28;
/** What a datagram has on a path without a hole: one full packet of the default MTU. */
const FULL_DATAGRAM_BYTES = 1_452;
/** The search stops this close to the truth. */
const STEP_BYTES = 8;
/** What the issue allows. */
const FOUND_WITHIN_MS = 3_000;
const MEGABYTE = 1_000_000;

interface Tunnel {
  readonly server: OmailProgram<ServerStatus>;
  readonly client: OmailProgram<ClientStatus>;
}

async function startTunnel(network: Network, args: readonly string[] = []): Promise<Tunnel> {
  const server = await startServer(network, { args });
  return { server, client: await startClient(network) };
}

/**
 * The router takes packets of up to `bytes` each way from now on; with `silent` it says nothing of the others. It clamps the MSS
 * of connections outside the tunnel, the control channel, as routers in front of a narrow link do.
 */
async function setRouterMtu(network: Network, bytes: number, silent: boolean): Promise<void> {
  const rules = silent ? "icmp type destination-unreachable drop\n icmpv6 type packet-too-big drop" : "";
  await network.internet.nft(
    `table inet hole
    delete table inet hole
    table inet hole {
      chain out {
        type filter hook output priority 0
        ${rules}
      }
      chain forward {
        type filter hook forward priority 0
        meta nfproto ipv4 tcp flags syn tcp option maxseg size set ${bytes - 40}
        meta nfproto ipv6 tcp flags syn tcp option maxseg size set ${bytes - 60}
      }
    }
    `,
  );
  for (const route of [
    "100.64.1.0/24 dev c1 proto kernel scope link src 100.64.1.1",
    "203.0.113.0/24 dev srv proto kernel scope link src 203.0.113.1",
    "2001:db8:1::/64 dev c1 proto kernel metric 256",
    "2001:db8:203::/64 dev srv proto kernel metric 256",
  ])
    await network.internet.run(`ip route replace ${route} mtu lock ${bytes}`.split(" "));
}

/** The datagram sizes of client and server. */
async function datagramSizes({ client, server }: Tunnel): Promise<number[]> {
  return [
    (await client.status()).datagramBytes ?? 0,
    (await server.status()).sessions[0]!.datagramBytes ?? 0,
  ];
}

/** Waits until both ends use a size from `least` to `most`. @returns how long that took, in milliseconds */
async function waitForSizes(tunnel: Tunnel, least: number, most: number): Promise<number> {
  const start = performance.now();
  let sizes: number[] = [];
  const what = `datagrams of ${least} to ${most} bytes at both ends`;
  await until(what, timeoutSeconds(10), async () => {
    sizes = await datagramSizes(tunnel);
    return sizes.every((bytes) => bytes >= least && bytes <= most) ? true : undefined;
  });
  return performance.now() - start;
}

async function randomFile(network: Network, name: string, megabytes: number): Promise<string> {
  const path = join(network.directory, name);
  await command(["dd", "if=/dev/urandom", `of=${path}`, "bs=1000000", `count=${megabytes}`]);
  return path;
}

/** Pings larger than any datagram, and as large as the inner MTU allows, both with DF set. */
async function expectLargePings(machine: Machine): Promise<void> {
  for (const bytes of [1_392, 8_000]) {
    const { sent, received } = await ping(machine, INNER_SERVER, { count: 5, bytes });
    expect([bytes, received]).toEqual([bytes, sent]);
  }
}

networkTest(
  "path MTU: a silent hole from the start on: full-size transfers both ways, and full size again without it",
  { limitSeconds: 60 },
  async (network) => {
    await setRouterMtu(network, HOLE_BYTES, true);
    const tunnel = await startTunnel(network);
    const file = await randomFile(network, "file", 20);
    await startWebServer(network.server, file);
    await startWebServer(network.client(0), file);
    const clientInner = (await innerAddresses(tunnel.client)).v4;
    const expected = await sha256OfFile(file);
    for (const [machine, host, name] of [
      [network.client(0), INNER_SERVER, "down"],
      [network.server, clientInner, "up"],
    ] as const) {
      const copy = join(network.directory, name);
      await curl(machine, `http://${host}/file`, timeoutSeconds(15), copy);
      expect(await sha256OfFile(copy)).toBe(expected);
    }
    await waitForSizes(tunnel, HOLE_DATAGRAM_BYTES - STEP_BYTES, HOLE_DATAGRAM_BYTES);
    await startIperfServer(network.server, INNER_SERVER);
    for (const args of [[], ["-R"]]) {
      const result = await iperf(
        network.client(0),
        INNER_SERVER,
        ["-n", `${20 * MEGABYTE}`, ...args],
        timeoutSeconds(15),
      );
      // the receiver may close while the last blocks are on their way
      expect(result.bytes).toBeGreaterThan(15 * MEGABYTE);
    }
    await expectLargePings(network.client(0));

    await setRouterMtu(network, 1_500, true);
    await tunnel.client.stop();
    const client = await startClient(network);
    await waitForSizes({ ...tunnel, client }, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
  },
);

for (const [name, silent, address] of [
  ["silent", true, SERVER_ADDRESS],
  ["with ICMP", false, SERVER_ADDRESS],
  ["silent, over IPv6", true, SERVER_ADDRESS6],
  ["with ICMP, over IPv6", false, SERVER_ADDRESS6],
] as const) {
  const headerBytes = address.includes(":") ? 48 : 28;
  const fits = HOLE_BYTES - headerBytes;
  networkTest(
    `path MTU: a hole in the middle of downloads both ways, ${name}: found within 3 s, checksums equal`,
    { limitSeconds: 60 },
    async (network) => {
      const server = await startServer(network);
      const client = await startClient(network, 0, { args: ["--server", formatServer(address)] });
      const tunnel = { server, client };
      await waitForSizes(tunnel, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
      const file = await randomFile(network, "file", 60);
      await startWebServer(network.server, file);
      await startWebServer(network.client(0), file);
      const clientInner = (await innerAddresses(tunnel.client)).v4;
      const rate = ["--limit-rate", "10M"];
      const copies = (["down", "up"] as const).map((direction) => join(network.directory, direction));
      const downloads = Promise.all([
        download(network.client(0), INNER_SERVER, copies[0]!, rate),
        download(network.server, clientInner, copies[1]!, rate),
      ]);
      await Bun.sleep(1_000);
      await setRouterMtu(network, HOLE_BYTES, silent);
      const foundMs = await waitForSizes(tunnel, 500, fits);
      console.log(`hole ${name}: both ends below it after ${Math.round(foundMs)} ms`);
      expect(foundMs).toBeLessThan(FOUND_WITHIN_MS);
      await downloads;
      for (const copy of copies) expect(await sha256OfFile(copy)).toBe(await sha256OfFile(file));
      await expectLargePings(network.client(0));
      await waitForSizes(tunnel, fits - STEP_BYTES, fits);
      const { endpoint } = (await server.status()).sessions[0]!;
      expect(endpoint).toStartWith(address.includes(":") ? "[2001:db8:1::2]:" : "100.64.1.2:");
      for (const { program } of [tunnel.client, tunnel.server]) expect(program.output).toContain("path MTU");
    },
  );
}

/** An address with the server's port. */
function formatServer(address: string): string {
  return address.includes(":") ? `[${address}]:51820` : `${address}:51820`;
}

async function download(
  machine: Machine,
  host: string,
  copy: string,
  args: readonly string[],
): Promise<void> {
  const argv = ["curl", "-sS", "-f", ...args, "-o", copy, `http://${host}/file`];
  await machine.run(argv, { limitMs: timeoutSeconds(30) });
}

networkTest(
  "path MTU: the own interface narrows in the middle of transfers: nothing stops",
  { limitSeconds: 60 },
  async (network) => {
    const tunnel = await startTunnel(network);
    await waitForSizes(tunnel, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
    await startIperfServer(network.server, INNER_SERVER);
    const transfer = iperf(network.client(0), INNER_SERVER, ["-t", "3"], timeoutSeconds(15));
    await Bun.sleep(1_000);
    await network.client(0).run(["ip", "link", "set", "wan", "mtu", `${HOLE_BYTES}`]);
    const start = performance.now();
    await until("the client's datagrams to shrink", timeoutSeconds(5), async () =>
      (await tunnel.client.status()).datagramBytes! <= HOLE_DATAGRAM_BYTES ? true : undefined,
    );
    console.log(`own interface: found after ${Math.round(performance.now() - start)} ms`);
    expect((await transfer).megabitsPerSecond).toBeGreaterThan(10);
    expect((await tunnel.client.status()).drops["send-failed"] ?? 0).toBe(0);
    // the same interface takes no larger ones either; the server learns it from the first that it sends
    await ping(network.client(0), INNER_SERVER, {
      count: 30,
      bytes: 1_392,
      intervalSeconds: 0.1,
      lastWaitSeconds: 0.2,
    });
    await waitForSizes(tunnel, 500, HOLE_DATAGRAM_BYTES);
    await expectLargePings(network.client(0));
  },
);

networkTest(
  "path MTU: another gateway, the same address: a narrower and a wider path are found at once, at both ends",
  { limitSeconds: 60 },
  async (network) => {
    const machine = network.client(0);
    await network.internet.run("ip address add 100.64.1.254/24 dev c1".split(" "));
    const tunnel = await startTunnel(network);
    await waitForSizes(tunnel, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
    // no traffic: nothing but the change of the route tells anybody
    await setRouterMtu(network, HOLE_BYTES, true);
    await machine.run("ip route replace default via 100.64.1.254".split(" "));
    const narrowMs = await waitForSizes(tunnel, 500, HOLE_DATAGRAM_BYTES);
    // the search is over: from here on it would rest for 600 s
    await until("the end of the search", timeoutSeconds(10), async () =>
      [tunnel.client, tunnel.server].every(({ program }) => program.output.includes("path MTU"))
        ? true
        : undefined,
    );
    await setRouterMtu(network, 1_500, true);
    await Bun.sleep(2_000);
    for (const bytes of await datagramSizes(tunnel)) expect(bytes).toBeLessThanOrEqual(HOLE_DATAGRAM_BYTES);
    await machine.run("ip route replace default via 100.64.1.1".split(" "));
    const wideMs = await waitForSizes(tunnel, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
    console.log(
      `another gateway: narrow after ${Math.round(narrowMs)} ms, wide after ${Math.round(wideMs)} ms`,
    );
    expect(Math.max(narrowMs, wideMs)).toBeLessThan(FOUND_WITHIN_MS);
    expect(tunnel.client.program.output).toContain("is reached by wan via 100.64.1.254");
  },
);

networkTest(
  "path MTU: another interface with another address: narrower, then wider, found at once at both ends",
  { limitSeconds: 60 },
  async (network) => {
    const machine = network.client(0);
    await addSecondLink(network, HOLE_BYTES);
    const tunnel = await startTunnel(network);
    await waitForSizes(tunnel, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
    const file = await randomFile(network, "file", 30);
    await startWebServer(network.server, file);
    const copy = join(network.directory, "copy");
    const downloading = download(machine, INNER_SERVER, copy, ["--limit-rate", "5M"]);
    await Bun.sleep(1_000);
    await machine.run("ip route replace default via 100.64.9.1".split(" "));
    const narrowMs = await waitForSizes(tunnel, 500, HOLE_DATAGRAM_BYTES);
    await Bun.sleep(1_500);
    await machine.run("ip route replace default via 100.64.1.1".split(" "));
    const wideMs = await waitForSizes(tunnel, FULL_DATAGRAM_BYTES, FULL_DATAGRAM_BYTES);
    await downloading;
    expect(await sha256OfFile(copy)).toBe(await sha256OfFile(file));
    console.log(
      `another interface: narrow after ${Math.round(narrowMs)} ms, wide after ${Math.round(wideMs)} ms`,
    );
    expect(Math.max(narrowMs, wideMs)).toBeLessThan(FOUND_WITHIN_MS);
  },
);

/** A second link from the client to the internet that takes packets of up to `bytes`; its router is silent about others. */
async function addSecondLink(network: Network, bytes: number): Promise<void> {
  const { internet } = network;
  const [client, far] = [network.client(0).namespace, internet.namespace];
  const lines = [
    `ip link add wan2 netns ${client} mtu ${bytes} type veth peer name d1 netns ${far} mtu ${bytes}`,
    `ip -n ${client} address add 100.64.9.2/24 dev wan2`,
    `ip -n ${client} link set wan2 up`,
    `ip -n ${far} address add 100.64.9.1/24 dev d1`,
    `ip -n ${far} link set d1 up`,
  ];
  for (const line of lines) await command(line.split(" "));
  await internet.nft(`table inet narrow {
    chain out {
      type filter hook output priority 0
      icmp type destination-unreachable drop
    }
    chain forward {
      type filter hook forward priority 0
      oifname d1 tcp flags syn tcp option maxseg size set ${bytes - 40}
    }
  }
  `);
}

networkTest(
  "inner packets: an MSS is lowered to the tunnel, too large ones and those for nobody are answered by ICMP",
  { limitSeconds: 40 },
  async (network) => {
    const { server } = await startTunnel(network, ["--nat"]);
    const machine = network.client(0);
    await machine.run(["ip", "link", "set", "omail0", "mtu", "1500"]);
    const large = await machine.tryRun([
      "ping",
      "-n",
      "-c",
      "1",
      "-W",
      "2",
      "-M",
      "do",
      "-s",
      "1450",
      INNER_SERVER,
    ]);
    expect(large.stdout).toMatch(/[Ff]rag needed.*mtu = 1420/);
    // not from a client: without a policy that allows it, a client's packet to another's address ends in the firewall
    const own = await network.server.tryRun(["ping", "-n", "-c", "1", "-W", "2", "10.8.0.78"]);
    expect(own.stdout).toContain("Destination Host Unreachable");
    // the client believes in 1,500 bytes now, its SYN says so, and what the server sees must not
    await startIperfServer(network.server, INNER_SERVER);
    const capture = network.server.start("tcpdump", [
      "tcpdump",
      "-n",
      "-i",
      "omail0",
      "-c",
      "1",
      "-v",
      "--immediate-mode",
      "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
    ]);
    await until("tcpdump", timeoutSeconds(5), async () =>
      capture.output.includes("listening") ? true : undefined,
    );
    await machine.run(["ip", "route", "flush", "cache"]);
    await iperf(machine, INNER_SERVER, ["-n", `${MEGABYTE}`], timeoutSeconds(10));
    await capture.wait(timeoutSeconds(5));
    expect(capture.output).toMatch(/mss 1380[,\]]/);
    expect((await server.status()).totals.drops["no-session"]).toBeGreaterThan(0);
  },
);
