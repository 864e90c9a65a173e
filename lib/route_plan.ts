/**
 * Which networks go into the tunnel and which stay outside: a client's wishes turned into plain sets of prefixes.
 *
 * Pure. The servers' own addresses and the excluded networks are cut out of every tunnel route here, so that no
 * routing table has to tell them apart later and the tunnel cannot swallow its own packets.
 */

import { makePrefix, networkOf, parseAddress, parsePrefix, prefixContains } from "./address.ts";
import { addressFromBytes, type Family, type Prefix } from "./address.ts";
import { UsageError } from "./errors.ts";
import type { ClientPlan } from "./host_plan.ts";

/** Where a client's packets go while its tunnel is up. */
export interface RoutePlan {
  /** Networks through the TUN; none is a default route, none contains a server or an excluded network. */
  readonly tunnelRoutes: readonly Prefix[];
  /** Families whose default goes through the TUN (full tunnel). */
  readonly tunnelDefaults: readonly Family[];
  /** Families without a tunnel address, unreachable while a full tunnel is up so that nothing leaves beside it. */
  readonly blockedDefaults: readonly Family[];
  /** The servers' own addresses, outside in any case. */
  readonly servers: readonly Prefix[];
  /** Networks that stay outside a full tunnel. */
  readonly bypasses: readonly Prefix[];
}

/**
 * Plans a client's routes.
 *
 * @throws {UsageError} when an address or prefix is ill-formed, or the tunnel's own network holds a server
 */
export function planRoutes(plan: ClientPlan): RoutePlan {
  const servers = uniquePrefixes(plan.endpoints.map(({ address }) => singleHost(address)));
  const connected = plan.addresses.map((text) => networkOf(parsePrefix(text)));
  refuseSwallowing(connected, servers);
  const excludes = plan.excludes.map((text) => networkOf(parsePrefix(text)));
  const holes = [...servers, ...excludes];
  const kept = new Set(connected.map((network) => network.text));
  // A split tunnel's DNS servers are asked through it: their answers may be about names that exist only there.
  const resolvers = plan.dns
    .map(singleHost)
    .filter((host) => !connected.some((network) => covers(network, host)));
  const tunnelRoutes = [...plan.routes.map((text) => networkOf(parsePrefix(text))), ...resolvers]
    .flatMap(withoutDefault)
    .flatMap((network) => subtractPrefixes(network, holes))
    .filter((network) => !kept.has(network.text) && kept.add(network.text));
  const families: readonly Family[] = plan.fullTunnel ? [4, 6] : [];
  const hasAddress = (family: Family): boolean =>
    connected.some((prefix) => prefix.address.family === family);
  return {
    tunnelRoutes,
    tunnelDefaults: families.filter(hasAddress),
    blockedDefaults: families.filter((family) => !hasAddress(family)),
    servers,
    bypasses: plan.fullTunnel ? uniquePrefixes(excludes) : [],
  };
}

function refuseSwallowing(connected: readonly Prefix[], servers: readonly Prefix[]): void {
  for (const network of connected) {
    const server = servers.find((host) => covers(network, host));
    if (server === undefined) continue;
    throw new UsageError(
      `Cannot use "${network.text}" as the tunnel's network: it contains the server's own address ` +
        `"${server.address.text}", expected a network that is not in use outside the tunnel`,
    );
  }
}

function uniquePrefixes(prefixes: readonly Prefix[]): readonly Prefix[] {
  return [...new Map(prefixes.map((prefix) => [prefix.text, prefix])).values()];
}

/**
 * The fewest prefixes that hold every address of `network` and none of `holes`.
 *
 * @returns `network` itself when no hole lies in it, nothing when a hole covers it
 */
export function subtractPrefixes(network: Prefix, holes: readonly Prefix[]): Prefix[] {
  if (holes.some((hole) => covers(hole, network))) return [];
  const inside = holes.filter((hole) => covers(network, hole));
  if (inside.length === 0) return [network];
  return halves(network).flatMap((half) => subtractPrefixes(half, inside));
}

/** Whether every address of `inner` lies in `outer`. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.length <= inner.length && prefixContains(outer, inner.address);
}

/** A default route is two halves: it must not replace the machine's own one, which is the way to the server. */
function withoutDefault(network: Prefix): readonly Prefix[] {
  return network.length === 0 ? halves(network) : [network];
}

function halves(network: Prefix): readonly [Prefix, Prefix] {
  const upper = Uint8Array.from(network.address.bytes);
  const index = network.length >> 3;
  upper[index] = upper[index]! | (0x80 >> (network.length & 7));
  const length = network.length + 1;
  return [makePrefix(network.address, length), makePrefix(addressFromBytes(upper), length)];
}

/** A single host as a prefix. */
export function singleHost(text: string): Prefix {
  const address = parseAddress(text);
  return makePrefix(address, address.family === 4 ? 32 : 128);
}
