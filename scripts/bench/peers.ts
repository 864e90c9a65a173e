/** The tunnels that can be compared, by name. */

import { openvpn } from "./peer_openvpn.ts";
import { omail } from "./peer_omail.ts";
import { wireguard } from "./peer_wireguard.ts";
import { outerOf } from "./testbed.ts";
import type { Peer, Tunnel } from "./tunnel.ts";

/** The peer that the others are measured against. */
export const BASE = "wireguard-go";

/** All peers. @param root the directory of the two executables @param wireguardGo file, or a name on PATH */
export function allPeers(root: string, wireguardGo: string): readonly Peer[] {
  return [
    veth(),
    wireguard(BASE, wireguardGo),
    openvpn("openvpn", "udp"),
    openvpn("openvpn-tcp", "tcp"),
    omail("omail", root, "web", "udp"),
    omail("omail-sync", root, "sync", "udp"),
    omail("omail-tcp", root, "web", "tcp"),
    omail("omail-sync-tcp", root, "sync", "tcp"),
  ];
}

/** No tunnel: what the machine itself can do. */
function veth(): Peer {
  const tunnel: Tunnel = { target: outerOf("client").server, programs: [] };
  return {
    name: "veth",
    version: null,
    obstacle: null,
    mostClients: 1,
    start: () => Promise.resolve(tunnel),
  };
}
