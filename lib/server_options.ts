/** What a server is started with, what may change while it runs, and what its owner can do with it. */

import { makeAccessList } from "./access_list.ts";
import { type HostPort, parseAddress, parseNetwork } from "./address.ts";
import type { AuditSink } from "./audit_event.ts";
import type { CertificatePair } from "./certificate.ts";
import type { Clock } from "./clock.ts";
import type { SessionConfig } from "./control_message.ts";
import type { DataPlanePort } from "./data_plane_message.ts";
import { parseDomainName } from "./domain_name.ts";
import { UsageError } from "./errors.ts";
import { DEFAULT_HANDSHAKE_RATES, type HandshakeRates } from "./handshake_limiter.ts";
import {
  HANDSHAKE_TIMEOUT_MS,
  HELLO_TIMEOUT_MS,
  MAX_PENDING_CONNECTIONS,
  MAX_PUSHED_DNS,
  MAX_PUSHED_DOMAINS,
  MAX_PUSHED_ROUTES,
  RESUME_TOKEN_TTL_MS,
  SESSION_TIMEOUT_MS,
  TLS_TIMEOUT_MS,
} from "./limits.ts";
import type { Enrolment } from "./handshake_server.ts";
import { type Ban, DEFAULT_MAX_FAILURES, type MaxFailures } from "./lockout.ts";
import type { Log } from "./log.ts";
import type { ConnectedMember } from "./policy_keeper.ts";
import type { ServerAuth } from "./server_certificates.ts";
import type { UserPassword } from "./server_users.ts";
import type { ServerStatus } from "./status.ts";
import type { UserFollower } from "./user_follower.ts";

/** What may change while a server runs; sessions keep what they were told at their log-in. */
export interface ReloadableOptions {
  /** Networks that clients route into the tunnel (CIDR). */
  readonly pushRoutes: readonly string[];
  /** DNS servers for clients. */
  readonly pushDns: readonly string[];
  /** Domains for clients' resolvers. */
  readonly pushDomains?: readonly string[];
  /** Outer networks that may connect (CIDR); empty means all. */
  readonly allowFrom: readonly string[];
  /** Outer networks that may not connect (CIDR); wins over `allowFrom`. */
  readonly denyFrom: readonly string[];
  readonly maxClients: number;
  readonly rekeyAfterMs: number;
  readonly users: readonly UserPassword[];
  readonly certificate: CertificatePair;
  /** How clients prove who they are; by password where it is missing. */
  readonly auth?: ServerAuth;
}

/** Issues a certificate for a one-time token and a signing request (DER). */
export type EnrolClient = (
  token: Uint8Array<ArrayBuffer>,
  request: Uint8Array<ArrayBuffer>,
) => Promise<Enrolment>;

/** For a server without an authority. */
export const noEnrolment: EnrolClient = () =>
  Promise.resolve({ refusal: { code: "refused", reason: "Cannot enrol: this server does not" }, user: "" });

export interface ServerOptions extends ReloadableOptions {
  /** An empty host means every address; port 0 lets the kernel choose. */
  readonly listen: HostPort;
  readonly tun: string;
  /** The server's inner addresses with prefix length, for example `10.8.0.1/24`, `fd00::1/64`. */
  readonly addresses: readonly string[];
  readonly mtuBytes: number;
  readonly keepaliveMs: number;
  /** Our TUN takes super-packets. */
  readonly offload: boolean;
  /** At least 32 random bytes that the server keeps for good; see `password.ts`. */
  readonly serverSecret: Uint8Array;
  /** The user database, if there is one or there may be one; closed by {@link RunningServer.stop}. */
  readonly follower?: UserFollower;
  /** Has these networks, which are behind clients, routed into the tunnel, and no others. */
  readonly onNetworks?: (networks: readonly string[]) => void;
  /** The data plane, started by the caller. */
  readonly dataPlane: DataPlanePort;
  readonly log: Log;
  /** Records who came, went and was refused; nothing is recorded without it. */
  readonly audit?: AuditSink;
  /** Told who is connected before a new session's client learns of it; resolves when the firewall knows. */
  readonly onMembers?: (members: readonly ConnectedMember[]) => Promise<void>;
  readonly clock: Clock;
  /** Enrols clients; without it every token is wrong. */
  readonly enrol?: EnrolClient;
  /** Bounds that tests narrow; the defaults are in `limits.ts`. */
  readonly timings?: Partial<ServerTimings>;
}

/** Bounds of a server's behaviour. */
export interface ServerTimings {
  /** Connections that have not logged in. */
  readonly maxPending: number;
  readonly handshakeTimeoutMs: number;
  readonly tlsTimeoutMs: number;
  readonly helloTimeoutMs: number;
  /** Handshakes a second. */
  readonly handshakeRates: HandshakeRates;
  readonly maxFailures: MaxFailures;
  readonly sessionTimeoutMs: number;
  readonly resumeTokenTtlMs: number;
  /** How often silent sessions are looked for. */
  readonly sweepMs: number;
}

export interface RunningServer {
  /** TCP port of the control channel. */
  readonly port: number;
  /** Resolves after {@link stop}; rejects when the data plane failed. */
  readonly done: Promise<void>;
  status(): Promise<ServerStatus>;
  /** Asks every connected client for a new epoch. @returns how many were asked */
  rekeyAll(): number;
  /** Lets an address or a user in again that was shut out. @returns what was lifted */
  lift(value: string): readonly Ban[];
  /** Ends a session; its client does not come back by itself. @returns false when there is no such session */
  kick(id: number, reason: string): boolean;
  /** Labels of a user for the access policy; none for one without a record. */
  groupsOf(user: string): readonly string[];
  /** Networks that are pushed to a user besides those of the server. */
  routesOf(user: string): readonly string[];
  /**
   * Reads the user database and acts on live sessions.
   *
   * @returns how many sessions ended
   * @throws {SystemError} when it cannot be read; nothing has changed then
   */
  refreshUsers(): number;
  /**
   * Takes over changed options. Sessions of users who are gone or have another password end, all others go on.
   *
   * @throws {UsageError} when a value is wrong; nothing has changed then
   */
  reload(changed: Partial<ReloadableOptions>): Promise<void>;
  /** Says goodbye to everybody and closes; the data plane goes on until its owner stops it. */
  stop(reason: string): Promise<void>;
}

/** What is used where a test does not say otherwise. */
export const DEFAULT_SERVER_TIMINGS: ServerTimings = {
  maxPending: MAX_PENDING_CONNECTIONS,
  handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
  tlsTimeoutMs: TLS_TIMEOUT_MS,
  helloTimeoutMs: HELLO_TIMEOUT_MS,
  handshakeRates: DEFAULT_HANDSHAKE_RATES,
  maxFailures: DEFAULT_MAX_FAILURES,
  sessionTimeoutMs: SESSION_TIMEOUT_MS,
  resumeTokenTtlMs: RESUME_TOKEN_TTL_MS,
  sweepMs: 1_000,
};

/** What a client is told of a session, but for its ID and addresses. @param userRoutes those of this user alone */
export function pushedConfig(
  options: ServerOptions,
  { sessionTimeoutMs }: ServerTimings,
  userRoutes: readonly string[],
): Omit<SessionConfig, "sessionId" | "addresses"> {
  const { mtuBytes, keepaliveMs, offload, pushRoutes, pushDns, pushDomains = [], rekeyAfterMs } = options;
  return {
    mtu: mtuBytes,
    routes: [...new Set([...pushRoutes, ...userRoutes])].slice(0, MAX_PUSHED_ROUTES),
    dns: [...pushDns],
    // Left out where there is none: earlier clients do not know the key.
    ...(pushDomains.length === 0 ? {} : { searchDomains: [...pushDomains] }),
    timers: { keepaliveMs, sessionTimeoutMs, rekeyAfterMs },
    features: { offload },
  };
}

/**
 * Reads what is used later, so that a wrong value is found at the start.
 *
 * @throws {UsageError} naming the first wrong value
 */
export function checkReloadable(options: ReloadableOptions): void {
  options.pushRoutes.forEach(parseNetwork);
  makeAccessList(options.allowFrom, options.denyFrom);
  for (const { allowFrom = [], denyFrom = [] } of options.users) makeAccessList(allowFrom, denyFrom);
  options.pushDns.forEach(parseAddress);
  options.pushDomains?.forEach(parseDomainName);
  checkCount("DNS servers", options.pushDns.length, MAX_PUSHED_DNS);
  checkCount("domains", options.pushDomains?.length ?? 0, MAX_PUSHED_DOMAINS);
  checkCount("routes", options.pushRoutes.length, MAX_PUSHED_ROUTES);
}

function checkCount(what: string, count: number, most: number): void {
  if (count > most) throw new UsageError(`Cannot push "${count}" ${what}: expected at most ${most}`);
}
