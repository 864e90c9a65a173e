/** What of `check` asks the kernel where packets would go: leaks of routes and of DNS beside a full tunnel. */

import { readFileSync } from "node:fs";
import { type Family, formatHostPort, type HostPort, parseAddress } from "./address.ts";
import { hasDefaultInto, parseNameServers, parseRouteGet, type Way } from "./check_parse.ts";
import { type Finding, finding } from "./check_report.ts";
import type { RunCommand } from "./command.ts";

/**
 * Destinations whose way is asked for, nothing is sent to them: both halves of IPv4 (a pair of /1 routes is what draws
 * traffic out of a tunnel, CVE-2024-3661) and of the global IPv6 space (2000::/3).
 */
const DESTINATIONS: readonly string[] = [
  "1.1.1.1",
  "9.9.9.9",
  "193.0.14.129",
  "2001:500:1::53",
  "2a00:1450::1",
];
const DNS_PORT = 53;
const RESOLV_CONF = "/etc/resolv.conf";

/** Whether a full tunnel of this name is up: its table has the default route, whatever rules lead there. */
export async function hasFullTunnel(tun: string, run: RunCommand): Promise<boolean> {
  for (const family of [4, 6] as const) {
    const { stdout } = await run(["ip", `-${family}`, "-json", "route", "show", "table", "all"]);
    if (hasDefaultInto(stdout, tun)) return true;
  }
  return false;
}

/** Where everything goes, both families, and the tunnel's own packets. */
export async function checkRouteLeak(
  tun: string,
  server: HostPort | null,
  run: RunCommand,
): Promise<readonly Finding[]> {
  const name = "route leak";
  const leaks: string[] = [];
  const unreachable = new Set<Family>();
  for (const address of DESTINATIONS) {
    const way = await wayTo(address, [], run);
    if (way === "unreachable") unreachable.add(parseAddress(address).family);
    else if (way.dev !== tun) leaks.push(`${address} by ${way.dev}`);
  }
  const blocked = unreachable.has(6) ? "; IPv6 is out of reach" : "";
  return [
    leaks.length > 0
      ? finding(
          name,
          "failure",
          `outside the tunnel: ${leaks.join(", ")}`,
          `another rule or route wins: see "ip rule" above preference 29900, or end the program that set it; --kill-switch stops such packets`,
          leaks.length,
        )
      : unreachable.has(4)
        ? finding(
            name,
            "warning",
            `nothing leaks, but IPv4 is out of reach${blocked}`,
            "ask the server's operator for an IPv4 address",
            0,
          )
        : finding(name, "ok", `all of ${DESTINATIONS.length} destinations by ${tun}${blocked}`, "", 0),
    ...(server === null ? [] : await checkLoop(tun, server, run)),
  ];
}

/** The tunnel's own packets must not go into the tunnel. */
async function checkLoop(tun: string, server: HostPort, run: RunCommand): Promise<readonly Finding[]> {
  const way = await wayTo(server.host, ["ipproto", "udp", "dport", `${server.port}`], run);
  const name = "route to server";
  if (way === "unreachable") {
    return [finding(name, "failure", `${server.host} is unreachable`, "check this machine's own network")];
  }
  return [
    way.dev === tun
      ? finding(
          name,
          "failure",
          `${formatHostPort(server)} by ${tun}: a loop`,
          "end the client with `omail-client down` and start it again",
        )
      : finding(name, "ok", `${formatHostPort(server)} by ${way.dev}`),
  ];
}

/** Where queries to the resolvers of this machine go. */
export async function checkDnsLeak(tun: string, run: RunCommand): Promise<Finding> {
  const name = "DNS leak";
  const resolvers = parseNameServers(readResolvConf());
  if (resolvers.length === 0) {
    return finding(
      name,
      "warning",
      `${RESOLV_CONF} names no resolver`,
      "no name can be resolved: name one with --dns",
    );
  }
  const leaks: string[] = [];
  for (const resolver of resolvers) {
    // A resolver on this machine asks others: their way is that of any query.
    const asked = isLoopback(resolver) ? DESTINATIONS : [resolver];
    for (const address of asked) {
      const way = await wayTo(address, ["ipproto", "udp", "dport", `${DNS_PORT}`], run);
      if (way !== "unreachable" && way.dev !== tun) leaks.push(`${address} by ${way.dev}`);
    }
  }
  return leaks.length === 0
    ? finding(name, "ok", `queries to ${resolvers.join(", ")} by ${tun}`, "", 0)
    : finding(
        name,
        "failure",
        `queries outside the tunnel: ${leaks.join(", ")}`,
        "name a resolver inside the tunnel with --dns, and start the client without --no-dns",
        leaks.length,
      );
}

function readResolvConf(): string {
  try {
    return readFileSync(RESOLV_CONF, "utf8");
  } catch {
    return ""; // no such file: no resolver
  }
}

function isLoopback(address: string): boolean {
  return address.startsWith("127.") || address === "::1";
}

async function wayTo(address: string, selector: readonly string[], run: RunCommand): Promise<Way> {
  const { stdout } = await run(["ip", "-json", "route", "get", address, ...selector]);
  return parseRouteGet(stdout);
}
