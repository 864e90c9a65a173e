/** What a client keeps of its session while the connection is lost, and what it may ask for when it comes back. */

import { type HostPort, parsePrefix } from "./address.ts";
import type { SessionConfig } from "./control_message.ts";
import type { ResumableSession } from "./handshake_client.ts";
import { MAX_EPOCH } from "./limits.ts";
import type { Rekey } from "./rekey.ts";
import type { ClientState, ClientStatus } from "./status.ts";

/** A session from its first log-in over all its connections. */
export interface HeldSession {
  readonly config: SessionConfig;
  readonly endpoint: HostPort;
  readonly server: HostPort;
  /** Certificate that proved itself; the token goes to no other. */
  readonly fingerprint: string | null;
  readonly rekey: Rekey;
  readonly connectedAtMs: number;
  /** Null when the server has ended the session. */
  token: Uint8Array<ArrayBuffer> | null;
}

/** Inner addresses without prefix length. */
export function addressesOf(config: SessionConfig): readonly string[] {
  return config.addresses.map((text) => parsePrefix(text).address.text);
}

/** The session to come back to, if this certificate may see its token and its epochs are not used up. */
export function resumable(held: HeldSession | null, fingerprint: string | null): ResumableSession | null {
  if (held === null || held.token === null || fingerprint === null || fingerprint !== held.fingerprint)
    return null;
  if (held.rekey.epoch >= MAX_EPOCH) return null;
  return { sessionId: held.config.sessionId, token: held.token, nextEpoch: held.rekey.epoch + 1 };
}

/**
 * What `status` says: who hears nothing is not connected, whatever its TCP connection says.
 *
 * @param state of the control connection
 * @param reason why it is not connected
 * @param alive records of the server come in
 */
export function presenceOf(
  state: ClientState,
  reason: string | null,
  alive: boolean,
): Pick<ClientStatus, "state" | "reason"> {
  if (state === "connected" && !alive)
    return { state: "reconnecting", reason: "nothing is heard of the server" };
  if (state === "connected") return { state, reason: null };
  return { state, reason: reason !== null && alive ? `${reason}; data goes on over UDP` : reason };
}
