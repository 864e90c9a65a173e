/** What every tunnel that is measured has in common. */

import type { Started, Testbed } from "./testbed.ts";

/** A started tunnel. */
export interface Tunnel {
  /** Address of the server through the tunnel. */
  readonly target: string;
  /** The tunnel's own programs. */
  readonly programs: readonly Started[];
  /** State directories of `omail-server` and of the first `omail-client`; null for other tunnels. */
  readonly stateDirs?: { readonly server: string; readonly client: string };
  /** What clients of `omail-server` log in with. */
  readonly password?: string;
}

/** One tunnel, or none. */
export interface Peer {
  readonly name: string;
  /** Answers with its version, on the first line; null when there is nothing to ask. */
  readonly version: readonly string[] | null;
  /** What is missing here and how to get it; null when it can run. */
  readonly obstacle: string | null;
  /** Most clients at once. */
  readonly mostClients: number;
  /** Starts the server, and a client for each of the test bed's. */
  start(bed: Testbed): Promise<Tunnel>;
}
