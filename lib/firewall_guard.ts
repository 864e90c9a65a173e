/**
 * What must not leave a Linux client outside its tunnel, as nftables tables of our own (nft(8)).
 *
 * The *kill switch* lets out the tunnel, loopback, DHCP, neighbour discovery and the servers' endpoints, nothing else. It
 * is laid before the first packet to a server and stays, whatever becomes of the program, until an orderly end.
 *
 * The *DNS guard* of a full tunnel refuses queries that would leave outside. The policy rules of `routing_linux.ts` lead
 * them in already, except those of sockets bound to an interface: for them the kernel takes any destination to be on the
 * link when no route fits (ip_route_output_key_hash_rcu in net/ipv4/route.c). systemd-resolved binds its sockets so.
 *
 * Both replace themselves in one transaction, so that there is no moment without them.
 */

import { type Family, parsePrefix, type Prefix } from "./address.ts";
import type { RunCommand } from "./command.ts";
import { loadRuleset, tableName } from "./firewall_nft.ts";
import type { HostChange } from "./host_change.ts";
import type { ClientPlan, KillSwitchPlan, OuterEndpoint } from "./host_plan.ts";
import { type LocalNetworks, ofFamily } from "./local_networks.ts";
import { singleHost, subtractPrefixes } from "./route_plan.ts";
import { DNS_PORTS } from "./routing_linux.ts";

/** Name of the kill switch's table; fixed by the interface's name, so that it is found without a journal. */
export function killSwitchTableName(tun: string): string {
  return tableName("omail_kill", tun);
}

function dnsGuardTableName(tun: string): string {
  return tableName("omail_dns", tun);
}

/** The table's text in its own transaction: replaces what was there. */
function replacing(table: string, body: string): string {
  return `table inet ${table}\ndelete table inet ${table}\ntable inet ${table} {\n${body}}\n`;
}

/** A named set; without elements the keyword has to be absent. */
function namedSet(name: string, type: string, elements: readonly string[], flags = ""): string {
  const listed = elements.length === 0 ? "" : `    elements = { ${elements.join(", ")} }\n`;
  return `  set ${name} {\n    type ${type}\n${flags}${listed}  }\n`;
}

function networkSet(name: string, type: string, prefixes: readonly Prefix[]): string {
  return namedSet(name, type, disjoint(prefixes), "    flags interval\n");
}

/** Overlapping elements are an error of nft: those inside others are left out. */
function disjoint(prefixes: readonly Prefix[]): string[] {
  const kept = prefixes.filter((prefix, i) => {
    const others = prefixes.filter((other, j) => i !== j && (other.text !== prefix.text || j < i));
    return subtractPrefixes(prefix, others).length > 0;
  });
  return kept.map(({ text }) => text);
}

const DNS_REFUSAL = `    meta l4proto { tcp, udp } th dport { ${DNS_PORTS.join(", ")} } reject with icmpx admin-prohibited\n`;

/** Interfaces by which everything may go; another tunnel's own packets come by here once more, and are held then. */
function freeDevices(tun: string, { tunnels }: LocalNetworks): string[] {
  return ["lo", tun, ...tunnels].map((name) => `"${name}"`);
}

/** Endpoints of one family as elements of `ADDRESS . PROTOCOL . PORT`. */
function endpointElements(endpoints: readonly OuterEndpoint[], family: Family): string[] {
  const elements = endpoints
    .filter(({ address }) => address.includes(":") === (family === 6))
    .flatMap(({ address, port }) => ["tcp", "udp"].map((protocol) => `${address} . ${protocol} . ${port}`));
  return [...new Set(elements)];
}

/**
 * The ruleset of a kill switch for `nft -f`.
 *
 * Forwarded packets (containers, virtual machines) are held like the machine's own. Refusals are answered: programs fail
 * at once instead of waiting.
 */
export function killSwitchScript(
  plan: KillSwitchPlan,
  endpoints: readonly OuterEndpoint[],
  local: LocalNetworks,
): string {
  const excludes = plan.excludes.map(parsePrefix);
  const lan = plan.allowLan ? [...local.lan, ...local.inside, singleHost("255.255.255.255")] : [];
  const devices = freeDevices(plan.tun, local);
  const inside = local.insideDevices.map((name) => `"${name}"`).join(", ");
  return replacing(
    killSwitchTableName(plan.tun),
    namedSet("server4", "ipv4_addr . inet_proto . inet_service", endpointElements(endpoints, 4)) +
      namedSet("server6", "ipv6_addr . inet_proto . inet_service", endpointElements(endpoints, 6)) +
      networkSet("excluded4", "ipv4_addr", ofFamily(excludes, 4)) +
      networkSet("excluded6", "ipv6_addr", ofFamily(excludes, 6)) +
      networkSet("lan4", "ipv4_addr", ofFamily(lan, 4)) +
      networkSet("lan6", "ipv6_addr", plan.allowLan ? [...ofFamily(lan, 6), parsePrefix("fe80::/10")] : []) +
      `  chain leaving {
    oifname { ${devices.join(", ")} } accept
    ip daddr . meta l4proto . th dport @server4 accept
    ip6 daddr . meta l4proto . th dport @server6 accept
    udp sport 68 udp dport 67 accept
    ip6 daddr { ff02::1:2, fe80::/10 } udp sport 546 udp dport 547 accept
    icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept
    ip daddr @excluded4 accept
    ip6 daddr @excluded6 accept
${plan.guardDns ? DNS_REFUSAL : ""}    ip daddr @lan4 accept
    ip6 daddr @lan6 accept
    reject with icmpx admin-prohibited
  }
  chain output {
    type filter hook output priority filter; policy drop;
    jump leaving
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
${inside === "" ? "" : `    iifname "${plan.tun}" oifname { ${inside} } accept\n`}    jump leaving
  }
`,
  );
}

/** Plans the kill switch. Its failure ends the start: it was asked for so that nothing leaks. */
export function planKillSwitch(
  plan: KillSwitchPlan,
  endpoints: readonly OuterEndpoint[],
  local: LocalNetworks,
  run: RunCommand,
): HostChange {
  const script = killSwitchScript(plan, endpoints, local);
  return {
    name: "kill switch",
    key: script,
    undo: [{ kind: "kill-switch", table: killSwitchTableName(plan.tun) }],
    onFailure: "throw",
    apply: () => loadRuleset("Cannot lay the kill switch with nft", script, "nft_reject_inet", run),
  };
}

/** The ruleset of a full tunnel's DNS guard for `nft -f`. */
export function dnsGuardScript(plan: ClientPlan, local: LocalNetworks): string {
  const outside = [...plan.excludes.map(parsePrefix), ...local.inside];
  const devices = freeDevices(plan.tun, local);
  return replacing(
    dnsGuardTableName(plan.tun),
    networkSet("outside4", "ipv4_addr", ofFamily(outside, 4)) +
      networkSet("outside6", "ipv6_addr", ofFamily(outside, 6)) +
      `  chain leaving {
    oifname { ${devices.join(", ")} } accept
    ip daddr @outside4 accept
    ip6 daddr @outside6 accept
${DNS_REFUSAL}  }
  chain output {
    type filter hook output priority filter; policy accept;
    jump leaving
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    jump leaving
  }
`,
  );
}

/** Plans the DNS guard; null where it is not wanted. Without nft the policy rules have to do. */
export function planDnsGuard(plan: ClientPlan, local: LocalNetworks, run: RunCommand): HostChange | null {
  if (!plan.fullTunnel || !plan.guardDns) return null;
  const script = dnsGuardScript(plan, local);
  return {
    name: "DNS guard",
    key: script,
    undo: [{ kind: "nft-table", table: dnsGuardTableName(plan.tun) }],
    onFailure: "warn",
    apply: () => loadRuleset("Cannot guard DNS with nft", script, "nft_reject_inet", run),
  };
}
