/** DNS of a macOS client as a network service of our own in the dynamic store (scutil(8)); a reboot forgets it. */

import type { MacCommand } from "./mac_command.ts";

/** The command that makes `servers` answer all names while `tun` is up. */
export function dnsCommandsMacos(tun: string, servers: readonly string[]): readonly MacCommand[] {
  if (servers.length === 0) return [];
  const key = `State:/Network/Service/omail-${tun}/DNS`;
  // An empty supplemental match domain matches every name.
  const script = [
    "d.init",
    `d.add ServerAddresses * ${servers.join(" ")}`,
    `d.add SupplementalMatchDomains * ""`,
    `set ${key}`,
    "quit",
    "",
  ].join("\n");
  return [{ argv: ["scutil"], input: script, undo: { argv: ["scutil"], input: `remove ${key}\nquit\n` } }];
}
