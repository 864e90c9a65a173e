/**
 * A utun's addresses and routes on macOS as commands (ifconfig(8), route(8)).
 *
 * macOS has no policy rules: a full tunnel is two half-size routes per family, which win over the default route
 * without replacing it; the servers and the excluded networks get routes by the present gateway, and new ones when it
 * changes. What the machine is connected to stays reachable (macOS prefers those routes) unless pf holds it back.
 */

import { networkOf, parsePrefix, type Family, type Prefix } from "./address.ts";
import type { ClientPlan, HostPlan } from "./host_plan.ts";
import type { MacCommand } from "./mac_command.ts";
import type { RoutePlan } from "./route_plan.ts";

/** The present default gateways, as `route -n get default` tells them; null when there is none. */
export type Gateways = Readonly<Record<Family, string | null>>;

const HALVES: Readonly<Record<Family, readonly string[]>> = {
  4: ["0.0.0.0/1", "128.0.0.0/1"],
  6: ["::/1", "8000::/1"],
};
const LOOPBACK: Readonly<Record<Family, string>> = { 4: "127.0.0.1", 6: "::1" };

/** Commands that give the device its MTU and addresses. */
export function linkCommandsMacos(plan: HostPlan): readonly MacCommand[] {
  const addresses = plan.addresses.map(parsePrefix);
  return [
    { argv: ["ifconfig", plan.tun, "mtu", `${plan.mtuBytes}`] },
    ...addresses.map(({ address, text }) => ({
      // A utun is a point-to-point interface: IPv4 wants a peer, and our own address does.
      argv:
        address.family === 4
          ? ["ifconfig", plan.tun, "inet", text, address.text, "alias"]
          : ["ifconfig", plan.tun, "inet6", text, "alias"],
    })),
    { argv: ["ifconfig", plan.tun, "up"] },
    // No connected route comes with a point-to-point address.
    ...addresses.map((prefix) => viaTun(networkOf(prefix).text, prefix.address.family, plan.tun)),
  ];
}

/** Commands that route a client's networks. */
export function routeCommandsMacos(
  plan: ClientPlan,
  routes: RoutePlan,
  gateways: Gateways,
): readonly MacCommand[] {
  const outside = plan.fullTunnel ? [...routes.servers, ...routes.bypasses] : [];
  return [
    ...outside.flatMap((prefix) => viaGateway(prefix, gateways)),
    ...routes.tunnelRoutes.map(({ text, address }) => withUndo(address.family, text, "-interface", plan.tun)),
    ...routes.tunnelDefaults.flatMap((family) =>
      HALVES[family].map((text) => withUndo(family, text, "-interface", plan.tun)),
    ),
    ...routes.blockedDefaults.flatMap((family) => HALVES[family].map((text) => blocked(text, family))),
  ];
}

function viaTun(network: string, family: Family, tun: string): MacCommand {
  return { argv: route("add", family, network, "-interface", tun) };
}

function viaGateway({ text, address }: Prefix, gateways: Gateways): readonly MacCommand[] {
  const gateway = gateways[address.family];
  if (gateway === null) return [];
  return [withUndo(address.family, text, "-gateway", gateway)];
}

function blocked(network: string, family: Family): MacCommand {
  return withUndo(family, network, LOOPBACK[family], "-reject");
}

function withUndo(family: Family, network: string, ...way: string[]): MacCommand {
  return {
    argv: route("add", family, network, ...way),
    undo: { argv: route("delete", family, network, ...way) },
  };
}

function route(verb: "add" | "delete", family: Family, network: string, ...way: string[]): string[] {
  return ["route", "-q", "-n", verb, family === 4 ? "-inet" : "-inet6", network, ...way];
}
