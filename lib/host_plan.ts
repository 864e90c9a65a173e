/** What this machine must look like while a tunnel is up, as plain data; `host_setup.ts` makes it so. */

/** An outer address of a server (literal) and its port, TCP and UDP. */
export interface OuterEndpoint {
  readonly address: string;
  readonly port: number;
}

/** What a client wants. */
export interface ClientPlan {
  readonly role: "client";
  readonly tun: string;
  readonly mtuBytes: number;
  /** Interface addresses with prefix length, IPv4 and IPv6. */
  readonly addresses: readonly string[];
  /** Largest super-packet the kernel may build for the TUN; null where offload is off. */
  readonly gsoMaxBytes: number | null;
  /** Everything goes in. When false, only `routes` do. */
  readonly fullTunnel: boolean;
  /** Networks to route into the tunnel (split tunnel, or pushed ones). */
  readonly routes: readonly string[];
  /** Networks that stay outside. */
  readonly excludes: readonly string[];
  /** With a full tunnel: networks that this machine is connected to stay outside too. */
  readonly allowLan: boolean;
  /** Every address of a server that may be dialled; none ever enters the tunnel. */
  readonly endpoints: readonly OuterEndpoint[];
  /** DNS servers to use while up; empty leaves the resolver's settings alone. */
  readonly dns: readonly string[];
  /** Domains to complete short names with; with a split tunnel, the ones whose names `dns` is asked for. */
  readonly searchDomains: readonly string[];
  /** With a full tunnel: no DNS query leaves outside. */
  readonly guardDns: boolean;
}

/** What a kill switch lets out besides the tunnel, loopback, DHCP and neighbour discovery. */
export interface KillSwitchPlan {
  readonly tun: string;
  readonly excludes: readonly string[];
  readonly allowLan: boolean;
  /** Queries to a local network's resolver stay in, even with `allowLan`. */
  readonly guardDns: boolean;
}

/** What a server wants. */
export interface ServerPlan {
  readonly role: "server";
  readonly tun: string;
  readonly mtuBytes: number;
  readonly addresses: readonly string[];
  readonly gsoMaxBytes: number | null;
  /** Masquerade what comes from the tunnel's networks and leaves by another interface, and switch forwarding on. */
  readonly nat: boolean;
  /** First content of the access policy's nftables table; see `firewall_policy.ts`. */
  readonly policy?: { readonly script: string; readonly required: boolean };
}

export type HostPlan = ClientPlan | ServerPlan;
