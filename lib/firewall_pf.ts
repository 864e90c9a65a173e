/**
 * pf on macOS as commands (pfctl(8), pf.conf(5), sysctl(8)): a server's NAT and forwarding, a client's kill switch and
 * DNS guard. Anchors lie under `com.apple/`, which the system's pf.conf evaluates.
 */

import { networkOf, parsePrefix } from "./address.ts";
import type { ClientPlan, KillSwitchPlan, OuterEndpoint, ServerPlan } from "./host_plan.ts";
import type { MacCommand } from "./mac_command.ts";

/** What forwarding was before, as `sysctl -n` tells it. */
export interface MacForwarding {
  readonly ipv4: string;
  readonly ipv6: string;
}

/**
 * Commands for NAT behind `egress`. pf stays enabled afterwards, with no rule of ours: the reference that `pfctl -E` hands out is known only after the change.
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
    ...loadAnchor(anchor, rules.join("")),
    ...sysctl("net.inet.ip.forwarding", present.ipv4),
    ...sysctl("net.inet6.ip6.forwarding", present.ipv6),
  ];
}

function sysctl(name: string, present: string): readonly MacCommand[] {
  if (present === "1") return [];
  return [{ argv: ["sysctl", "-w", `${name}=1`], undo: { argv: ["sysctl", "-w", `${name}=${present}`] } }];
}

/** DNS, and over TLS or QUIC. */
const DNS_PORTS = "{ 53 853 }";
const KILL_SWITCH_ANCHOR = "com.apple/omail_kill_";
/** Networks that count as local: pf knows no set that follows the interfaces (RFC 1918, RFC 3927, RFC 4193, RFC 4291). */
const LAN =
  "{ 10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 169.254.0.0/16 255.255.255.255 fc00::/7 fe80::/10 ff02::/16 }";

/** Whether an undo command lifts a kill switch. */
export function isKillSwitchCommand(argv: readonly string[]): boolean {
  return argv[0] === "pfctl" && argv.some((word) => word.startsWith(KILL_SWITCH_ANCHOR));
}

/**
 * Commands for a kill switch: the same exceptions, in the same order, as `killSwitchScript` of `firewall_guard.ts`.
 * Loading an anchor replaces its rules in one transaction.
 */
export function killSwitchCommandsMacos(
  { tun, excludes, allowLan, guardDns }: KillSwitchPlan,
  endpoints: readonly OuterEndpoint[],
): readonly MacCommand[] {
  const servers = [...new Set(endpoints.map(({ address, port }) => `to ${address} port ${port}`))];
  const rules = [
    "pass out quick on lo0 all",
    `pass out quick on ${tun} all`,
    ...servers.map((server) => `pass out quick proto { tcp udp } ${server}`),
    "pass out quick inet proto udp from any port 68 to any port 67",
    "pass out quick inet6 proto udp from any port 546 to { ff02::1:2 fe80::/10 } port 547",
    "pass out quick inet6 proto icmp6 icmp6-type { routersol neighbrsol neighbradv }",
    ...excludes.map((network) => `pass out quick to ${network}`),
    ...(guardDns ? [`block return out quick proto { tcp udp } to any port ${DNS_PORTS}`] : []),
    ...(allowLan ? [`pass out quick to ${LAN}`] : []),
    "block return out quick all",
  ];
  return loadAnchor(`${KILL_SWITCH_ANCHOR}${tun}`, `${rules.join("\n")}\n`);
}

/** Commands for the DNS guard of a full tunnel; see `firewall_guard.ts`. */
export function dnsGuardCommandsMacos(plan: ClientPlan): readonly MacCommand[] {
  if (!plan.fullTunnel || !plan.guardDns) return [];
  const rules = [
    "pass out quick on lo0 all",
    `pass out quick on ${plan.tun} all`,
    ...plan.excludes.map((network) => `pass out quick to ${network}`),
    `block return out quick proto { tcp udp } to any port ${DNS_PORTS}`,
  ];
  return loadAnchor(`com.apple/omail_dns_${plan.tun}`, `${rules.join("\n")}\n`);
}

function loadAnchor(anchor: string, rules: string): readonly MacCommand[] {
  return [
    {
      argv: ["pfctl", "-q", "-a", anchor, "-f", "-"],
      input: rules,
      undo: { argv: ["pfctl", "-q", "-a", anchor, "-F", "all"] },
    },
    { argv: ["pfctl", "-q", "-E"] },
  ];
}
