/** What a client is started with, and what its owner can do with it. */

import type { HostPort } from "./address.ts";
import type { Clock } from "./clock.ts";
import type { SessionConfig } from "./control_message.ts";
import type { DataPlanePort, TransportChoice } from "./data_plane_message.ts";
import type { KnownServers } from "./known_servers.ts";
import { CONFIRM_TIMEOUT_MS, CONTROL_PING_MS, CONTROL_PING_TIMEOUT_MS } from "./limits.ts";
import type { Log } from "./log.ts";
import type { ClientStatus } from "./status.ts";

export interface ClientOptions {
  /** Servers to try, in this order. */
  readonly servers: readonly HostPort[];
  readonly user: string;
  /** Asked for at most once, when the first server wants it. */
  readonly password: () => Promise<string>;
  /**
   * Asked for at each log-in (never at a resumption or rekey) of a user with a second factor.
   *
   * @param signal comes when the client is told to stop; the call must come to an end then
   * @throws {UsageError} when there is no way to get a code
   */
  readonly code?: (signal: AbortSignal) => Promise<string>;
  /** Certificate authorities (PEM text) that the server's certificate must come from; without, SCRAM proves it. */
  readonly caPem?: string;
  /** Inner addresses to ask for; a prefix length is ignored. */
  readonly requestedAddresses?: readonly string[];
  /** What the data plane was started with; `auto` if not given. */
  readonly transport?: TransportChoice;
  /** Our TUN takes super-packets. */
  readonly offload: boolean;
  /** Name and version of this program, for the server's log. */
  readonly program: string;
  /** The data plane, started by the caller. */
  readonly dataPlane: DataPlanePort;
  readonly log: Log;
  readonly clock: Clock;
  /** Where certificates of servers are remembered; by default for the life of the process. */
  readonly knownServers?: KnownServers;
  /**
   * Makes this machine fit the session. Called before the first use, and again when the configuration or the server's
   * address changed. A rejection ends the client.
   *
   * @param serverAddress literal outer address and port of the server
   */
  readonly onConnected: (config: SessionConfig, serverAddress: HostPort) => Promise<void>;
  /** The connection was lost; the client tries to come back. */
  readonly onDisconnected: () => void;
  readonly resolve?: (server: HostPort) => Promise<readonly HostPort[]>;
  /** Called before an address of a server is dialled: keeps it outside the tunnel. Never rejects. */
  readonly admit?: (endpoint: HostPort) => Promise<void>;
  /** Times that tests shorten; the defaults are in `limits.ts`. */
  readonly timings?: Partial<ClientTimings>;
}

/** In milliseconds. */
export interface ClientTimings {
  readonly pingMs: number;
  readonly pingTimeoutMs: number;
  readonly confirmTimeoutMs: number;
}

export interface RunningClient {
  /** Resolves after {@link stop}; rejects with {@link RefusedError} or the error of `onConnected`. */
  readonly done: Promise<void>;
  status(): Promise<ClientStatus>;
  /** Makes a new epoch soon. @returns false when not connected */
  rekey(): boolean;
  /**
   * The machine slept, or its network changed: asks the server on every path whether it is there, and cuts waits short.
   *
   * @param why for the log
   */
  probe(why: string): void;
  /** Leaves the server for good. */
  stop(): Promise<void>;
}

/** What is used where a test does not say otherwise. */
export const DEFAULT_CLIENT_TIMINGS: ClientTimings = {
  pingMs: CONTROL_PING_MS,
  pingTimeoutMs: CONTROL_PING_TIMEOUT_MS,
  confirmTimeoutMs: CONFIRM_TIMEOUT_MS,
};

/** Shortest wait for an answer over TCP that is not taken for its end: three lost segments in a row. */
const MIN_PING_TIMEOUT_MS = 2_000;

/** Times of a client whose keep-alive interval is `keepaliveMs`: life is known within two of them. */
export function timingsFor(keepaliveMs: number): Partial<ClientTimings> {
  return {
    pingMs: Math.min(CONTROL_PING_MS, keepaliveMs),
    pingTimeoutMs: Math.max(MIN_PING_TIMEOUT_MS, Math.min(CONTROL_PING_TIMEOUT_MS, keepaliveMs)),
  };
}
