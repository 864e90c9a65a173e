/** DNS of a macOS client as a network service of our own in the dynamic store (scutil(8)); a reboot forgets it. */

import type { MacCommand } from "./mac_command.ts";

/**
 * The command that makes `servers` answer while `tun` is up: all names, or with a split tunnel those of its domains.
 *
 * @param searchDomains complete short names too
 */
export function dnsCommandsMacos(
  tun: string,
  servers: readonly string[],
  searchDomains: readonly string[],
  fullTunnel: boolean,
): readonly MacCommand[] {
  if (servers.length === 0) return [];
  const key = `State:/Network/Service/omail-${tun}/DNS`;
  const split = !fullTunnel && searchDomains.length > 0;
  const script = [
    "d.init",
    `d.add ServerAddresses * ${servers.join(" ")}`,
    ...(searchDomains.length === 0 ? [] : [`d.add SearchDomains * ${searchDomains.join(" ")}`]),
    // An empty supplemental match domain matches every name.
    `d.add SupplementalMatchDomains * ${split ? searchDomains.join(" ") : '""'}`,
    `set ${key}`,
    "quit",
    "",
  ].join("\n");
  return [{ argv: ["scutil"], input: script, undo: { argv: ["scutil"], input: `remove ${key}\nquit\n` } }];
}
