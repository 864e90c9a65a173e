/** What a full tunnel does to its machine: local networks, IPv6, DNS, other ways to the server, changes underneath. */

import { expect } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { Capture, packetAddresses } from "./harness/capture.ts";
import { command } from "./harness/command.ts";
import { machineState } from "./harness/machine_state.ts";
import {
  clientAddress,
  type Machine,
  type Network,
  SERVER_ADDRESS,
  WEB_ADDRESS,
  WEB_ADDRESS6,
} from "./harness/network.ts";
import { INNER_SERVER, startClient, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { curl, ping, startWebServer } from "./harness/traffic.ts";

const GATEWAY = "100.64.1.1";
const GATEWAY6 = "2001:db8:1::1";

/** The interface that a packet leaves by, or the kernel's refusal. */
async function way(machine: Machine, ...packet: readonly string[]): Promise<string> {
  const { stdout, stderr } = await machine.tryRun(["ip", "route", "get", ...packet]);
  return / dev (\S+)/.exec(stdout)?.[1] ?? stderr.trim();
}

function waysTo(machine: Machine, ...targets: readonly string[]): Promise<string[]> {
  return Promise.all(targets.map((target) => way(machine, target)));
}

/** Waits for what follows a while after "connected": the ways of other servers' addresses, of new local networks. */
async function waysBecome(
  machine: Machine,
  targets: readonly string[],
  ways: readonly string[],
): Promise<void> {
  await until(`${targets.join(", ")} by ${ways.join(", ")}`, timeoutSeconds(5), async () =>
    Bun.deepEquals(await waysTo(machine, ...targets), ways) ? true : undefined,
  );
}

/** Packets that left by `wan` from the client's own IPv4 address or by IPv6, as `PROTOCOL DESTINATION PORT`. */
function leaving(packets: readonly Uint8Array[]): string[] {
  const own = Uint8Array.from(clientAddress(0).split(".").map(Number)).toHex();
  return packets
    .filter((packet) => packet[0]! >> 4 === 6 || packetAddresses(packet).source === own)
    .map((packet) => `${packet[9]} ${packet.subarray(16, 20).join(".")} ${(packet[22]! << 8) | packet[23]!}`);
}

async function startWeb(network: Network): Promise<void> {
  const path = join(network.directory, "file");
  writeFileSync(path, "x");
  await startWebServer(network.internet, path);
}

networkTest("full tunnel: the local network is reachable only with --allow-lan", {}, async (network) => {
  const machine = network.client(0);
  await startServer(network, { args: ["--nat"] });
  const strict = await startClient(network, 0, { fullTunnel: true });
  expect(await waysTo(machine, GATEWAY, GATEWAY6)).toEqual(["omail0", "omail0"]);
  await strict.stop();
  const open = await startClient(network, 0, { fullTunnel: true, args: ["--allow-lan"] });
  expect(await waysTo(machine, GATEWAY, GATEWAY6, WEB_ADDRESS)).toEqual(["wan", "wan", "omail0"]);
  expect(await way(machine, GATEWAY, "ipproto", "udp", "dport", "53")).toBe("omail0");
  expect((await ping(machine, GATEWAY, { count: 2 })).received).toBe(2);
  // A host route, as a DHCP server may give, draws nothing out.
  await machine.run(["ip", "route", "add", `${WEB_ADDRESS}/32`, "via", GATEWAY]);
  expect(await way(machine, WEB_ADDRESS)).toBe("omail0");
  await open.stop();
});

networkTest(
  "full tunnel: a server without IPv6 leaves no IPv6 outside, and the log says so",
  {},
  async (network) => {
    const machine = network.client(0);
    await startWeb(network);
    await startServer(network, { args: ["--nat", "--tun-ip6", "none"] });
    const client = await startClient(network, 0, { fullTunnel: true });
    expect(client.program.output).toContain("The tunnel has no IPv6 address: IPv6 is blocked");
    const capture = await Capture.start(network, machine, "wan", `host ${WEB_ADDRESS6}`);
    const { stderr } = await machine.tryRun(["curl", "-sS", "-m", "3", `http://[${WEB_ADDRESS6}]/whoami`]);
    expect(stderr).toMatch(/connect/i);
    await machine.tryRun(["ping", "-c", "2", "-W", "1", "-I", "wan", WEB_ADDRESS6]);
    expect(await capture.stop()).toEqual([]);
    expect(await curl(machine, `http://${WEB_ADDRESS}/whoami`, timeoutSeconds(5))).toBe(SERVER_ADDRESS);
  },
);

networkTest("full tunnel: no DNS query leaves outside, unless --no-dns", {}, async (network) => {
  const machine = network.client(0);
  await startServer(network, { args: ["--nat"] });
  const queries = async (): Promise<string[]> => {
    const capture = await Capture.start(network, machine, "wan", "port 53 or port 853");
    for (const target of [GATEWAY, `[${GATEWAY6}]`, WEB_ADDRESS]) {
      for (const bound of [["--interface", "wan"], []]) {
        await machine.tryRun(["curl", "-s", "-m", "1", ...bound, `tftp://${target}:53/x`]);
        await machine.tryRun(["curl", "-s", "-m", "1", ...bound, `http://${target}:853/`]);
      }
    }
    return leaving(await capture.stop());
  };
  const guarded = await startClient(network, 0, { fullTunnel: true, args: ["--allow-lan"] });
  expect(guarded.program.output).toContain("The server pushes no DNS server");
  expect(await queries()).toEqual([]);
  await guarded.stop();
  await startClient(network, 0, { fullTunnel: true, args: ["--allow-lan", "--no-dns"] });
  expect(await queries()).toContain(`17 ${GATEWAY} 53`);
});

networkTest(
  "full tunnel: the next server, and one that came later, are reached outside the tunnel",
  { limitSeconds: 60 },
  async (network) => {
    const machine = network.client(0);
    const second = "203.0.113.3";
    await network.server.run(["ip", "address", "add", `${second}/24`, "dev", "wan"]);
    const first = await startServer(network, { args: ["--nat", "--address", `${SERVER_ADDRESS}:51820`] });
    const client = await startClient(network, 0, {
      fullTunnel: true,
      args: ["--server", `${SERVER_ADDRESS}:51820,${second}:51821`],
    });
    await waysBecome(machine, [SERVER_ADDRESS, second, WEB_ADDRESS], ["wan", "wan", "omail0"]);
    await startServer(network, {
      tun: "omail1",
      args: ["--nat", "--address", `${second}:51821`, "--tun-ip", "10.9.0.1/24", "--tun-ip6", "fd09::1/64"],
    });
    await first.program.kill();
    await client.waitForStatus("at the second server", ({ state, addresses }) => {
      return state === "connected" && addresses.some((text) => text.startsWith("10.9.0."));
    });
    await waysBecome(machine, [SERVER_ADDRESS, second, WEB_ADDRESS], ["wan", "wan", "omail0"]);
    expect((await machine.run(["ip", "address", "show", "omail0"])).stdout).not.toContain("10.8.0.");
    expect((await ping(machine, "10.9.0.1", { count: 3 })).received).toBe(3);
  },
);

networkTest(
  "full tunnel: a server that moves is found by its name, behind a kill switch too",
  { limitSeconds: 60 },
  async (network) => {
    const machine = network.client(0);
    const moved = "203.0.113.3";
    const directory = `/etc/netns/${machine.namespace}`;
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "hosts"), `${SERVER_ADDRESS} vpn.test\n`);
    try {
      await network.server.run(["ip", "address", "add", `${moved}/24`, "dev", "wan"]);
      const first = await startServer(network, { args: ["--nat", "--address", `${SERVER_ADDRESS}:51820`] });
      const args = ["--server", "vpn.test", "--kill-switch"];
      const client = await startClient(network, 0, { fullTunnel: true, args });
      await first.stop();
      writeFileSync(join(directory, "hosts"), `${moved} vpn.test\n`);
      await startServer(network, { args: ["--nat", "--address", `${moved}:51820`] });
      await until("an answer of the moved server", timeoutSeconds(20), async () =>
        (await ping(machine, INNER_SERVER, { count: 1 })).received === 1 ? true : undefined,
      );
      expect(await waysTo(machine, moved, WEB_ADDRESS)).toEqual(["wan", "omail0"]);
      await client.stop();
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);

/** Joins the client to the internet a second time: `wan2` 100.64.101.2/24, its gateway .1. */
async function addUplink(network: Network, machine: Machine): Promise<void> {
  const link = `ip link add wan2 netns ${machine.namespace} type veth peer name c101 netns ${network.internet.namespace}`;
  await command(link.split(" "));
  await network.internet.run(["ip", "address", "add", "100.64.101.1/24", "dev", "c101"]);
  await network.internet.run(["ip", "link", "set", "c101", "up"]);
  await machine.run(["ip", "address", "add", "100.64.101.2/24", "dev", "wan2"]);
  await machine.run(["ip", "link", "set", "wan2", "up"]);
}

networkTest(
  "full tunnel: it follows the default route to another interface, and the local network with it",
  { limitSeconds: 60 },
  async (network) => {
    const machine = network.client(0);
    await addUplink(network, machine);
    await machine.run(["ip", "link", "set", "wan2", "down"]);
    await startServer(network, { args: ["--nat"] });
    const args = ["--allow-lan", "--kill-switch"];
    const client = await startClient(network, 0, { fullTunnel: true, args });
    await machine.run(["ip", "link", "set", "wan2", "up"]);
    await machine.run(["ip", "route", "replace", "default", "via", "100.64.101.1"]);
    await machine.run(["ip", "link", "set", "wan", "down"]);
    expect(await way(machine, SERVER_ADDRESS)).toBe("wan2");
    await until("an answer by the other interface", timeoutSeconds(20), async () =>
      (await ping(machine, INNER_SERVER, { count: 1 })).received === 1 ? true : undefined,
    );
    await waysBecome(machine, ["100.64.101.1", GATEWAY], ["wan2", "omail0"]);
    expect((await machine.run(["nft", "list", "set", "inet", "omail_kill_omail0", "lan4"])).stdout).toContain(
      "100.64.101.0/24",
    );
    await client.stop();
    expect((await machine.run(["ip", "rule"])).stdout).not.toContain("goto");
  },
);

networkTest(
  "full tunnel: rules and resolv.conf that others touch are mended, and still put back",
  {},
  async (network) => {
    const machine = network.client(0);
    const directory = `/etc/netns/${machine.namespace}`;
    const resolvConf = join(directory, "resolv.conf");
    mkdirSync(directory, { recursive: true });
    writeFileSync(resolvConf, "nameserver 192.0.2.53\n");
    try {
      await startServer(network, { args: ["--nat", "--push-dns", INNER_SERVER] });
      const before = await machineState(machine);
      const client = await startClient(network, 0, { fullTunnel: true });
      const rules = (await machine.run(["ip", "rule"])).stdout;
      const preference = /(\d+):\tfrom all lookup 51883/.exec(rules)?.[1] ?? "";
      await machine.run(["ip", "rule", "del", "pref", preference]);
      writeFileSync(resolvConf, "nameserver 203.0.113.53\n");
      await until("the rule to come back", timeoutSeconds(5), async () =>
        (await machine.run(["ip", "rule"])).stdout === rules ? true : undefined,
      );
      await until("our DNS server to come back", timeoutSeconds(5), async () =>
        readFileSync(resolvConf, "utf8").includes(INNER_SERVER) ? true : undefined,
      );
      await client.stop();
      expect(readFileSync(resolvConf, "utf8")).toBe("nameserver 203.0.113.53\n");
      writeFileSync(resolvConf, "nameserver 192.0.2.53\n");
      expect(await machineState(machine)).toBe(before);
    } finally {
      rmSync(directory, { recursive: true });
    }
  },
);

networkTest("full tunnel: a tunnel inside a tunnel", { limitSeconds: 60 }, async (network) => {
  const machine = network.client(0);
  await startWeb(network);
  await startServer(network, { args: ["--nat"] });
  const inner = await startServer(network, {
    tun: "omail1",
    args: [
      "--nat",
      "--address",
      `${INNER_SERVER}:51821`,
      "--tun-ip",
      "10.9.0.1/24",
      "--tun-ip6",
      "fd09::1/64",
    ],
  });
  const before = await machineState(machine);
  const outside = await startClient(network, 0, { fullTunnel: true, args: ["--kill-switch"] });
  const inside = await startClient(network, 0, {
    fullTunnel: true,
    tun: "omail1",
    args: ["--server", `${INNER_SERVER}:51821`, "--mtu", "1340"],
  });
  expect(await waysTo(machine, WEB_ADDRESS, INNER_SERVER, SERVER_ADDRESS)).toEqual([
    "omail1",
    "omail0",
    "wan",
  ]);
  const capture = await Capture.start(network, machine, "wan", `ip and not host ${SERVER_ADDRESS}`);
  // The kill switch of the outer one hears of the inner one.
  await until("the inner tunnel to be let into the outer one", timeoutSeconds(5), async () =>
    (await ping(machine, WEB_ADDRESS, { count: 1 })).received === 1 ? true : undefined,
  );
  expect(await curl(machine, `http://${WEB_ADDRESS}/whoami`, timeoutSeconds(5))).toBe(SERVER_ADDRESS);
  expect(await capture.stop()).toEqual([]);
  expect((await inner.status()).sessions[0]?.rxPackets).toBeGreaterThan(3);
  await inside.stop();
  expect(await way(machine, WEB_ADDRESS)).toBe("omail0");
  await outside.stop();
  expect(await machineState(machine)).toBe(before);
});
