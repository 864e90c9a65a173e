/** With a kill switch nothing leaves but the tunnel: from the start, over every kind of end, until `down`. */

import { expect } from "bun:test";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { Capture, packetAddresses } from "./harness/capture.ts";
import { machineState } from "./harness/machine_state.ts";
import {
  clientAddress,
  type Machine,
  type Network,
  SERVER_ADDRESS,
  WEB_ADDRESS,
  WEB_ADDRESS6,
} from "./harness/network.ts";
import {
  executable,
  INNER_SERVER,
  INNER_SERVER6,
  type OmailProgram,
  PASSWORD,
  startClient,
  startServer,
} from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";
import { ping } from "./harness/traffic.ts";

const GATEWAY = "100.64.1.1";
const CLIENT = { fullTunnel: true, args: ["--kill-switch"] };
const NEIGHBOUR_DISCOVERY = [133, 135, 136];

/** Sends without end what must not leave: TCP, UDP, DNS and pings, both families, also by sockets bound to `wan`. */
function startNoise(machine: Machine): void {
  const script = `while :; do
    for a in ${WEB_ADDRESS} ${GATEWAY} 192.0.2.7 ${SERVER_ADDRESS} ${WEB_ADDRESS6} 2001:db8:1::1; do
      for p in 53 80 853 4444; do (echo x >/dev/udp/$a/$p) 2>/dev/null; done
      ping -n -c 1 -W 1 -I wan $a >/dev/null 2>&1 & ping -n -c 1 -W 1 $a >/dev/null 2>&1 &
    done
    curl -s -m 1 --interface wan tftp://${GATEWAY}:53/x; curl -s -m 1 --interface wan http://${WEB_ADDRESS}/
    curl -s -m 1 http://[${WEB_ADDRESS6}]/; curl -s -m 1 http://${SERVER_ADDRESS}:53/
    sleep 0.2
  done`;
  machine.start("noise", ["bash", "-c", script]);
}

/**
 * What leaves the client's network card from now on, ARP aside.
 *
 * Waits for the switch: until then the kernel itself may repeat its reports of multicast groups, up to two seconds after the
 * link came up (RFC 3810, section 6.1).
 */
async function captureUnderKillSwitch(
  network: Network,
  { program, machine }: OmailProgram<unknown>,
): Promise<Capture> {
  await until("the kill switch", timeoutSeconds(10), async () =>
    program.output.includes("The kill switch is on") ? true : undefined,
  );
  const mac = (await machine.run(["cat", "/sys/class/net/wan/address"])).stdout.trim();
  return await Capture.start(network, machine, "wan", `ether src ${mac} and not arp`);
}

/** Sends from a DHCP client's port to a server's (RFC 2131, section 4.1; RFC 8415, section 7.2). */
const DHCP = `const send = async (hostname, port, address) => {
  const socket = await Bun.udpSocket({ port, hostname, socket: { error() {} } });
  socket.send("renew", port === 68 ? 67 : 547, address);
  await Bun.sleep(50);
  socket.close();
};
await send("0.0.0.0", 68, "${GATEWAY}");
await send("::", 546, "ff02::1:2%wan");`;

/** Source and destination port of a packet of UDP or TCP. */
function portsOf(packet: Uint8Array): string {
  const start = packet[0]! >> 4 === 4 ? 20 : 40;
  const port = (offset: number): number => (packet[start + offset]! << 8) | packet[start + offset + 1]!;
  return `${port(0)} ${port(2)}`;
}

/** A lease that is renewed by unicast, or asked for by IPv6's multicast. */
function isDhcp(packet: Uint8Array): boolean {
  const isVersion4 = packet[0]! >> 4 === 4;
  return packet[isVersion4 ? 9 : 6] === 17 && portsOf(packet) === (isVersion4 ? "68 67" : "546 547");
}

/** Neither the tunnel's own, nor DHCP, nor neighbour discovery: as text, once each. */
function leaked(packets: readonly Uint8Array[], servers: readonly string[] = [SERVER_ADDRESS]): string[] {
  const own = new Set(servers.map((address) => address.split(".").join()));
  const others = packets.filter((packet) => {
    if (isDhcp(packet)) return false;
    const isVersion4 = packet[0]! >> 4 === 4;
    if (!isVersion4) return !(packet[6] === 58 && NEIGHBOUR_DISCOVERY.includes(packet[40]!));
    return !own.has(packet.subarray(16, 20).join()) || !portsOf(packet).endsWith(" 51820");
  });
  return [
    ...new Set(others.map((packet) => `${JSON.stringify(packetAddresses(packet))} ${portsOf(packet)}`)),
  ];
}

async function connectedAgain(client: OmailProgram<{ readonly state: string }>): Promise<void> {
  await client.waitForStatus("connected again", ({ state }) => state === "connected");
  expect((await ping(client.machine, INNER_SERVER, { count: 3 })).received).toBe(3);
}

networkTest(
  "kill switch: nothing else leaves at the start, while connected, while reconnecting, after kill -9, after a refusal",
  { limitSeconds: 90 },
  async (network) => {
    const machine = network.client(0);
    const before = await machineState(machine);
    // No server yet: it keeps trying.
    const first = await startClient(network, 0, { ...CLIENT, waitUntilReady: false });
    const capture = await captureUnderKillSwitch(network, first);
    startNoise(machine);
    await Bun.sleep(1_000);
    const server = await startServer(network, { args: ["--nat"] });
    await connectedAgain(first);
    await machine.run([process.execPath, "-e", DHCP]);
    await Bun.sleep(1_000);

    await server.program.kill();
    await until("the loss of the server", timeoutSeconds(15), async () =>
      first.program.output.includes("Routes stay in place") ? true : undefined,
    );
    await Bun.sleep(1_000);
    const restarted = await startServer(network, { args: ["--nat"] });
    await connectedAgain(first);

    await first.program.kill();
    await Bun.sleep(1_500);
    const second = await startClient(network, 0, CLIENT);
    await connectedAgain(second);
    await second.program.kill();

    // An end by an error is no orderly end.
    const refused = await startClient(network, 0, { ...CLIENT, password: "wrong", waitUntilReady: false });
    expect(await refused.program.wait(timeoutSeconds(15))).toBe(4);
    expect(refused.program.output).toContain("The kill switch stays");
    await Bun.sleep(1_000);
    const packets = await capture.stop();
    expect(packets.length).toBeGreaterThan(20);
    expect(leaked(packets)).toEqual([]);
    expect(packets.filter(isDhcp)).toHaveLength(2);

    expect((await refused.control("down")).status).toBe(0);
    expect((await ping(machine, WEB_ADDRESS, { count: 3 })).received).toBe(3);
    await Promise.all(machine.programs.map((program) => program.kill()));
    await restarted.stop();
    expect(await machineState(machine)).toBe(before);
  },
);

networkTest(
  "kill switch: several servers: one dies, the next takes over, and back; nothing else leaves, no DNS either",
  { clients: 2, limitSeconds: 90 },
  async (network) => {
    const [machine, other] = [network.client(0), network.client(1)];
    const addresses = [SERVER_ADDRESS, clientAddress(1)];
    const names = "first.example,second.example";
    privateResolvConf(machine, `nameserver ${GATEWAY}\n`);
    const files = `/etc/netns/${machine.namespace}`;
    try {
      writeFileSync(join(files, "nsswitch.conf"), "hosts: files dns\n");
      writeFileSync(
        join(files, "hosts"),
        addresses.map((address, i) => `${address} ${names.split(",")[i]}\n`).join(""),
      );
      const first = await startServer(network, { args: ["--nat"] });
      await startSecondServer(network, other);
      const args = ["--kill-switch", "--server", names, "--keepalive", "1s"];
      const client = await startClient(network, 0, { fullTunnel: true, args, waitUntilReady: false });
      const capture = await captureUnderKillSwitch(network, client);
      await client.waitForStatus("connected", ({ state }) => state === "connected");
      // from here on each question for a name is one for the name server on the local network
      writeFileSync(join(files, "hosts"), "");
      startNoise(machine);
      const takenOver = async (server: string): Promise<void> => {
        const start = performance.now();
        await client.waitForStatus(
          server,
          (status) => status.server === server && status.state === "connected",
        );
        const tookMs = performance.now() - start;
        console.log(`${server} has taken over after ${Math.round(tookMs)} ms`);
        // a resolver that does not answer holds nothing up: each of its tries takes 5 s
        expect(tookMs).toBeLessThan(timeoutSeconds(8));
        await connectedAgain(client);
      };
      await takenOver("first.example:51820");
      await Bun.sleep(1_000);

      await first.program.kill();
      await takenOver("second.example:51820");
      await Bun.sleep(1_000);

      // this time it vanishes without a word
      await startServer(network, { args: ["--nat"] });
      await network.internet.run(["ip", "link", "set", "c2", "down"]);
      await takenOver("first.example:51820");
      await Bun.sleep(1_000);

      const packets = await capture.stop();
      const to = (address: string) =>
        packets.filter((packet) => packet.subarray(16, 20).join() === address.split(".").join()).length;
      for (const address of addresses) expect(to(address)).toBeGreaterThan(20);
      expect(leaked(packets, addresses)).toEqual([]);
    } finally {
      rmSync(files, { recursive: true });
    }
  },
);

/** Another server, on the machine of a client. */
async function startSecondServer(network: Network, machine: Machine): Promise<void> {
  const args = ["--nat", "--tun-ip", `${INNER_SERVER}/24`, "--tun-ip6", `${INNER_SERVER6}/64`];
  const stateDir = ["--state-dir", join(network.directory, "second-server")];
  const program = machine.start("second omail-server", [executable("server"), ...args, ...stateDir], {
    env: { OMAIL_PASSWORD: PASSWORD },
  });
  await until("the second server", timeoutSeconds(10), async () =>
    program.output.includes("listening") ? true : undefined,
  );
}

networkTest(
  "kill switch: stop, kill -9 and `down`, and a reboot in between leave the machine as it was, resolv.conf too",
  { limitSeconds: 60 },
  async (network) => {
    const machine = network.client(0);
    const resolvConf = privateResolvConf(machine, "search lan\nnameserver 100.64.1.1\n");
    try {
      const before = await machineState(machine);
      await startServer(network, {
        args: ["--nat", "--push-dns", INNER_SERVER, "--push-domain", "corp.example"],
      });

      const stopped = await startClient(network, 0, CLIENT);
      expect(readFileSync(resolvConf, "utf8")).toContain(`search corp.example\nnameserver ${INNER_SERVER}\n`);
      expect((await machine.run(["nft", "list", "tables"])).stdout).toContain("omail_kill_omail0");
      await stopped.stop();
      expect(await machineState(machine)).toBe(before);

      const killed = await startClient(network, 0, CLIENT);
      await killed.program.kill();
      expect((await killed.control("down")).status).toBe(0);
      expect(await machineState(machine)).toBe(before);

      const rebooted = await startClient(network, 0, CLIENT);
      await rebooted.program.kill();
      await downAfterReboot(network, rebooted);
      expect(await machineState(machine)).toBe(before);

      const lost = await startClient(network, 0, CLIENT);
      await lost.program.kill();
      rmSync(lost.stateDir, { recursive: true });
      expect((await lost.control("down")).stdout).toContain("put back");
      expect((await machine.run(["nft", "list", "tables"])).stdout).not.toContain("omail_kill");
    } finally {
      rmSync(`/etc/netns/${machine.namespace}`, { recursive: true });
    }
  },
);

networkTest(
  "kill switch: neither a second client on the same interface nor its `down` touches the first one's",
  {},
  async (network) => {
    const machine = network.client(0);
    await startServer(network, { args: ["--nat"] });
    const first = await startClient(network, 0, CLIENT);
    const before = await machineState(machine);
    const same = await startClient(network, 0, { ...CLIENT, waitUntilReady: false });
    expect(await same.program.wait(timeoutSeconds(10))).toBe(2);
    expect(same.program.output).toContain('The client for "omail0" is already running');
    const other = await startClient(network, 0, { ...CLIENT, stateDir: "other", waitUntilReady: false });
    expect(await other.program.wait(timeoutSeconds(10))).toBe(2);
    expect(other.program.output).toContain('Cannot make interface "omail0": the name is taken');
    expect((await other.control("down")).stdout).toContain("nothing to do");
    expect(await machineState(machine)).toBe(before);
    await connectedAgain(first);
  },
);

networkTest(
  "kill switch: --exclude and --allow-lan are let out, DNS to the local network is not",
  {},
  async (network) => {
    const machine = network.client(0);
    await startServer(network, { args: ["--nat"] });
    const args = ["--kill-switch", "--allow-lan", "--exclude", `${WEB_ADDRESS}/32`];
    await startClient(network, 0, { fullTunnel: true, args });
    const capture = await Capture.start(network, machine, "wan", `host ${GATEWAY} or host ${WEB_ADDRESS}`);
    expect((await ping(machine, GATEWAY, { count: 2 })).received).toBe(2);
    expect((await ping(machine, WEB_ADDRESS, { count: 2 })).received).toBe(2);
    for (const bound of [["--interface", "wan"], []]) {
      await machine.tryRun(["curl", "-s", "-m", "1", ...bound, `tftp://${GATEWAY}:53/x`]);
    }
    const packets = await capture.stop();
    const own = Uint8Array.from(clientAddress(0).split(".").map(Number)).toHex();
    const sent = packets.filter((packet) => packetAddresses(packet).source === own);
    expect(sent.map((packet) => packet[9])).toEqual([1, 1, 1, 1]);
  },
);

networkTest(
  "kill switch: a server's name that does not resolve ends the start, with nothing changed",
  {},
  async (network) => {
    const machine = network.client(0);
    const before = await machineState(machine);
    const args = ["--kill-switch", "--server", "no-such-name.invalid"];
    const client = await startClient(network, 0, { fullTunnel: true, args, waitUntilReady: false });
    expect(await client.program.wait(timeoutSeconds(15))).toBe(1);
    expect(client.program.output).toContain('Cannot resolve "no-such-name.invalid"');
    expect(await machineState(machine)).toBe(before);
  },
);

/** Gives a machine a resolv.conf of its own; `ip netns exec` mounts it. */
function privateResolvConf(machine: Machine, text: string): string {
  const directory = `/etc/netns/${machine.namespace}`;
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "resolv.conf"), text);
  return join(directory, "resolv.conf");
}

/** Runs `down` where the kernel says that this is another boot. */
async function downAfterReboot(network: Network, client: OmailProgram<unknown>): Promise<void> {
  const bootId = join(network.directory, "boot_id");
  writeFileSync(bootId, "00000000-0000-4000-8000-000000000000\n");
  const script = 'mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"';
  const down = [executable("client"), "down", "--tun", client.tun, "--state-dir", client.stateDir];
  await client.machine.run(["unshare", "-m", "sh", "-c", script, "sh", bootId, ...down]);
}
