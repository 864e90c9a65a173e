/** What this machine must look like while a tunnel is up, as plain data; `host_setup.ts` makes it so. */

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
  /** The server's outer address (literal) and port; its TCP and UDP never enter the tunnel. */
  readonly server: { readonly address: string; readonly port: number };
  /** DNS servers to use while up; empty leaves DNS alone. */
  readonly dns: readonly string[];
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
