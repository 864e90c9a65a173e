/**
 * Checksums of packets whose super-packets were cut for a lossy path, judged by kernels that trust nobody.
 *
 *   lan (client 2) ---veth--- client 1 ===tunnel, lossy=== server ---veth--- web (internet)
 *
 * A kernel takes what comes with an open checksum as right, so at the tunnel's own ends nothing would be checked. Here both
 * ends forward the packets over an interface without checksum offload: it closes the sums, and the next machine verifies
 * them. `/proc/net/snmp` counts what it finds wrong.
 */

import { expect } from "bun:test";
import { networkTest } from "./harness.ts";
import { command } from "./harness/command.ts";
import { type Machine, type Network, WEB_ADDRESS, WEB_ADDRESS6 } from "./harness/network.ts";
import { startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";
import { iperf, startIperfServer, untilListening } from "./harness/traffic.ts";

const LAN = { gateway: "192.168.77.1", host: "192.168.77.2", gateway6: "fd77::1", host6: "fd77::2" };
const PORT = "9000";
/** 200 bursts of 30 are sent each way and family, and some get lost. */
const MOST_DATAGRAMS = 3_000;

/** Counters of one machine, by their names in /proc/net/snmp and snmp6. */
async function counters(machine: Machine): Promise<Readonly<Record<string, number>>> {
  const found: Record<string, number> = {};
  const { stdout } = await machine.run(["cat", "/proc/net/snmp", "/proc/net/snmp6"]);
  const lines = stdout.split("\n").map((line) => line.split(/\s+/));
  for (const [index, words] of lines.entries()) {
    const values = lines[index + 1] ?? [];
    // snmp: a line of names above a line of values; snmp6: a name and a value
    if (words[0]!.endsWith(":") && values[0] === words[0] && !/^-?\d/.test(words[1]!))
      for (let i = 1; i < words.length; i++) found[words[0]!.slice(0, -1) + words[i]!] = Number(values[i]);
    else if (words.length === 2 && /^\d+$/.test(words[1]!)) found[words[0]!] = Number(words[1]);
  }
  return found;
}

const CHECKSUM_ERRORS = ["TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors", "Icmp6InCsumErrors"];

/** Puts client 2 behind client 1. */
async function joinLan(network: Network): Promise<void> {
  const [client, lan] = [network.client(0), network.client(1)];
  await command(
    `ip link add lan netns ${client.namespace} type veth peer name lan netns ${lan.namespace}`.split(" "),
  );
  await client.run([
    "sh",
    "-ec",
    `ip address add ${LAN.gateway}/24 dev lan; ip address add ${LAN.gateway6}/64 dev lan; ip link set lan up
     echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding`,
  ]);
  await client.nft(
    'table inet lan { chain out { type nat hook postrouting priority 100; oifname "omail0" masquerade; }\n}',
  );
  await lan.run([
    "sh",
    "-ec",
    `ip address add ${LAN.host}/24 dev lan; ip address add ${LAN.host6}/64 dev lan; ip link set lan up
     ip route add ${WEB_ADDRESS} via ${LAN.gateway}; ip -6 route add ${WEB_ADDRESS6} via ${LAN.gateway6}`,
  ]);
}

/** Loses one in 100 of the tunnel's datagrams, both ways. */
async function makeLossy(network: Network): Promise<void> {
  const drop = (field: string) => `udp ${field} 51820 numgen random mod 100 0 drop;`;
  await network.internet.nft(
    `table inet loss { chain pass { type filter hook forward priority 0; ${drop("dport")} ${drop("sport")} }\n}`,
  );
}

networkTest(
  "checksums: cut super-packets of TCP and UDP, both families, both ways, over a lossy path: no error anywhere",
  { clients: 2, limitSeconds: 60 },
  async (network) => {
    const [client, lan] = [network.client(0), network.client(1)];
    const machines = [lan, client, network.server, network.internet];
    await joinLan(network);
    await makeLossy(network);
    await network.server.run(["ethtool", "-K", "wan", "tx", "off"]);
    await client.run(["ethtool", "-K", "lan", "tx", "off"]);
    const server = await startServer(network, { args: ["--nat"] });
    await startClient(network, 0, {
      args: ["--split-tunnel", `${WEB_ADDRESS}/32,${WEB_ADDRESS6}/128`],
    });
    const before = await Promise.all(machines.map(counters));

    const limits: number[] = [];
    for (const target of [WEB_ADDRESS, WEB_ADDRESS6]) {
      const web = await startIperfServer(network.internet, target);
      for (const args of [[], ["-R"]]) {
        const { bytes } = await iperf(lan, target, ["-t", "2", ...args], timeoutSeconds(15));
        expect(bytes).toBeGreaterThan(1e6);
        limits.push((await server.status()).sessions[0]!.recordLimit);
      }
      await web.kill();
      const answerer = network.internet.startHelper("udp_bursts", "answer", target, PORT);
      await untilListening(answerer);
      const bursts = ["ask", target, PORT];
      const { received } = (await lan.runHelper("udp_bursts", bursts, timeoutSeconds(15))) as {
        received: number;
      };
      expect(received).toBeGreaterThan(MOST_DATAGRAMS);
    }

    const after = await Promise.all(machines.map(counters));
    const grown = (index: number, name: string) => (after[index]![name] ?? 0) - (before[index]![name] ?? 0);
    const errors = machines.flatMap((_, index) => CHECKSUM_ERRORS.map((name) => grown(index, name)));
    expect(errors).toEqual(errors.map(() => 0));
    // so much was looked at, at both ends
    for (const index of [0, 3]) {
      expect(grown(index, "TcpInSegs")).toBeGreaterThan(1_000);
      expect(grown(index, "UdpInDatagrams")).toBeGreaterThan(MOST_DATAGRAMS);
      expect(grown(index, "Udp6InDatagrams")).toBeGreaterThan(MOST_DATAGRAMS);
    }
    console.log(`record limits on the way: ${limits.join(", ")} bytes`);
    // the kernel's super-packets have up to 62,000 bytes
    expect(Math.min(...limits)).toBeLessThan(50_000);
  },
);
