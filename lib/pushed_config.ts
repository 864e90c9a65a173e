/**
 * Whether a client can use what its server tells it. Pure.
 *
 * The control message's schema has checked each value by itself; here is what is wrong only together, or only for a
 * machine that shall keep its network. A refusal comes before anything was changed.
 */

import { makePrefix, networkOf, parsePrefix, type Prefix } from "./address.ts";
import type { SessionConfig } from "./control_message.ts";
import { OmailError } from "./errors.ts";
import { covers, singleHost } from "./route_plan.ts";

/** Networks that no tunnel carries (RFC 6890): this host, loopback, link-local, multicast and broadcast. */
const NEVER_ROUTED = [
  "0.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "224.0.0.0/3",
  "::1/128",
  "fe80::/10",
  "ff00::/8",
].map(parsePrefix);
/** Shorter prefixes of an inner address are a mistake: their connected route would be nearly everything. */
const MIN_LENGTH = { 4: 8, 6: 16 } as const;
/** Up to this length a route means "everything" (some servers push two halves), and the server is cut out of it. */
const WHOLE_LENGTH = 1;

/**
 * @param serverAddress literal outer address of the server
 * @param wanted networks that the user asked for, in which the server's own address is cut out silently
 * @throws {OmailError} naming the value that cannot be used
 */
export function checkPushedConfig(
  config: SessionConfig,
  serverAddress: string,
  wanted: readonly string[],
): void {
  for (const text of config.addresses) checkAddress(parsePrefix(text));
  for (const text of config.dns) checkDns(singleHost(text));
  const server = singleHost(serverAddress);
  const userNetworks = wanted.map(parsePrefix);
  for (const text of config.routes) checkRoute(networkOf(parsePrefix(text)), server, userNetworks);
}

function checkAddress(prefix: Prefix): void {
  const { address, length, text } = prefix;
  const least = MIN_LENGTH[address.family];
  if (isNeverRouted(makePrefix(address, address.family === 4 ? 32 : 128))) {
    throw refusal("inner address", text, "a unicast address that can be routed");
  }
  if (length < least) throw refusal("inner address", text, `a prefix length of at least ${least}`);
}

function checkDns(host: Prefix): void {
  if (isNeverRouted(host)) throw refusal("DNS server", host.address.text, "an address behind the tunnel");
}

function checkRoute(route: Prefix, server: Prefix, userNetworks: readonly Prefix[]): void {
  if (route.length > WHOLE_LENGTH && isNeverRouted(route))
    throw refusal("route", route.text, "a network that can be routed");
  const isAskedFor = userNetworks.some((network) => covers(network, route));
  if (route.length <= WHOLE_LENGTH || isAskedFor || !covers(route, server)) return;
  throw refusal(
    "route",
    route.text,
    `a network without the server's own address "${server.address.text}", which would be swallowed (to have it ` +
      `without that address: --split-tunnel ${route.text})`,
  );
}

function isNeverRouted(prefix: Prefix): boolean {
  return NEVER_ROUTED.some((network) => covers(network, prefix));
}

function refusal(what: string, value: string, expected: string): OmailError {
  return new OmailError(
    `Cannot use the server's ${what} "${value}": expected ${expected}; nothing was changed`,
  );
}
