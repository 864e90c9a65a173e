/** Who gets a session on a server, and which: the answers to `handshake_server.ts`. */

import { formatHostPort, type HostPort, parseAddress } from "./address.ts";
import type { AuditSink } from "./audit_event.ts";
import type { Proofs } from "./auth_mode.ts";
import type { ClientCertificate } from "./certificate_check.ts";
import type { Clock } from "./clock.ts";
import { type Enrol, type Hello, RESUME_TOKEN_BYTES, type SessionConfig } from "./control_message.ts";
import type { RandomBytes, Refusal } from "./handshake.ts";
import type { CertificateStanding, Enrolment, HandshakePolicy, SessionGrant } from "./handshake_server.ts";
import type { Verifier } from "./password.ts";
import type { Log } from "./log.ts";
import type { ResumeTokens } from "./resume_tokens.ts";
import type { ServerAccounts } from "./server_accounts.ts";
import { judgePeer, proofRefusal, type ServerAuth } from "./server_certificates.ts";
import type { ConnectedSession, ServerConnection } from "./server_connection.ts";
import type { EnrolClient } from "./server_options.ts";
import type { OpenRequest, ServerSessions } from "./server_sessions.ts";
import type { ServerUsers } from "./server_users.ts";
import type { PeerCertificates } from "./tls_peer.ts";

/** What the policy decides on. */
export interface PolicyContext {
  readonly users: ServerUsers;
  readonly accounts: ServerAccounts;
  readonly sessions: ServerSessions<ServerConnection>;
  readonly tokens: ResumeTokens;
  readonly clock: Clock;
  readonly random: RandomBytes;
  readonly maxClients: () => number;
  /** Why this user may not try a password from there now; null when it may. */
  readonly refusalFor: (user: string, endpoint: HostPort) => Refusal | null;
  /** Why this user gets no session, though the credentials are right; null when all is well. */
  readonly closedFor: (user: string, endpoint: HostPort) => Refusal | null;
  readonly auth: () => ServerAuth;
  readonly enrol: EnrolClient;
  readonly audit: AuditSink;
  readonly log: Log;
  /** What a session is told, but for its ID and addresses. */
  readonly configNow: (user: string) => Omit<SessionConfig, "sessionId" | "addresses">;
  /** The firewall learns who is connected. */
  readonly membersChanged: () => Promise<void>;
  /** Ends a session whose resume token came a second time. */
  readonly tokenReused: (session: ConnectedSession, endpoint: HostPort) => void;
  /** Ends a session whose place a new log-in takes. */
  readonly takeOver: (session: ConnectedSession) => void;
}

/** The policy for one connection, which comes from `endpoint`. */
export class ServerPolicy implements HandshakePolicy {
  readonly #context: PolicyContext;
  readonly #endpoint: HostPort;
  readonly #peer: PeerCertificates;
  #certificate: ClientCertificate | null = null;

  constructor(context: PolicyContext, endpoint: HostPort, peer: PeerCertificates) {
    this.#context = context;
    this.#endpoint = endpoint;
    this.#peer = peer;
  }

  async certificate(): Promise<CertificateStanding> {
    const { auth, users, clock } = this.#context;
    const judged = await judgePeer(this.#peer, auth(), (user) => users.has(user), clock.wallMs());
    this.#certificate = judged.certificate ?? null;
    return judged;
  }

  async enrol({ token, request }: Enrol): Promise<Enrolment> {
    const { enrol, audit, log, closedFor } = this.#context;
    // before the token is used up
    const closed = closedFor("", this.#endpoint);
    if (closed !== null) return { refusal: closed, user: "" };
    const enrolment = await enrol(token, request);
    // a refusal is logged where the connection ends
    if ("serial" in enrolment) {
      const { user, serial } = enrolment;
      const endpoint = formatHostPort(this.#endpoint);
      log.info("client enrolled", { user, serial, endpoint });
      audit.record({ type: "enrolled", user, endpoint, serial });
    }
    return enrolment;
  }

  proofRefusal(user: string | null, proofs: Proofs): Refusal | null {
    return proofRefusal(user, proofs, this.#context.auth());
  }

  refusalFor(user: string): Refusal | null {
    return this.#context.refusalFor(user, this.#endpoint);
  }

  verifierOf(user: string): Promise<Verifier> {
    return this.#context.users.verifierOf(user);
  }

  needsCode(user: string): boolean {
    return this.#context.accounts.needsCode(user);
  }

  acceptCode(user: string, code: string): boolean {
    return this.#context.accounts.acceptCode(user, code);
  }

  /**
   * A user who comes back without a token (a new process, a used token) may take over a session that it left without
   * connection: always when it wants its addresses back, else only when there is no other place.
   */
  async openSession(user: string, hello: Hello): Promise<SessionGrant | Refusal> {
    const { accounts, sessions, clock, maxClients, closedFor } = this.#context;
    const closed = closedFor(user, this.#endpoint);
    if (closed !== null) return closed;
    const refusal = accounts.refusal(user);
    if (refusal !== null) return { code: "refused", reason: refusal };
    // those of the user's own come first
    const wanted = [...accounts.addressesOf(user), ...hello.addresses].map(parseAddress);
    const request = {
      user,
      wanted,
      endpoint: this.#endpoint,
      certificate: this.#certificate,
      byPassword: "scram" in hello.auth,
      nowMs: clock.monotonicMs(),
      wallMs: clock.wallMs(),
    };
    this.#takeOverAbandoned(request, true);
    if (sessions.size >= maxClients() || accounts.deviceRefusal(user) !== null)
      this.#takeOverAbandoned(request, false);
    const surplus = accounts.deviceRefusal(user);
    if (surplus !== null) return { code: "refused", reason: surplus };
    if (sessions.size >= maxClients()) {
      return {
        code: "pool-exhausted",
        reason: `The server is full: it has ${sessions.size} of ${maxClients()} clients`,
      };
    }
    let session = sessions.open(request);
    if (session === null) {
      this.#takeOverAbandoned(request, false);
      session = sessions.open(request);
    }
    if (session === null) return { code: "pool-exhausted", reason: "The server has no free inner address" };
    accounts.admitted(session);
    await this.#context.membersChanged();
    return await this.#grant(session);
  }

  async resumeSession(token: Uint8Array<ArrayBuffer>): Promise<SessionGrant | null> {
    const { accounts, tokens, sessions, clock } = this.#context;
    const redeemed = await tokens.redeem(token, clock.monotonicMs());
    const session = redeemed === null ? undefined : sessions.find(redeemed.sessionId);
    if (session !== undefined && redeemed?.reused === true) {
      // one of the two who have it is a thief, and we cannot tell which
      this.#context.tokenReused(session, this.#endpoint);
      return null;
    }
    if (session === undefined || !(await this.#mayResume(session))) return null;
    // a user who is refused is told why at the log-in that follows
    if (accounts.refusal(session.user) !== null) return null;
    return await this.#grant(session);
  }

  /** Whoever opened a session with a certificate comes back with the same, which must still be good. */
  async #mayResume({ user, certificate }: ConnectedSession): Promise<boolean> {
    if (certificate === null) return this.#context.users.has(user);
    await this.certificate();
    return this.#certificate?.fingerprint === certificate.fingerprint;
  }

  #takeOverAbandoned(request: OpenRequest, onlyWanted: boolean): void {
    const { sessions, takeOver } = this.#context;
    const abandoned = sessions.findAbandoned(request, onlyWanted);
    if (abandoned !== null) takeOver(abandoned);
  }

  async #grant(session: ConnectedSession): Promise<SessionGrant> {
    const { tokens, random, configNow } = this.#context;
    const resumeToken = random(RESUME_TOKEN_BYTES);
    await tokens.issue(session.id, resumeToken);
    const addresses = session.lease.map((prefix) => prefix.text);
    return {
      config: { sessionId: session.id, addresses, ...configNow(session.user) },
      resumeToken,
      lastEpoch: session.epoch,
    };
  }
}
