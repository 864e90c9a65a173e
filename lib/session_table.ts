/** The sessions of the data plane, by session ID and by the inner addresses they own. */

import { AllowedIps } from "./allowed_ips.ts";
import { destinationOffset, ipVersion, sourceOffset } from "./packet.ts";
import type { Session } from "./session.ts";

/** Look-ups are by number and by bytes in place; nothing is allocated per packet. */
export class SessionTable {
  readonly #byId = new Map<number, Session>();
  readonly #allowedIps = new AllowedIps<Session>();

  /** Adds a session that owns `allowedIps`; one with the same ID is replaced. */
  add(session: Session, allowedIps: readonly string[]): void {
    this.remove(session.id);
    this.#byId.set(session.id, session);
    for (const cidr of allowedIps) this.#allowedIps.add(cidr, session);
  }

  /** Makes `allowedIps` all that a session owns; unknown sessions are ones that ended a moment ago. */
  setAllowedIps(id: number, allowedIps: readonly string[]): void {
    const session = this.#byId.get(id);
    if (session === undefined) return;
    this.#allowedIps.removePeer(session);
    for (const cidr of allowedIps) this.#allowedIps.add(cidr, session);
  }

  remove(id: number): void {
    const session = this.#byId.get(id);
    if (session === undefined) return;
    session.removed = true;
    this.#byId.delete(id);
    this.#allowedIps.removePeer(session);
  }

  get(id: number): Session | undefined {
    return this.#byId.get(id);
  }

  get size(): number {
    return this.#byId.size;
  }

  all(): IterableIterator<Session> {
    return this.#byId.values();
  }

  /** The session that owns the destination of the packet at `offset`. */
  byDestination(bytes: Uint8Array, offset: number): Session | undefined {
    const at = destinationOffset(bytes, offset);
    return ipVersion(bytes, offset) === 4
      ? this.#allowedIps.find4(bytes, at)
      : this.#allowedIps.find6(bytes, at);
  }

  /** Whether the source of the packet at `offset` leads back to `session`. */
  sourceAllowed(session: Session, bytes: Uint8Array, offset: number): boolean {
    const at = sourceOffset(bytes, offset);
    const owner =
      ipVersion(bytes, offset) === 4 ? this.#allowedIps.find4(bytes, at) : this.#allowedIps.find6(bytes, at);
    return owner === session;
  }
}
