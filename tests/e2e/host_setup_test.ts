/** What the programs change on a machine comes back: after an end, a crash, a failure half-way, a reboot. */

import { describe, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ClientPlan, ServerPlan } from "../../lib/host_plan.ts";
import { networkTest } from "./harness.ts";
import type { BackgroundProgram, CommandResult } from "./harness/command.ts";
import { machineState } from "./harness/machine_state.ts";
import { SERVER_ADDRESS, type Machine, type Network } from "./harness/network.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

const CLIENT: ClientPlan = {
  role: "client",
  tun: "omail0",
  mtuBytes: 1400,
  addresses: ["10.8.0.2/24"],
  gsoMaxBytes: 62_000,
  fullTunnel: true,
  routes: [],
  excludes: ["198.51.100.0/24"],
  allowLan: false,
  endpoints: [{ address: SERVER_ADDRESS, port: 51820 }],
  dns: [],
  searchDomains: [],
  guardDns: true,
};
const SERVER: ServerPlan = {
  role: "server",
  tun: "omail0",
  mtuBytes: 1400,
  addresses: ["10.8.0.1/24", "fd00:8::1/64"],
  gsoMaxBytes: 62_000,
  nat: true,
};
const HELPER = new URL("programs/host_setup.ts", import.meta.url).pathname;

function hold(
  machine: Machine,
  directory: string,
  ...plans: readonly (ClientPlan | ServerPlan)[]
): BackgroundProgram {
  return machine.startHelper("host_setup", "hold", directory, ...plans.map((plan) => JSON.stringify(plan)));
}

async function said(program: BackgroundProgram, text: string, times = 1): Promise<void> {
  await until(`"${text}" from ${program.title}`, timeoutSeconds(10), async () => {
    if (program.output.split(text).length > times) return true;
    if (!program.running) throw new Error(program.output);
    return undefined;
  });
}

/** Starts a program and waits until its first plan stands. */
async function holding(...args: Parameters<typeof hold>): Promise<BackgroundProgram> {
  const program = hold(...args);
  await said(program, "applied in");
  return program;
}

async function repaired(machine: Machine, directory: string, plan: ClientPlan | ServerPlan): Promise<string> {
  const argv = [process.execPath, HELPER, "repair", directory, plan.role, plan.tun];
  return (await machine.run(argv)).stdout.trim();
}

/** The interface that a packet leaves by, or the kernel's refusal. */
async function way(machine: Machine, ...packet: readonly string[]): Promise<string> {
  const { stdout, stderr } = await machine.tryRun(["ip", "route", "get", ...packet]);
  return / dev (\S+)/.exec(stdout)?.[1] ?? stderr.trim();
}

async function sysctl(machine: Machine, path: string): Promise<string> {
  return (await machine.run(["cat", `/proc/sys/net/${path}`])).stdout.trim();
}

/** What can be compared: the state once the network card has carrier and its link-local address is no longer on trial. */
async function stateOf(machine: Machine): Promise<string> {
  await until(`${machine.namespace} to come to rest`, timeoutSeconds(10), async () => {
    const ipv6 = (await sysctl(machine, "ipv6/conf/wan/disable_ipv6")) === "0";
    const { stdout } = await machine.run(["ip", "address", "show", "wan"]);
    const settled = stdout.includes("state UP") && !stdout.includes("tentative");
    return settled && stdout.includes("fe80:") === ipv6 ? true : undefined;
  });
  return machineState(machine);
}

/** Files of the state directory. */
function files(network: Network): string[] {
  return readdirSync(network.directory);
}

function tryHold(machine: Machine, directory: string, plan: ClientPlan | ServerPlan): Promise<CommandResult> {
  return machine.tryRun([process.execPath, HELPER, "hold", directory, JSON.stringify(plan)]);
}

/** Runs the helper with a state directory on a tiny disk, in a mount namespace of its own; `fill` eats space first. */
function holdOnTinyDisk(
  machine: Machine,
  directory: string,
  fill: string,
  plan: ClientPlan,
): Promise<CommandResult> {
  const script = `mount -t tmpfs -o size=16k omail "$1" && ${fill} && exec "$2" "$3" hold "$1" "$4"`;
  const argv = [
    "unshare",
    "-m",
    "sh",
    "-c",
    script,
    "sh",
    directory,
    process.execPath,
    HELPER,
    JSON.stringify(plan),
  ];
  return machine.tryRun(argv);
}

describe("full tunnel", () => {
  networkTest("host setup: its own packets stay outside, all others go in", {}, async (network) => {
    const client = network.client(0);
    const before = await stateOf(client);
    const program = await holding(client, network.directory, { ...CLIENT, routes: ["203.0.113.0/24"] });
    expect({
      server: await way(client, SERVER_ADDRESS),
      anywhere: await way(client, "192.0.2.9"),
      excluded: await way(client, "198.51.100.80"),
      connected: await way(client, "100.64.1.1"),
      pushed: await way(client, "203.0.113.9"),
    }).toEqual({
      server: "wan",
      anywhere: "omail0",
      excluded: "wan",
      // Not without allowLan.
      connected: "omail0",
      pushed: "omail0",
    });
    expect(await way(client, "2001:db8:80::80")).toMatch(/unreachable|No route to host/);
    expect(await program.stop()).toBe(0);
    expect(await stateOf(client)).toBe(before);
    expect(files(network)).toEqual([]);
  });

  networkTest(
    "host setup: strict reverse path filtering lets the server's answers in",
    {},
    async (network) => {
      const client = network.client(0);
      for (const name of ["all", "wan"]) {
        await client.run(["sh", "-c", `echo 1 >/proc/sys/net/ipv4/conf/${name}/rp_filter`]);
      }
      const program = await holding(client, network.directory, CLIENT);
      const answer = ["100.64.1.2", "from", SERVER_ADDRESS, "iif", "wan", "ipproto", "udp", "sport", "51820"];
      expect(await way(client, ...answer, "dport", "40000")).toBe("lo");
      // EXDEV or EINVAL, by the kernel version: filtering is on, so the answer above did pass it.
      expect(await way(client, "100.64.1.2", "from", "192.0.2.9", "iif", "wan")).toContain("Invalid");
      await program.stop();
    },
  );

  networkTest("host setup: a second plan takes the place of the first", {}, async (network) => {
    const client = network.client(0);
    const before = await stateOf(client);
    const second = { ...CLIENT, addresses: ["10.9.0.2/24", "fd00:9::2/64"] };
    const program = await holding(client, network.directory, CLIENT, second);
    program.signal("SIGUSR1");
    await said(program, "applied in", 2);
    expect(await way(client, "2001:db8:80::80")).toBe("omail0");
    expect((await client.run(["ip", "address", "show", "omail0"])).stdout).not.toContain("10.8.0.2");
    await program.stop();
    expect(await stateOf(client)).toBe(before);
  });

  networkTest("host setup: without IPv6 in the kernel it goes on with IPv4", {}, async (network) => {
    const client = network.client(0);
    await client.run(["sh", "-c", "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 >$f; done"]);
    const before = await stateOf(client);
    const plan = { ...CLIENT, addresses: [...CLIENT.addresses, "fd00:8::2/64"] };
    const program = await holding(client, network.directory, plan);
    expect(program.output).toContain("going on with IPv4");
    expect(await way(client, "192.0.2.9")).toBe("omail0");
    await program.stop();
    expect(await stateOf(client)).toBe(before);
  });
});

networkTest(
  "host setup: a split tunnel around the server's address leaves the server outside",
  {},
  async (network) => {
    const client = network.client(0);
    const before = await stateOf(client);
    const plan = { ...CLIENT, fullTunnel: false, routes: ["203.0.113.0/24", "0.0.0.0/0"] };
    const program = await holding(client, network.directory, plan);
    expect(await way(client, SERVER_ADDRESS)).toBe("wan");
    expect(await way(client, "203.0.113.3")).toBe("omail0");
    expect(await way(client, "198.51.100.80")).toBe("wan");
    expect(await way(client, "192.0.2.9")).toBe("omail0");
    await program.stop();
    expect(await stateOf(client)).toBe(before);
  },
);

describe("crash", () => {
  networkTest("host setup: after kill -9 of a client `repair` puts all back, once", {}, async (network) => {
    const client = network.client(0);
    const before = await stateOf(client);
    const program = await holding(client, network.directory, CLIENT);
    expect(await repaired(client, network.directory, CLIENT)).toBe("false");
    await program.kill();
    expect(await stateOf(client)).not.toBe(before);
    expect(await repaired(client, network.directory, CLIENT)).toBe("true");
    expect(await stateOf(client)).toBe(before);
    expect(await repaired(client, network.directory, CLIENT)).toBe("false");
    expect(files(network)).toEqual([]);
  });

  networkTest("host setup: after kill -9 the next start repairs first", {}, async (network) => {
    const before = await stateOf(network.server);
    await (await holding(network.server, network.directory, SERVER)).kill();
    const program = await holding(network.server, network.directory, { ...SERVER, nat: false });
    expect(await sysctl(network.server, "ipv4/ip_forward")).toBe("0");
    await program.stop();
    expect(await stateOf(network.server)).toBe(before);
  });

  networkTest(
    "host setup: a damaged journal is kept aside, its readable steps undone",
    {},
    async (network) => {
      const client = network.client(0);
      const before = await stateOf(client);
      await (await holding(client, network.directory, CLIENT)).kill();
      const [name = ""] = files(network);
      const path = join(network.directory, name);
      writeFileSync(path, `garbage\n${readFileSync(path, "utf8").split("\n").slice(1).join("\n")}`);
      expect(await repaired(client, network.directory, CLIENT)).toBe("true");
      expect(await stateOf(client)).toBe(before);
      expect(files(network)).toEqual([`${name}.damaged`]);
    },
  );
});

test(
  "host setup: what an earlier boot left is removed, files and what is surely ours",
  async () => {
    await withResolvConf("nameserver 192.0.2.53\n", async (network, resolvConf) => {
      const client = network.client(0);
      const before = await stateOf(client);
      await (await holding(client, network.directory, { ...CLIENT, dns: ["10.8.0.1"] })).kill();
      expect(readFileSync(resolvConf, "utf8")).toContain("nameserver 10.8.0.1");
      fromEarlierBoot(network);
      expect(await repaired(client, network.directory, CLIENT)).toBe("true");
      expect(await stateOf(client)).toBe(before);
      expect(readFileSync(resolvConf, "utf8")).toBe("nameserver 192.0.2.53\n");
    });
  },
  timeoutSeconds(60),
);

networkTest(
  "host setup: rules of another tunnel that took the place of an earlier boot's stay",
  {},
  async (network) => {
    const client = network.client(0);
    await (await holding(client, network.directory, CLIENT)).kill();
    fromEarlierBoot(network);
    // The same slot, as after a reboot: the kernel has forgotten all.
    for (const family of ["-4", "-6"]) {
      await client.run(["ip", family, "rule", "flush"]);
      await client.run(["ip", family, "rule", "add", "pref", "32766", "lookup", "main"]);
    }
    const other = join(network.directory, "other");
    const plan = { ...CLIENT, tun: "vpn0", addresses: ["10.9.0.2/24"] };
    const program = await holding(client, other, plan);
    const rules = (await client.run(["ip", "rule"])).stdout;
    expect(rules).toContain("lookup 51883");
    await repaired(client, network.directory, CLIENT);
    expect((await client.run(["ip", "rule"])).stdout).toBe(rules);
    expect(await way(client, "192.0.2.9")).toBe("vpn0");
    await program.stop();
  },
);

/** Makes the journal in the network's directory one of an earlier boot. */
function fromEarlierBoot(network: Network): void {
  const path = join(network.directory, files(network).find((name) => name.endsWith(".journal")) ?? "");
  const text = readFileSync(path, "utf8").replace(/"bootId":"[^"]*"/, '"bootId":"an-earlier-one"');
  writeFileSync(path, text);
}

/** A network whose client has a resolv.conf of its own; `ip netns exec` mounts it, so it cannot be renamed over. */
async function withResolvConf(
  text: string,
  body: (network: Network, resolvConf: string) => Promise<void>,
): Promise<void> {
  const { Network } = await import("./harness/network.ts");
  const network = await Network.make(1);
  const directory = `/etc/netns/${network.client(0).namespace}`;
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, "resolv.conf"), text);
    await body(network, join(directory, "resolv.conf"));
  } finally {
    await network.remove();
    rmSync(directory, { recursive: true });
  }
}

describe("server", () => {
  networkTest("host setup: NAT and forwarding come and go", {}, async (network) => {
    const before = await stateOf(network.server);
    const program = await holding(network.server, network.directory, SERVER);
    const ruleset = (await network.server.run(["nft", "list", "ruleset"])).stdout;
    expect(ruleset).toContain('iifname "omail0" oifname != "omail0" masquerade');
    expect(await sysctl(network.server, "ipv4/ip_forward")).toBe("1");
    expect(await sysctl(network.server, "ipv6/conf/all/forwarding")).toBe("1");
    expect(await sysctl(network.server, "ipv6/conf/wan/accept_ra")).toBe("2");
    expect(await program.stop()).toBe(0);
    expect(await stateOf(network.server)).toBe(before);
  });

  networkTest("host setup: another firewall that drops forwarded packets is named", {}, async (network) => {
    await network.server.nft(
      "table ip other { chain f { type filter hook forward priority 0; policy drop; }; }\n",
    );
    const program = await holding(network.server, network.directory, SERVER);
    expect(program.output).toContain('nft insert rule ip other f iifname "omail0" accept');
    await program.stop();
  });

  networkTest(
    "host setup: servers share forwarding, and a dead one does not keep it on",
    {},
    async (network) => {
      const before = await stateOf(network.server);
      const [first, second] = await Promise.all([
        holding(network.server, network.directory, SERVER),
        holding(network.server, network.directory, { ...SERVER, tun: "omail1", addresses: ["10.9.0.1/24"] }),
      ]);
      await first.kill();
      expect(await repaired(network.server, network.directory, SERVER)).toBe("true");
      expect(await sysctl(network.server, "ipv4/ip_forward")).toBe("1");
      await second.stop();
      expect(await stateOf(network.server)).toBe(before);
    },
  );
});

describe("failure", () => {
  networkTest(
    "host setup: an address that cannot be had ends the start with nothing changed",
    {},
    async (network) => {
      const before = await stateOf(network.server);
      const plan = { ...SERVER, addresses: ["10.8.0.1/24", "10.8.0.1/24"] };
      const { status, stderr } = await tryHold(network.server, network.directory, plan);
      expect({ status, stderr }).toMatchObject({ status: 1 });
      expect(stderr).toContain("Cannot assign an address (ip address add 10.8.0.1/24 dev omail0)");
      expect(await stateOf(network.server)).toBe(before);
      expect(files(network)).toEqual([]);
    },
  );

  networkTest("host setup: a failure in the middle undoes what came before it", {}, async (network) => {
    const before = await stateOf(network.server);
    // Read-only sysctls, as in a container: NAT works, forwarding does not.
    const script = 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"';
    const argv = [
      "unshare",
      "-m",
      "sh",
      "-c",
      script,
      "sh",
      process.execPath,
      HELPER,
      "hold",
      network.directory,
    ];
    const { status, stderr } = await network.server.tryRun([...argv, JSON.stringify(SERVER)]);
    expect({ status, stderr }).toMatchObject({ status: 5 });
    expect(stderr).toContain('Cannot set "/proc/sys/net/');
    expect(await stateOf(network.server)).toBe(before);
  });

  networkTest("host setup: the same instance cannot run twice", {}, async (network) => {
    const program = await holding(network.server, network.directory, SERVER);
    const { status, stderr } = await tryHold(network.server, network.directory, SERVER);
    expect({ status, stderr }).toMatchObject({ status: 2 });
    expect(stderr).toContain('The server for "omail0" is already running');
    await program.stop();
  });

  for (const [what, fill] of [
    ["full", 'cat /dev/zero >"$1/rest" 2>/dev/null || true'],
    ["almost full", 'head -c 8192 /dev/zero >"$1/rest"'],
  ] as const) {
    networkTest(
      `host setup: a disk that is ${what} is named before anything changes`,
      {},
      async (network) => {
        const client = network.client(0);
        const before = await stateOf(client);
        // So many steps that they do not fit where the header did.
        const excludes = Array.from({ length: 200 }, (_, i) => `192.168.${i}.0/24`);
        const result = await holdOnTinyDisk(client, network.directory, fill, { ...CLIENT, excludes });
        expect({ status: result.status, stderr: result.stderr }).toMatchObject({ status: 1 });
        expect(result.stderr).toContain(`"${network.directory}": no space left on the disk`);
        expect(await stateOf(client)).toBe(before);
      },
    );
  }
});
