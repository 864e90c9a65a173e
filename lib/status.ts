/**
 * What `status --json` prints, for both programs. Times are milliseconds since the Unix epoch.
 *
 * A stable interface for scripts: fields are added, never renamed.
 */

import type { SessionStats, TransportName } from "./data_plane_message.ts";
import type { DropReason } from "./errors.ts";
import type { AuditStatus, EventStatus } from "./event_counts.ts";
import { MAX_PLAINTEXT_BYTES } from "./limits.ts";

/** Counters as seen from the program that prints them: `rx` came out of the tunnel's outer side. */
export interface TrafficStatus {
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
}

/** State of the data path of one session. */
export interface PathStatus extends TrafficStatus {
  /** Epoch of the sending key; null before the first. */
  readonly epoch: number | null;
  /** Round trip in milliseconds, from keep-alive records; null before the first answer. */
  readonly rttMs: number | null;
  /** Records lost over the last keep-alive interval, in percent. */
  readonly lossPercent: number;
  /** Largest plaintext put into one record, in bytes. */
  readonly recordLimit: number;
  /** Largest UDP payload sent to the peer, in bytes; null before the first session. */
  readonly datagramBytes: number | null;
  /** The path to the peer carries IP packets of at least this size, in bytes; null while it has not been probed. */
  readonly pathMtu: number | null;
}

/** One client, as the server sees it. */
export interface SessionStatus extends PathStatus {
  readonly id: number;
  readonly user: string;
  /** Outer address of the client's records; of its control connection before the first record. */
  readonly endpoint: string;
  /** Inner addresses without prefix length. */
  readonly addresses: readonly string[];
  readonly connectedAt: number;
  readonly lastSeenAt: number;
  /** Path of what we send. */
  readonly transport: TransportName;
  readonly state: SessionState;
}

/**
 * What the server knows of a client: `silent` was not heard for two keep-alive intervals; `reconnecting` has lost its
 * control connection and may still send data.
 */
export type SessionState = "connected" | "silent" | "reconnecting";

/** A session that has ended. */
export interface GoneStatus {
  readonly id: number;
  readonly user: string;
  readonly addresses: readonly string[];
  readonly endedAt: number;
  readonly reason: string;
}

/** `omail-server status --json`. */
export interface ServerStatus {
  readonly tun: string;
  /** Where the server listens, `HOST:PORT`. */
  readonly address: string;
  readonly uptimeSeconds: number;
  readonly startedAt?: number | undefined;
  /** Of the program that runs. */
  readonly build?: { readonly version: string; readonly commit: string } | undefined;
  readonly sessions: readonly SessionStatus[];
  /** Sessions that ended last, the newest first, and why. */
  readonly gone: readonly GoneStatus[];
  /** Who is shut out after too many failed log-ins. */
  readonly bans?: readonly BanStatus[] | undefined;
  /** Connections that did not become a session, since the start, by reason. */
  readonly refusals?: Readonly<Record<string, number>> | undefined;
  /** Security events since the start. */
  readonly events?: EventStatus | undefined;
  readonly audit?: AuditStatus | undefined;
  /** Traffic of all sessions since the start, ended ones included; dropped packets by reason. */
  readonly totals: TrafficStatus & { readonly drops: Readonly<Partial<Record<DropReason, number>>> };
}

/** An address (IPv6: its /64) or a user that may not try again for a while. */
export interface BanStatus {
  readonly subject: "address" | "user";
  readonly value: string;
  readonly secondsLeft: number;
}

/** What a client is doing. */
export type ClientState = "connecting" | "connected" | "reconnecting";

/** `omail-client status --json`. */
export interface ClientStatus extends PathStatus {
  readonly state: ClientState;
  /** The server as it was named, `HOST:PORT`. */
  readonly server: string;
  /** Path of what we send. */
  readonly transport: TransportName;
  /** Why the state is not "connected"; null when it is, and before the first failure. */
  readonly reason: string | null;
  /** Inner addresses without prefix length; empty before the first connection. */
  readonly addresses: readonly string[];
  /** When this session was opened; null before the first connection. */
  readonly connectedAt: number | null;
  /** When the server was last heard of; null before the first connection. */
  readonly lastSeenAt: number | null;
  readonly sessionId: number | null;
  readonly drops: Readonly<Partial<Record<DropReason, number>>>;
}

/** Before there is a session. */
const NO_PATH: PathStatus = {
  epoch: null,
  rxBytes: 0,
  txBytes: 0,
  rxPackets: 0,
  txPackets: 0,
  rttMs: null,
  lossPercent: 0,
  recordLimit: MAX_PLAINTEXT_BYTES,
  datagramBytes: null,
  pathMtu: null,
};

/** The data plane's counters of one session as `status` prints them. */
export function toPathStatus(stats: SessionStats | null): PathStatus {
  if (stats === null) return NO_PATH;
  const { epoch, rxBytes, txBytes, rxPackets, txPackets, rttMs, lossPercent } = stats;
  const { recordLimit, datagramBytes, pathMtu } = stats;
  return {
    epoch,
    rxBytes,
    txBytes,
    rxPackets,
    txPackets,
    rttMs,
    lossPercent,
    recordLimit,
    datagramBytes,
    pathMtu,
  };
}
