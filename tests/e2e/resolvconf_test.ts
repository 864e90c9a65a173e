/** DNS on a machine whose resolv.conf is kept by a real resolvconf(8), openresolv: set, and put back. */

import { expect } from "bun:test";
import { join } from "node:path";
import { networkTest } from "./harness.ts";
import { type Machine, type Network, SERVER_ADDRESS } from "./harness/network.ts";
import { executable, INNER_SERVER, PASSWORD, SPLIT_TUNNEL, startServer } from "./harness/omail.ts";
import { timeoutSeconds, until } from "./harness/timing.ts";

const OWN = "search lan\nnameserver 100.64.1.1\n";
const SERVER = { args: ["--nat", "--push-dns", INNER_SERVER, "--push-domain", "corp.example"] };

/** The client's machine with an /etc and a /run of its own, in which it is safe to let resolvconf work. */
class PrivateMachine {
  readonly #machine: Machine;
  readonly #network: Network;
  readonly #inside: readonly string[];
  #clients = 0;

  private constructor(network: Network, machine: Machine, pid: number) {
    this.#network = network;
    this.#machine = machine;
    this.#inside = ["nsenter", "--target", `${pid}`, "--mount", "--"];
  }

  /** The copy of /etc lives in memory, and as long as the process that holds the mount namespace. */
  static async make(network: Network): Promise<PrivateMachine> {
    const machine = network.client(0);
    const script = `set -e
      mount --make-rprivate /
      mount -t tmpfs none "$0"
      cp -a /etc "$0/etc"
      mount --bind "$0/etc" /etc
      mount -t tmpfs none /run
      printf 'resolv_conf=/etc/resolv.conf\\n' >/etc/resolvconf.conf
      rm -f /etc/resolv.conf
      echo ready
      exec sleep infinity`;
    const held = machine.start("own /etc", ["unshare", "--mount", "sh", "-c", script, network.directory]);
    await until("an /etc of its own", timeoutSeconds(10), async () =>
      held.output.includes("ready") ? true : undefined,
    );
    const own = new PrivateMachine(network, machine, held.pid);
    await own.run(["resolvconf", "-a", "wan.dhcp"], OWN);
    return own;
  }

  async run(argv: readonly string[], input?: string): Promise<string> {
    const { stdout } = await this.#machine.run(
      [...this.#inside, ...argv],
      input === undefined ? {} : { input },
    );
    return stdout;
  }

  /** The lines that resolvers read. */
  async resolvConf(): Promise<string> {
    const lines = (await this.run(["cat", "/etc/resolv.conf"])).split("\n");
    return lines.filter((line) => !line.startsWith("#")).join("\n");
  }

  async startClient(...args: readonly string[]) {
    const argv = [executable("client"), "--server", SERVER_ADDRESS, ...args, ...this.#stateDir];
    const title = `client ${++this.#clients}`;
    const client = this.#machine.start(title, [...this.#inside, ...argv], {
      env: { OMAIL_PASSWORD: PASSWORD },
    });
    await until("a tunnel", timeoutSeconds(15), async () =>
      client.output.includes("tunnel is up") ? true : undefined,
    );
    return client;
  }

  async down(): Promise<void> {
    await this.run([executable("client"), "down", ...this.#stateDir]);
  }

  /** Outside of what the copy of /etc hides. */
  get #stateDir(): readonly string[] {
    return ["--state-dir", join(this.#network.directory, "client-state")];
  }
}

networkTest(
  "resolvconf: a full tunnel's DNS is the only one, and what was there comes back",
  {},
  async (network) => {
    await startServer(network, SERVER);
    const machine = await PrivateMachine.make(network);
    expect(await machine.resolvConf()).toBe(OWN);
    const tunnels = `search corp.example\nnameserver ${INNER_SERVER}\n`;

    const stopped = await machine.startClient();
    expect(await machine.resolvConf()).toBe(tunnels);
    expect(await stopped.stop("SIGTERM")).toBe(0);
    expect(await machine.resolvConf()).toBe(OWN);

    const killed = await machine.startClient();
    expect(await machine.resolvConf()).toBe(tunnels);
    await killed.kill();
    await machine.down();
    expect(await machine.resolvConf()).toBe(OWN);

    // a new lease while the tunnel is up: kept for afterwards
    const roaming = await machine.startClient();
    const lease = "search cafe\nnameserver 192.0.2.53\n";
    await machine.run(["resolvconf", "-a", "wan.dhcp"], lease);
    expect(await machine.resolvConf()).toBe(tunnels);
    expect(await roaming.stop("SIGTERM")).toBe(0);
    expect(await machine.resolvConf()).toBe(lease);
  },
);

networkTest("resolvconf: a split tunnel's DNS stands beside the machine's", {}, async (network) => {
  await startServer(network, SERVER);
  const machine = await PrivateMachine.make(network);
  const client = await machine.startClient("--split-tunnel", SPLIT_TUNNEL);
  const lines = (await machine.resolvConf()).trimEnd().split("\n");
  expect(lines.toSorted()).toEqual([
    `nameserver ${INNER_SERVER}`,
    "nameserver 100.64.1.1",
    expect.stringMatching(/^search .*corp\.example/),
  ]);
  expect(await client.stop("SIGTERM")).toBe(0);
  expect(await machine.resolvConf()).toBe(OWN);
});
