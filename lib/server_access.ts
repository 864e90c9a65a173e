/** The access policy that a server's configuration means. Pure. */

import type { AccessPolicy } from "./access_policy.ts";
import { networkOf, parseAddress, parseNetwork, parsePrefix } from "./address.ts";
import type { ServerConfig } from "./config_server.ts";

/** @param addresses the server's inner addresses, for example `10.8.0.1/24` */
export function accessPolicyOf(config: ServerConfig, addresses: readonly string[]): AccessPolicy {
  const server = addresses.map(parsePrefix);
  return {
    rules: config.policy,
    otherwise: config.policyDefault,
    networks: {
      server,
      tunnel: server.map(networkOf),
      pushRoutes: config.pushRoutes.map(parseNetwork),
      pushDns: config.pushDns.map(parseAddress),
    },
  };
}
