/**
 * Which networks this machine is connected to, read from what `ip -json` says (ip-link(8), ip-route(8)). Pure.
 *
 * Two kinds, because a full tunnel treats them differently. Networks *inside* the machine (bridges of containers and
 * virtual machines, other tunnels) stay as they are: their packets go nowhere else. The *local network* is what hangs on
 * the other interfaces; it is reachable only if the user says so.
 */

import { parsePrefix, type Family, type Prefix } from "./address.ts";

/** Networks outside a tunnel, by where they are. */
export interface LocalNetworks {
  readonly inside: readonly Prefix[];
  readonly insideDevices: readonly string[];
  /** Other tunnels among them: what goes into one leaves the machine as packets of that tunnel. */
  readonly tunnels: readonly string[];
  readonly lan: readonly Prefix[];
}

/** A machine without any network. */
export const NO_LOCAL_NETWORKS: LocalNetworks = { inside: [], insideDevices: [], tunnels: [], lan: [] };

/** What `ip -json` printed. */
export interface IpOutput {
  /** `ip -json -details link show` */
  readonly links: string;
  /** `ip -4 -json route show table main` and the same with -6. */
  readonly routes4: string;
  readonly routes6: string;
}

/** Kinds of links whose packets stay in the machine or go into another tunnel (IFLA_INFO_KIND). */
const TUNNEL_KINDS = new Set(["tun", "wireguard"]);
const INSIDE_KINDS = new Set(["bridge", "dummy", ...TUNNEL_KINDS]);
/** More are not worth rules of their own. */
const MAX_NETWORKS = 64;
/**
 * What a local network may be. An access point chooses the network that it gives out: if it may be any, it can draw
 * whatever traffic it likes out of the tunnel by claiming to be its destination's network ("TunnelCrack", 2023). Private
 * and shared addresses (RFC 1918, RFC 6598, RFC 3927) are taken in any size, others only as small networks.
 */
const PRIVATE_IPV4 =
  /^(10\.|192\.168\.|172\.(1[6-9]|2\d|3[01])\.|100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.|169\.254\.)/;
const MIN_PRIVATE_LENGTH = 8;
const MIN_PUBLIC_LENGTH = 24;
const MIN_IPV6_LENGTH = 64;

interface Link {
  readonly ifname: string;
  readonly linkinfo?: { readonly info_kind?: string };
}

interface Route {
  readonly dst: string;
  readonly dev: string;
  readonly gateway?: string;
  readonly protocol?: string;
}

/**
 * Reads the networks that this machine is connected to.
 *
 * @param tun our own interface, which is none of them
 * @throws {SyntaxError} when a text is not JSON
 */
export function localNetworks(output: IpOutput, tun: string): LocalNetworks {
  const links = readList(output.links).filter(isLink);
  const routes = [...readList(output.routes4), ...readList(output.routes6)].filter(isRoute);
  const uplinks = new Set(routes.filter(({ dst }) => dst === "default").map(({ dev }) => dev));
  const devicesOf = (kinds: ReadonlySet<string>): string[] =>
    links
      .filter(({ ifname, linkinfo }) => kinds.has(linkinfo?.info_kind ?? "") && !uplinks.has(ifname))
      .map(({ ifname }) => ifname)
      .filter((name) => name !== tun);
  const insideDevices = devicesOf(INSIDE_KINDS);
  const isInside = new Set(insideDevices);
  const others = routes.filter(({ dst, dev }) => dst !== "default" && dev !== tun && dev !== "lo");
  const lanRoutes = others.filter((route) => !isInside.has(route.dev) && isConnected(route));
  return {
    inside: prefixesOf(others.filter(({ dev }) => isInside.has(dev))),
    insideDevices,
    tunnels: devicesOf(TUNNEL_KINDS),
    lan: prefixesOf(lanRoutes).filter(mayBeLocal),
  };
}

/** Made by the kernel for an interface's address, or by a router advertisement; a route that DHCP gave is neither. */
function isConnected({ gateway, protocol }: Route): boolean {
  return gateway === undefined && (protocol === "kernel" || protocol === "ra");
}

/** Those of one family. */
export function ofFamily(prefixes: readonly Prefix[], family: Family): readonly Prefix[] {
  return prefixes.filter((prefix) => prefix.address.family === family);
}

function prefixesOf(routes: readonly Route[]): readonly Prefix[] {
  const prefixes = routes.map(({ dst }) => parsePrefix(dst)).filter((prefix) => !isScoped(prefix));
  return [...new Map(prefixes.map((prefix) => [prefix.text, prefix])).values()].slice(0, MAX_NETWORKS);
}

/** Link-local IPv6 needs an interface in every packet: no rule by destination is for it. Multicast likewise. */
function isScoped({ address }: Prefix): boolean {
  return address.family === 6 && (address.bytes[0] === 0xff || /^fe[89ab]/.test(address.text));
}

function mayBeLocal({ address, length }: Prefix): boolean {
  if (address.family === 6) return length >= MIN_IPV6_LENGTH;
  return length >= (PRIVATE_IPV4.test(address.text) ? MIN_PRIVATE_LENGTH : MIN_PUBLIC_LENGTH);
}

function readList(json: string): readonly unknown[] {
  const value: unknown = JSON.parse(json.trim() || "[]");
  return Array.isArray(value) ? value : [];
}

function isLink(value: unknown): value is Link {
  return typeof value === "object" && value !== null && "ifname" in value && typeof value.ifname === "string";
}

/** Routes without an interface (unreachable, blackhole, several next hops) are nobody's network. */
function isRoute(value: unknown): value is Route {
  if (typeof value !== "object" || value === null || !("dst" in value) || !("dev" in value)) return false;
  const { dst, dev } = value;
  return typeof dst === "string" && typeof dev === "string" && (dst === "default" || canRead(dst));
}

function canRead(text: string): boolean {
  try {
    parsePrefix(text);
    return true;
  } catch {
    return false; // "multicast" and the like
  }
}
