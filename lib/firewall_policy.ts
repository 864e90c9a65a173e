/**
 * A server's access policy on Linux as one nftables table of our own (nft(8)), replaced whole and atomically.
 *
 * Every packet that comes out of the tunnel is judged by its source, which the data plane has checked: a verdict map
 * leads to the rules of whoever has that address. Without rules in the configuration there is no map, no look at the
 * server's own ports and, without NAT, no connection tracking: one comparison a packet.
 */

import type { PolicyGrant, PortRange } from "./access_policy.ts";
import { expectCommand, type RunCommand } from "./command.ts";
import { natTableName } from "./firewall_nft.ts";
import type { HostChange } from "./host_change.ts";

/** What a table is made from. */
export interface PolicyTable {
  readonly tun: string;
  /** Grants of those who are in no set of members; the only ones when {@link byMember} is off. */
  readonly otherwise: readonly PolicyGrant[];
  /** There are rules: sources without an entry are dropped, and the server's own ports are guarded too. */
  readonly byMember: boolean;
  readonly members: readonly PolicyMember[];
  /** Answers to connections from outside pass; costs connection tracking. */
  readonly tracked: boolean;
}

/** Inner addresses (without prefix length), networks behind a client, and what may be reached from them. */
export interface PolicyMember {
  readonly addresses: readonly string[];
  readonly grants: readonly PolicyGrant[];
}

/** The name of the table for an interface. */
export function policyTableName(tun: string): string {
  return `${natTableName(tun)}_policy`;
}

/** The script for `nft -f`: replaces the table, whether it was there or not. */
export function policyScript(policy: PolicyTable): string {
  const table = `inet ${policyTableName(policy.tun)}`;
  const lines = policy.byMember ? memberLines(policy) : defaultLines(policy);
  return [`table ${table}`, `delete table ${table}`, `table ${table} {`, ...lines, "}", ""].join("\n");
}

function defaultLines({ tun, otherwise, tracked }: PolicyTable): string[] {
  return [
    ...chain("otherwise", grantLines(tun, otherwise)),
    ...chain("forward", [
      "type filter hook forward priority filter; policy accept;",
      ...answers(tun, tracked),
      `iifname "${tun}" goto otherwise`,
    ]),
  ];
}

function memberLines({ tun, members, tracked }: PolicyTable): string[] {
  /** Members with the same grants share a chain. */
  const chains = new Map<string, string>();
  const elements: Record<4 | 6, string[]> = { 4: [], 6: [] };
  for (const { addresses, grants } of members) {
    const lines = grantLines(tun, grants).join("\n");
    const name = chains.get(lines) ?? `member${chains.size}`;
    chains.set(lines, name);
    for (const address of addresses)
      elements[address.includes(":") ? 6 : 4].push(`${address} : goto ${name}`);
  }
  const judge = [
    ...answers(tun, tracked),
    `iifname "${tun}" ip saddr vmap @members4`,
    `iifname "${tun}" ip6 saddr vmap @members6`,
    `iifname "${tun}" counter drop`,
  ];
  return [
    ...[...chains].flatMap(([lines, name]) => chain(name, lines.split("\n"))),
    ...map("members4", "ipv4_addr", elements[4]),
    ...map("members6", "ipv6_addr", elements[6]),
    ...chain("forward", ["type filter hook forward priority filter; policy accept;", ...judge]),
    ...chain("input", ["type filter hook input priority filter; policy accept;", ...judge]),
  ];
}

function answers(tun: string, tracked: boolean): string[] {
  return tracked ? [`iifname "${tun}" ct direction reply accept`] : [];
}

/** Grants for other clients count where the packet goes back into the tunnel, all others where it does not. */
function grantLines(tun: string, grants: readonly PolicyGrant[]): string[] {
  const clients = grants
    .filter((grant) => grant.clients)
    .map((grant) => `oifname "${tun}" ${matchOf(grant)} accept`);
  const refuse = "counter reject with icmpx admin-prohibited";
  const others = grants.filter((grant) => !grant.clients).map((grant) => `${matchOf(grant)} accept`);
  return [...clients, `oifname "${tun}" ${refuse}`, ...others, refuse];
}

function matchOf({ network, proto, ports }: PolicyGrant): string {
  const family = network.address.family === 4 ? "ip" : "ip6";
  const icmp = network.address.family === 4 ? "icmp" : "ipv6-icmp";
  const target =
    network.length === 0
      ? `meta nfproto ${family === "ip" ? "ipv4" : "ipv6"}`
      : `${family} daddr ${network.text}`;
  if (proto === "any") return target;
  if (proto === "icmp") return `${target} meta l4proto ${icmp}`;
  return ports.length === 0
    ? `${target} meta l4proto ${proto}`
    : `${target} ${proto} dport ${portSet(ports)}`;
}

function portSet(ports: readonly PortRange[]): string {
  return `{ ${ports.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`)).join(", ")} }`;
}

function chain(name: string, lines: readonly string[]): string[] {
  return [`  chain ${name} {`, ...lines.map((line) => `    ${line}`), "  }"];
}

function map(name: string, type: string, elements: readonly string[]): string[] {
  const content = elements.length === 0 ? [] : [`    elements = { ${elements.join(", ")} }`];
  // networks behind clients stand beside single addresses
  return [`  map ${name} {`, `    type ${type} : verdict`, "    flags interval", ...content, "  }"];
}

/** Loads a script of {@link policyScript}. @throws {SystemError} when nft does not take it; nothing has changed then */
export async function loadPolicy(script: string, run: RunCommand): Promise<void> {
  await expectCommand(run, "Cannot set the access policy with nft", ["nft", "-f", "-"], script);
}

/** Plans the table with its first content; later ones replace it by {@link loadPolicy}, under the same undo step. */
export function planPolicy(
  tun: string,
  policy: { readonly script: string; readonly required: boolean },
  run: RunCommand,
): HostChange {
  return {
    name: "access policy",
    // what changes later is loaded by its keeper
    key: policyTableName(tun),
    undo: [{ kind: "nft-table", table: policyTableName(tun) }],
    onFailure: policy.required ? "throw" : "warn",
    apply: () => loadPolicy(policy.script, run),
  };
}
