/** What drives the packet path: brings packets of the TUN and datagrams of the socket to the two ways, in turn. */

import type { Inbound } from "./data_plane_inbound.ts";
import type { Outbound } from "./data_plane_outbound.ts";
import type { Engine } from "./engine.ts";

/** The two ways and the engine between them. */
export interface Ways {
  readonly inbound: Inbound;
  readonly outbound: Outbound;
  readonly engine: Engine;
}

/** A loop over one TUN device and one socket. */
export interface DataLoop {
  /** While it is set the loop does not sleep: it comes back to the event loop after each turn, for others' sake. */
  staysAwake: boolean;
  /** Starts; `failed` is called when the TUN cannot be read any more. */
  start(ways: Ways, failed: (error: unknown) => void): void;
  /** Ends the loop and the use of the TUN. */
  stop(): void;
}
