/** Sets a Linux TUN device up: MTU, queue, addresses, up (ip-link(8), ip-address(8)). All of it vanishes with the device. */

import { existsSync, readFileSync } from "node:fs";
import { parsePrefix } from "./address.ts";
import { messageOf } from "./caught.ts";
import { commandError, type RunCommand } from "./command.ts";
import type { HostChange } from "./host_change.ts";
import type { HostPlan } from "./host_plan.ts";
import { runIpBatch } from "./ip_batch.ts";
import { MIN_IPV6_MTU_BYTES } from "./limits.ts";
import type { Log } from "./log.ts";

/** Packets the kernel queues before our reader: the default of an Ethernet device; a TUN has 500. */
const TX_QUEUE_PACKETS = 1000;

/** Whether this kernel (in this network namespace) lets `tun` have IPv6 addresses, else why not. */
export function ipv6Obstacle(tun: string, mtuBytes: number): string | null {
  if (mtuBytes < MIN_IPV6_MTU_BYTES)
    return `MTU "${mtuBytes}" is too small, expected at least ${MIN_IPV6_MTU_BYTES}`;
  const path = `/proc/sys/net/ipv6/conf/${tun}/disable_ipv6`;
  if (!existsSync(path)) return "the kernel has no IPv6";
  return readFileSync(path, "utf8").trim() === "0"
    ? null
    : `it is disabled (sysctl net.ipv6.conf.${tun}.disable_ipv6)`;
}

/**
 * The lines for `ip -batch` that set the device up.
 *
 * @param before the plan that stands, if there is one: what both have stays, for with its last address the kernel takes
 *   a device's routes away
 */
export function linkLines(plan: HostPlan, ipv6: boolean, before: HostPlan | null): string[] {
  const dev = `dev ${plan.tun}`;
  const addresses = plan.addresses.map(parsePrefix).filter((prefix) => ipv6 || prefix.address.family === 4);
  const had = new Set(before?.addresses);
  const gone = before?.addresses.filter((text) => !plan.addresses.includes(text)) ?? [];
  return [
    // Left by whoever had the device before.
    ...(before === null ? [`address flush ${dev}`] : []),
    `link set ${dev} mtu ${plan.mtuBytes} txqueuelen ${TX_QUEUE_PACKETS}`,
    // No link-local address: the server would drop what is sent from it (router solicitations, mDNS).
    ...(ipv6 ? [`link set ${dev} addrgenmode none`] : []),
    // No duplicate address detection (RFC 4862): nobody else is on this link, and it takes a second.
    ...addresses
      .filter(({ text }) => !had.has(text))
      .map(({ text, address }) => `address add ${text} ${dev}${address.family === 6 ? " nodad" : ""}`),
    `link set ${dev} up`,
    ...gone.filter((text) => ipv6 || !text.includes(":")).map((text) => `address del ${text} ${dev}`),
  ];
}

/** Plans the device's set-up. Its failure ends the start: a tunnel without its address is none. */
export function planLink(plan: HostPlan, before: HostPlan | null, run: RunCommand, log: Log): HostChange {
  return {
    name: "link",
    key: JSON.stringify([plan.mtuBytes, plan.addresses, plan.gsoMaxBytes]),
    undo: [],
    onFailure: "throw",
    async apply() {
      const obstacle = [...plan.addresses, ...(before?.addresses ?? [])].some((text) => text.includes(":"))
        ? ipv6Obstacle(plan.tun, plan.mtuBytes)
        : "";
      if (obstacle) log.warn(`No IPv6 on ${plan.tun}: ${obstacle}; going on with IPv4`);
      const lines = linkLines(plan, obstacle === null, before);
      await Promise.all([setUp(lines, run), limitSuperPackets(plan, run, log)]);
    },
  };
}

async function setUp(lines: readonly string[], run: RunCommand): Promise<void> {
  const [failure] = await runIpBatch(run, null, lines, { stopAtFirst: true });
  if (failure === undefined) return;
  const purpose = failure.line.startsWith("address")
    ? `Cannot assign an address (ip ${failure.line})`
    : `Cannot set the interface up (ip ${failure.line})`;
  throw commandError(purpose, "ip", 1, failure.message);
}

/** Up to 64 KB one setting holds for both families (netif_set_gso_max_size in linux/netdevice.h). */
async function limitSuperPackets(plan: HostPlan, run: RunCommand, log: Log): Promise<void> {
  if (plan.gsoMaxBytes === null) return;
  const argv = ["ip", "link", "set", "dev", plan.tun, "gso_max_size", `${plan.gsoMaxBytes}`];
  const { status, stderr } = await run(argv).catch((error: unknown) => ({
    status: -1,
    stderr: messageOf(error),
  }));
  if (status !== 0)
    log.debug("The kernel keeps its own super-packet limit", { tun: plan.tun, reason: stderr.trim() });
}
