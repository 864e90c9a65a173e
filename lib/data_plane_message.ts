/**
 * What the control plane and the data plane say to each other; the data plane runs in a Worker.
 *
 * Every message is structured-cloneable. A non-extractable `CryptoKey` may cross to a Worker of the same process.
 */

import type { DropReason } from "./errors.ts";
import type { HostPort } from "./address.ts";

/** Which implementation seals and opens records. */
export type EngineName = "web" | "sync";

/** What carries records: UDP, or frames in the TLS stream of the control channel. */
export type TransportName = "udp" | "tcp";
/** A client's choice; `auto` takes UDP while it works. */
export type TransportChoice = "auto" | TransportName;

/** Keys of one epoch, as `key_schedule.ts` derives them, seen from this end. */
export interface EpochKeys {
  /** 0-65535. */
  readonly epoch: number;
  readonly sendKey: CryptoKey;
  readonly receiveKey: CryptoKey;
  /** 4 bytes each. */
  readonly sendSalt: Uint8Array;
  readonly receiveSalt: Uint8Array;
}

/** The first message: everything that does not change while the data plane runs. */
export interface StartData {
  readonly kind: "start";
  readonly role: "server" | "client";
  /** Open TUN descriptor of this process; the control plane opened it and closes it. */
  readonly tunFd: number;
  /** Packets carry a virtio-net header on this descriptor. */
  readonly tunOffload: boolean;
  /** Local UDP address; port 0 lets the kernel choose (client). An empty host means every address of both families. */
  readonly bind: HostPort;
  /** Largest UDP payload that we ever send; the path to a peer may ask for less. */
  readonly maxDatagramBytes: number;
  /** Inner MTU. */
  readonly mtuBytes: number;
  readonly engine: EngineName;
  /** eventfd that the control plane counts up after each message, see `data_loop_poll.ts`; -1 without one. */
  readonly wakeFd: number;
  readonly keepaliveMs: number;
  /** A client's choice; a server answers on the path of the newest record. `auto` if not given. */
  readonly transport?: TransportChoice;
}

/** Opens a session without keys; packets for it are dropped until {@link SetEpoch}. */
export interface AddSession {
  readonly kind: "add-session";
  /** 32-bit session ID, not zero. */
  readonly id: number;
  /** Prefixes this peer owns: destination of what we send it and source of what it may send (CIDR texts). */
  readonly allowedIps: readonly string[];
  /** Where to send first (client: the server). A server learns it from the first authenticated record. */
  readonly endpoint?: HostPort;
  /** The peer accepts records with virtio headers (super-packets). */
  readonly peerOffload: boolean;
  /** How fast the session may be; absent is no limit. */
  readonly rates?: SessionRates;
}

/** A limit of speed of inner packets in one direction; null is none. */
export interface RateLimit {
  readonly bitsPerSecond: number | null;
  readonly packetsPerSecond: number | null;
}

/** `up` is what the peer sends us, `down` what we send the peer. */
export interface SessionRates {
  readonly up: RateLimit;
  readonly down: RateLimit;
}

/** Changes how fast a session may be; null is no limit. */
export interface SetRates {
  readonly kind: "set-rates";
  readonly id: number;
  readonly rates: SessionRates | null;
}

/** Changes the prefixes that a session owns. */
export interface SetAllowedIps {
  readonly kind: "set-allowed-ips";
  readonly id: number;
  /** All of them; a prefix that another session owned is this one's from now on. */
  readonly allowedIps: readonly string[];
}

/**
 * Installs keys. The receiving key is used at once. The sending key is used at once if `sendNow`, else after the
 * first record of this epoch was opened, which proves that the peer has it too.
 */
export interface SetEpoch {
  readonly kind: "set-epoch";
  readonly id: number;
  readonly keys: EpochKeys;
  readonly sendNow: boolean;
}

/** Ends a session; its records in flight are dropped. */
export interface RemoveSession {
  readonly kind: "remove-session";
  readonly id: number;
}

/** Asks for {@link StatsReport} now. */
export interface GetStats {
  readonly kind: "get-stats";
  readonly requestId: number;
}

/** Closes the socket and stops reading the TUN. Answered by {@link Stopped}. */
export interface StopData {
  readonly kind: "stop";
}

/**
 * The session's TLS stream came, or went. A new one begins with no bytes on their way: what {@link TunnelOut} carried
 * into the old one is forgotten.
 */
export interface SetStream {
  readonly kind: "set-stream";
  readonly id: number;
  readonly up: boolean;
}

/** Records that came by the session's TLS stream, each with the header of its first piece. Their memory moves along. */
export interface TunnelIn {
  readonly kind: "tunnel-in";
  readonly id: number;
  readonly records: readonly Uint8Array<ArrayBuffer>[];
}

/** The stream has taken so many bytes of {@link TunnelOut}: as many may follow. */
export interface TunnelDrained {
  readonly kind: "tunnel-drained";
  readonly id: number;
  readonly bytes: number;
}

/**
 * The machine slept or its network changed: asks the peers on every path at once, and searches for the path MTU anew, in
 * both directions.
 */
export interface ProbePaths {
  readonly kind: "probe-paths";
}

export type ToDataPlane =
  | StartData
  | AddSession
  | SetEpoch
  | SetRates
  | SetAllowedIps
  | RemoveSession
  | SetStream
  | TunnelIn
  | TunnelDrained
  | ProbePaths
  | GetStats
  | StopData;

/** The socket is bound. */
export interface Ready {
  readonly kind: "ready";
  readonly port: number;
}

/** The data plane could not start or died; `errorName` is a class of `errors.ts`. */
export interface Failed {
  readonly kind: "failed";
  readonly errorName: string;
  readonly message: string;
}

/** The first record of an epoch was opened. Epoch known to both ends from here on; also the proof that UDP works. */
export interface EpochConfirmed {
  readonly kind: "epoch-confirmed";
  readonly id: number;
  readonly epoch: number;
}

/** An authenticated record came from a new address; data goes there from now on. */
export interface EndpointMoved {
  readonly kind: "endpoint-moved";
  readonly id: number;
  readonly endpoint: HostPort;
}

/** The epoch in use for sending has sealed REKEY_AFTER_RECORDS; sent once per epoch. */
export interface RekeyNeeded {
  readonly kind: "rekey-needed";
  readonly id: number;
  readonly epoch: number;
}

/** Record frames for the session's TLS stream, ready to be written. Their memory moves along. */
export interface TunnelOut {
  readonly kind: "tunnel-out";
  readonly id: number;
  readonly frames: Uint8Array<ArrayBuffer>;
}

/** So many bytes of {@link TunnelIn} were taken in: as many may follow. */
export interface TunnelTaken {
  readonly kind: "tunnel-taken";
  readonly id: number;
  readonly bytes: number;
}

/** Records to the peer go another way from now on. */
export interface TransportMoved {
  readonly kind: "transport-moved";
  readonly id: number;
  readonly to: TransportName;
  readonly reason: string;
}

/** The peer was not heard for two keep-alive intervals, or is heard again. */
export interface PresenceChanged {
  readonly kind: "presence-changed";
  readonly id: number;
  readonly alive: boolean;
  /** Since the last authentic record. */
  readonly silentMs: number;
}

/** Something that a person should know, already rate limited. */
export interface Notice {
  readonly kind: "notice";
  readonly level: "warn" | "info" | "debug";
  readonly message: string;
}

/** Counters of one session. Times are `performance.timeOrigin`-based monotonic milliseconds of the process. */
export interface SessionStats {
  readonly id: number;
  readonly endpoint: HostPort | null;
  /** Path of what we send. */
  readonly transport: TransportName;
  readonly epoch: number | null;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxRecords: number;
  readonly txRecords: number;
  /** Milliseconds since the last authenticated record; null before the first. */
  readonly silentMs: number | null;
  readonly rttMs: number | null;
  /** Records lost of those the peer sent, in percent, over the last keep-alive interval. */
  readonly lossPercent: number;
  /** Largest plaintext we put into one record to this peer. */
  readonly recordLimit: number;
  /** Largest UDP payload we send to this peer. */
  readonly datagramBytes: number;
  /** The path to the peer carries IP packets of at least this size, in bytes; null while it has not been probed. */
  readonly pathMtu: number | null;
}

/** Answer to {@link GetStats}; also sent unasked once a second. */
export interface StatsReport {
  readonly kind: "stats";
  /** 0 when unasked. */
  readonly requestId: number;
  readonly sessions: readonly SessionStats[];
  readonly drops: Readonly<Partial<Record<DropReason, number>>>;
}

/** Answer to {@link StopData}. */
export interface Stopped {
  readonly kind: "stopped";
}

export type FromDataPlane =
  | Ready
  | Failed
  | EpochConfirmed
  | EndpointMoved
  | RekeyNeeded
  | TunnelOut
  | TunnelTaken
  | TransportMoved
  | PresenceChanged
  | Notice
  | StatsReport
  | Stopped;

/** The data plane as the control plane sees it, be it in a Worker or in the same thread. */
export interface DataPlanePort {
  post(message: ToDataPlane): void;
  /** Registers the only receiver. */
  onMessage(receive: (message: FromDataPlane) => void): void;
}
