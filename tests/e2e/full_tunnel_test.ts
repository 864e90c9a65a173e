/** With a full tunnel everything leaves by the server, except the tunnel itself. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { Capture, packetAddresses } from "./harness/capture.ts";
import { machineState } from "./harness/machine_state.ts";
import {
  clientAddress,
  clientAddress6,
  type Machine,
  type Network,
  SERVER_ADDRESS,
  SERVER_ADDRESS6,
  WEB_ADDRESS,
  WEB_ADDRESS6,
} from "./harness/network.ts";
import { startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds } from "./harness/timing.ts";
import { curl, randomFile, sha256OfFile, startWebServer } from "./harness/traffic.ts";

const FILE_MEGABYTES = 100;

/** Starts the web server in the internet with a file of random bytes and returns the file's path. */
async function serveFile(network: Network, megabytes: number): Promise<string> {
  const path = await randomFile(network.directory, megabytes);
  await startWebServer(network.internet, path);
  return path;
}

/** The addresses that the web server sees when `machine` asks, by IPv4 and by IPv6. */
async function seenAs(machine: Machine): Promise<string[]> {
  const limitMs = timeoutSeconds(10);
  return [
    await curl(machine, `http://${WEB_ADDRESS}/whoami`, limitMs),
    await curl(machine, `http://[${WEB_ADDRESS6}]/whoami`, limitMs),
  ];
}

networkTest(
  "full tunnel: 100 MB by curl through NAT, checksum equal",
  { limitSeconds: 60 },
  async (network) => {
    const original = await serveFile(network, FILE_MEGABYTES);
    await startServer(network, { args: ["--nat"] });
    await startClient(network, 0, { fullTunnel: true });
    const copy = join(network.directory, "copy");
    await curl(network.client(0), `http://${WEB_ADDRESS}/file`, timeoutSeconds(40), copy);
    expect(await sha256OfFile(copy)).toBe(await sha256OfFile(original));
  },
);

networkTest(
  "full tunnel: the web server sees the server's address, and the client's again afterwards",
  {},
  async (network) => {
    const client = network.client(0);
    await serveFile(network, 1);
    const own = [clientAddress(0), clientAddress6(0)];
    const before = await machineState(client);
    expect(await seenAs(client)).toEqual(own);

    await startServer(network, { args: ["--nat"] });
    const tunnel = await startClient(network, 0, { fullTunnel: true });
    expect(await seenAs(client)).toEqual([SERVER_ADDRESS, SERVER_ADDRESS6]);

    await tunnel.stop();
    expect(await seenAs(client)).toEqual(own);
    expect(await machineState(client)).toBe(before);
  },
);

networkTest(
  "full tunnel: it does not swallow its own packets, with strict reverse path filtering",
  {},
  async (network) => {
    const client = network.client(0);
    await client.run(["sh", "-c", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done"]);
    await serveFile(network, 1);
    await startServer(network, { args: ["--nat"] });
    await startClient(network, 0, { fullTunnel: true });
    for (const protocol of ["udp", "tcp"]) {
      const { stdout } = await client.run([
        "ip",
        "route",
        "get",
        SERVER_ADDRESS,
        "ipproto",
        protocol,
        "dport",
        "51820",
      ]);
      expect(stdout).toContain("dev wan");
    }
    const { stdout } = await client.run(["ip", "route", "get", WEB_ADDRESS]);
    expect(stdout).toContain("dev omail0");
    expect(await seenAs(client)).toEqual([SERVER_ADDRESS, SERVER_ADDRESS6]);
  },
);

networkTest("full tunnel: --exclude stays outside", {}, async (network) => {
  const client = network.client(0);
  await serveFile(network, 1);
  await startServer(network, { args: ["--nat"] });
  await startClient(network, 0, { fullTunnel: true, args: ["--exclude", `${WEB_ADDRESS}/32`] });
  expect(await seenAs(client)).toEqual([clientAddress(0), SERVER_ADDRESS6]);
});

networkTest(
  "full tunnel: over an IPv6 endpoint both families go in, and only IPv6 to the server leaves",
  { limitSeconds: 60 },
  async (network) => {
    const client = network.client(0);
    const original = await serveFile(network, 20);
    const before = await machineState(client);
    await startServer(network, { args: ["--nat"] });
    const mac = (await client.run(["cat", "/sys/class/net/wan/address"])).stdout.trim();
    const outside = `ether src ${mac} and not arp and not (ip6 dst host ${SERVER_ADDRESS6} and port 51820)`;
    const capture = await Capture.start(network, client, "wan", outside);
    const args = ["--server", `[${SERVER_ADDRESS6}]:51820`];
    const tunnel = await startClient(network, 0, { fullTunnel: true, args });
    expect(await seenAs(client)).toEqual([SERVER_ADDRESS, SERVER_ADDRESS6]);
    for (const address of [WEB_ADDRESS, `[${WEB_ADDRESS6}]`]) {
      const copy = join(network.directory, "copy");
      await curl(client, `http://${address}/file`, timeoutSeconds(20), copy);
      expect(await sha256OfFile(copy)).toBe(await sha256OfFile(original));
    }
    const { stdout } = await client.run(["ip", "route", "get", SERVER_ADDRESS6]);
    expect(stdout).toContain("dev wan");
    const others = (await capture.stop()).filter((packet) => !isLinkTraffic(packet));
    expect(others.map((packet) => packetAddresses(packet))).toEqual([]);
    await tunnel.stop();
    expect(await machineState(client)).toBe(before);
  },
);

/**
 * What the kernel itself says on the link and no router passes on: router solicitation, neighbour solicitation and advertisement
 * (RFC 4861), and reports to the multicast routers at ff02::16, behind a hop-by-hop header (RFC 3810).
 */
function isLinkTraffic(packet: Uint8Array): boolean {
  if (packet[0]! >> 4 !== 6) return false;
  if (packet[6] === 58) return [133, 135, 136].includes(packet[40]!);
  return packet[6] === 0 && packetAddresses(packet).destination === `ff02${"0".repeat(26)}16`;
}
