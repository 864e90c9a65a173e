/**
 * Which user may reach which networks and ports through the tunnel. Pure.
 *
 * Rules allow and add up. A user whom no rule names gets the default: what was pushed to it. A user whom a rule names
 * gets what its rules say and nothing else. Other clients are reached only by a rule that says `clients`, or names a
 * network inside the tunnel's own: a wide network such as 0.0.0.0/0 does not mean them. `firewall_policy.ts` makes the
 * kernel enforce exactly what {@link decide} answers.
 */

import { type Address, type Prefix, parseNetwork, prefixContains } from "./address.ts";

/** Networks by a word instead of a number. */
export const NETWORK_WORDS = ["all", "pushed", "server", "clients"] as const;
export type NetworkWord = (typeof NETWORK_WORDS)[number];

export const PROTOCOLS = ["any", "tcp", "udp", "icmp"] as const;
export type PolicyProtocol = (typeof PROTOCOLS)[number];

/** What a user may reach that no rule names. */
export const POLICY_DEFAULTS = ["pushed", "all", "none"] as const;
export type PolicyDefault = (typeof POLICY_DEFAULTS)[number];

/** Ports `from` to `to`, both included, 1 to 65,535. */
export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** One `[[policy]]` entry. */
export interface PolicyRule {
  /** Names of users, `@group`, or `*` for everybody. */
  readonly who: readonly string[];
  /** CIDR texts and {@link NETWORK_WORDS}. */
  readonly networks: readonly string[];
  readonly proto: PolicyProtocol;
  /** Empty means all; only with `tcp` or `udp`. */
  readonly ports: readonly PortRange[];
}

/** What the words in a policy stand for on this server. */
export interface PolicyNetworks {
  /** The server's inner addresses, for example `10.8.0.1/24`. */
  readonly server: readonly Prefix[];
  /** Networks that lie behind the tunnel: the inner ones, and those behind clients. */
  readonly tunnel: readonly Prefix[];
  readonly pushRoutes: readonly Prefix[];
  readonly pushDns: readonly Address[];
}

/** A whole policy. */
export interface AccessPolicy {
  readonly rules: readonly PolicyRule[];
  readonly otherwise: PolicyDefault;
  readonly networks: PolicyNetworks;
}

/** A target with everything resolved, as the firewall needs it. */
export interface PolicyGrant {
  readonly network: Prefix;
  /** Whether the target is another client; such a grant says nothing about the rest of the world. */
  readonly clients: boolean;
  readonly proto: PolicyProtocol;
  readonly ports: readonly PortRange[];
  /** Index of the rule it comes from; null for the default. */
  readonly rule: number | null;
}

/** What a connection is asked about. `port` is null for ICMP. */
export interface PolicyQuestion {
  readonly address: Address;
  readonly proto: Exclude<PolicyProtocol, "any">;
  readonly port: number | null;
}

const EVERYTHING: readonly Prefix[] = ["0.0.0.0/0", "::/0"].map(parseNetwork);
/** DNS servers that were pushed are reached on this port whatever the rules say: nothing works without them. */
const DNS_PORT: PortRange = { from: 53, to: 53 };

/** What a user with these groups may reach, in the order of the rules. */
export function grantsFor(
  policy: AccessPolicy,
  user: string,
  groups: readonly string[],
): readonly PolicyGrant[] {
  const names = new Set(["*", user, ...groups.map((group) => `@${group}`)]);
  const own = policy.rules.flatMap((rule, index) =>
    rule.who.some((who) => names.has(who)) ? grantsOfRule(policy.networks, rule, index) : [],
  );
  const named = policy.rules.some(({ who }) => who.some((name) => names.has(name)));
  return [...(named ? own : defaultGrants(policy)), ...dnsGrants(policy.networks)];
}

/** The policy as it is for a user to whom more routes are pushed; where none are pushed to others, all is allowed already. */
export function withPushedRoutes(policy: AccessPolicy, routes: readonly string[]): AccessPolicy {
  const { networks } = policy;
  if (routes.length === 0 || networks.pushRoutes.length === 0) return policy;
  return {
    ...policy,
    networks: { ...networks, pushRoutes: [...networks.pushRoutes, ...routes.map(parseNetwork)] },
  };
}

/** The grant that lets a connection through; null when it is refused. */
export function decide(
  policy: AccessPolicy,
  grants: readonly PolicyGrant[],
  question: PolicyQuestion,
): PolicyGrant | null {
  const { address, proto, port } = question;
  const toClient = isClient(policy.networks, address);
  const found = grants.find(
    (grant) =>
      grant.clients === toClient &&
      prefixContains(grant.network, address) &&
      (grant.proto === "any" || grant.proto === proto) &&
      (grant.ports.length === 0 ||
        grant.ports.some(({ from, to }) => port !== null && from <= port && port <= to)),
  );
  return found ?? null;
}

/** Whether an address is behind the tunnel, and not the server itself. */
function isClient({ server, tunnel }: PolicyNetworks, address: Address): boolean {
  if (server.some((own) => own.address.text === address.text)) return false;
  return tunnel.some((network) => prefixContains(network, address));
}

function defaultGrants({ otherwise, networks }: AccessPolicy): readonly PolicyGrant[] {
  if (otherwise === "none") return [];
  return resolve(networks, otherwise).map((target) => ({ ...target, proto: "any", ports: [], rule: null }));
}

function grantsOfRule(networks: PolicyNetworks, rule: PolicyRule, index: number): readonly PolicyGrant[] {
  const { proto, ports } = rule;
  return rule.networks.flatMap((text) =>
    resolve(networks, text).map((target) => ({ ...target, proto, ports, rule: index })),
  );
}

function dnsGrants({ pushDns }: PolicyNetworks): readonly PolicyGrant[] {
  return pushDns.flatMap((address) =>
    (["udp", "tcp"] as const).map((proto) => ({
      network: hostOf(address),
      clients: false,
      proto,
      ports: [DNS_PORT],
      rule: null,
    })),
  );
}

type Target = Pick<PolicyGrant, "network" | "clients">;

/** Targets that are no clients. */
function outside(prefixes: readonly Prefix[]): readonly Target[] {
  return prefixes.map((network) => ({ network, clients: false }));
}

/** The networks that a text of a rule stands for. */
function resolve(networks: PolicyNetworks, text: string): readonly Target[] {
  const server = networks.server.map(({ address }) => hostOf(address));
  switch (text) {
    case "all":
      return outside(EVERYTHING);
    case "server":
      return outside(server);
    case "clients":
      return networks.tunnel.map((network) => ({ network, clients: true }));
    case "pushed":
      // a server that pushes nothing is one for full tunnels
      return outside(networks.pushRoutes.length === 0 ? EVERYTHING : [...networks.pushRoutes, ...server]);
    default:
      return resolveNetwork(networks, parseNetwork(text));
  }
}

/** A network inside the tunnel's own names clients, and the server if it holds its address. */
function resolveNetwork({ tunnel, server }: PolicyNetworks, network: Prefix): readonly Target[] {
  const inside = tunnel.some((own) => own.length <= network.length && prefixContains(own, network.address));
  if (!inside) return [{ network, clients: false }];
  const own = server
    .filter(({ address }) => prefixContains(network, address))
    .map(({ address }) => hostOf(address));
  return [{ network, clients: true }, ...own.map((host) => ({ network: host, clients: false }))];
}

function hostOf(address: Address): Prefix {
  const length = address.bytes.length * 8;
  return { address, length, text: `${address.text}/${length}` };
}

/** Writes a rule as a person would say it. */
export function formatRule({ who, networks, proto, ports }: PolicyRule): string {
  const what = proto === "any" ? "everything" : [proto, formatPorts(ports)].filter(Boolean).join(" ");
  return `${who.join(", ")} may reach ${networks.join(", ")} by ${what}`;
}

/** Ports as text: `80,8000-8100`; empty for all. */
export function formatPorts(ports: readonly PortRange[]): string {
  return ports.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`)).join(",");
}
