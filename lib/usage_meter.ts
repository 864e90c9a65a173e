/** What each user moved through the tunnel this month: growing counters of sessions in, bytes to be stored out. Pure. */

import type { SessionStats } from "./data_plane_message.ts";
import { monthOf } from "./user_rules.ts";

interface MeteredSession {
  readonly user: string;
  /** What the session's counters said last. */
  seenBytes: number;
  ended: boolean;
}

/** Bytes that are not stored yet. */
export interface PendingUsage {
  readonly name: string;
  readonly month: string;
  readonly bytes: number;
}

/** Adds up inner bytes of both directions. */
export class UsageMeter {
  readonly #sessions = new Map<number, MeteredSession>();
  readonly #pending = new Map<string, { name: string; month: string; bytes: number }>();
  #stored: ReadonlyMap<string, number> = new Map();
  #month = "";

  /** From now on the session's counters count for `user`. */
  track(sessionId: number, user: string): void {
    this.#sessions.set(sessionId, { user, seenBytes: 0, ended: false });
  }

  /** The session has ended; its last counters may still come. */
  end(sessionId: number): void {
    const session = this.#sessions.get(sessionId);
    if (session !== undefined) session.ended = true;
  }

  /** Takes the data plane's counters of all its sessions. */
  count(stats: readonly SessionStats[], wallMs: number): void {
    const month = monthOf(wallMs);
    for (const { id, rxBytes, txBytes } of stats) {
      const session = this.#sessions.get(id);
      if (session === undefined) continue;
      const bytes = rxBytes + txBytes - session.seenBytes;
      session.seenBytes += bytes;
      if (bytes > 0) this.#add(session.user, month, bytes);
    }
    const known = new Set(stats.map(({ id }) => id));
    for (const [id, { ended }] of this.#sessions) if (ended && !known.has(id)) this.#sessions.delete(id);
  }

  /** What a user has moved in the month of `wallMs`, stored or not. */
  used(user: string, wallMs: number): number {
    const month = monthOf(wallMs);
    const stored = month === this.#month ? (this.#stored.get(user) ?? 0) : 0;
    return stored + (this.#pending.get(keyOf(user, month))?.bytes ?? 0);
  }

  /** What is to be added to the store. Call {@link stored} when it was. */
  get pending(): readonly PendingUsage[] {
    return [...this.#pending.values()];
  }

  /**
   * What was pending is in the store.
   *
   * @param month the one that `bytes` are of
   * @param bytes what the store has now for each user
   */
  stored(month: string, bytes: ReadonlyMap<string, number>): void {
    this.#pending.clear();
    this.load(month, bytes);
  }

  /** Takes over what the store has, beside what is pending. */
  load(month: string, bytes: ReadonlyMap<string, number>): void {
    this.#month = month;
    this.#stored = bytes;
  }

  #add(name: string, month: string, bytes: number): void {
    const key = keyOf(name, month);
    const entry = this.#pending.get(key) ?? { name, month, bytes: 0 };
    entry.bytes += bytes;
    this.#pending.set(key, entry);
  }
}

/** A month has no line feed in it, and neither has a user name. */
function keyOf(name: string, month: string): string {
  return `${month}\n${name}`;
}
