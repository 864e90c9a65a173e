/** A macOS server's NAT and forwarding as commands (pfctl(8), pf.conf(5), sysctl(8)). */

import { networkOf, parsePrefix } from "./address.ts";
import type { ServerPlan } from "./host_plan.ts";
import type { MacCommand } from "./mac_command.ts";

/** What forwarding was before, as `sysctl -n` tells it. */
export interface MacForwarding {
  readonly ipv4: string;
  readonly ipv6: string;
}

/**
 * Commands for NAT behind `egress`. The anchor lies under `com.apple/`, which the system's pf.conf evaluates. pf stays
 * enabled afterwards, with no rule of ours: the reference that `pfctl -E` hands out is known only after the change.
 */
export function natCommandsMacos(
  plan: ServerPlan,
  egress: string,
  present: MacForwarding,
): readonly MacCommand[] {
  const anchor = `com.apple/omail_${plan.tun}`;
  const rules = plan.addresses
    .map((text) => networkOf(parsePrefix(text)))
    .map(({ address, text }) => {
      const family = address.family === 4 ? "inet" : "inet6";
      return `nat on ${egress} ${family} from ${text} to any -> (${egress})\n`;
    });
  return [
    {
      argv: ["pfctl", "-q", "-a", anchor, "-f", "-"],
      input: rules.join(""),
      undo: { argv: ["pfctl", "-q", "-a", anchor, "-F", "all"] },
    },
    { argv: ["pfctl", "-q", "-E"] },
    ...sysctl("net.inet.ip.forwarding", present.ipv4),
    ...sysctl("net.inet6.ip6.forwarding", present.ipv6),
  ];
}

function sysctl(name: string, present: string): readonly MacCommand[] {
  if (present === "1") return [];
  return [{ argv: ["sysctl", "-w", `${name}=1`], undo: { argv: ["sysctl", "-w", `${name}=${present}`] } }];
}
