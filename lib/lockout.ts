/**
 * Who is shut out after too many wrong passwords, by address and by user, and until when. Pure; time is handed in.
 *
 * An address that fails often is shut out for a time that doubles with each repetition. A user name that is guessed at
 * from many addresses is shut out too, but not from addresses where this user logged in before: nobody can lock a
 * user out by knowing a name. Names that do not exist are treated alike, so that a lock tells nothing.
 */

import { dropOldest, limitKey } from "./handshake_limiter.ts";
import { BAN_MAX_MS, BAN_MS, FAILURES_WINDOW_MS, MAX_ADDRESS_FAILURES, MAX_USER_FAILURES } from "./limits.ts";

/** Somebody who is shut out. */
export interface Ban {
  readonly subject: "address" | "user";
  /** A key of `limitKey()`, or a user's name. */
  readonly value: string;
  readonly failures: number;
  /** Monotonic milliseconds. */
  readonly untilMs: number;
  readonly seconds: number;
}

/** Failures within the window that shut out. */
export type MaxFailures = Readonly<Record<Ban["subject"], number>>;

export const DEFAULT_MAX_FAILURES: MaxFailures = { address: MAX_ADDRESS_FAILURES, user: MAX_USER_FAILURES };

interface Failure {
  readonly user: string;
  readonly atMs: number;
}

interface Suspect {
  failures: Failure[];
  /** How often it was shut out. */
  bans: number;
  ban: Ban | null;
}

/** All failures within {@link FAILURES_WINDOW_MS}, and what followed from them. */
export class Lockout {
  readonly #suspects: Readonly<Record<Ban["subject"], Map<string, Suspect>>> = {
    address: new Map(),
    user: new Map(),
  };
  readonly #most: MaxFailures;
  /** Pairs of user and address that logged in, the longest ago first. */
  readonly #homes = new Set<string>();

  constructor(most: MaxFailures = DEFAULT_MAX_FAILURES) {
    this.#most = most;
  }

  /** A log-in failed. @returns who is shut out by it from now on */
  failed(user: string, address: string, nowMs: number): readonly Ban[] {
    const key = limitKey(address);
    const bans = [this.#count("address", key, user, nowMs)];
    if (!this.#homes.has(homeOf(user, key))) bans.push(this.#count("user", user, user, nowMs));
    return bans.filter((ban) => ban !== null);
  }

  /** A log-in succeeded: this user's own failures at this address were typing errors. */
  succeeded(user: string, address: string): void {
    const key = limitKey(address);
    const suspect = this.#suspects.address.get(key);
    if (suspect !== undefined) suspect.failures = suspect.failures.filter((failure) => failure.user !== user);
    const home = homeOf(user, key);
    this.#homes.delete(home);
    this.#homes.add(home);
    dropOldest(this.#homes);
  }

  /** Whether the address is shut out. */
  isBanned(address: string, nowMs: number): boolean {
    return this.#banOf("address", limitKey(address), nowMs) !== null;
  }

  /** What keeps this user from trying from this address; null when nothing does. */
  banFor(user: string, address: string, nowMs: number): Ban | null {
    const key = limitKey(address);
    const ofAddress = this.#banOf("address", key, nowMs);
    if (ofAddress !== null || this.#homes.has(homeOf(user, key))) return ofAddress;
    return this.#banOf("user", user, nowMs);
  }

  /** All bans in force. */
  bans(nowMs: number): readonly Ban[] {
    const subjects = ["address", "user"] as const;
    return subjects.flatMap((subject) =>
      [...this.#suspects[subject].keys()].flatMap((value) => this.#banOf(subject, value, nowMs) ?? []),
    );
  }

  /** Lets an address or a user in again, and forgets its failures. @returns what was lifted */
  lift(value: string, nowMs: number): readonly Ban[] {
    const wanted = new Set([value, limitKey(value)]);
    const lifted = this.bans(nowMs).filter((ban) => wanted.has(ban.value));
    for (const ban of lifted) this.#suspects[ban.subject].delete(ban.value);
    return lifted;
  }

  #count(subject: Ban["subject"], value: string, user: string, nowMs: number): Ban | null {
    const most = this.#most[subject];
    const suspects = this.#suspects[subject];
    const suspect = suspects.get(value) ?? { failures: [], bans: 0, ban: null };
    suspects.delete(value);
    suspects.set(value, suspect);
    dropOldest(suspects);
    suspect.failures = [...suspect.failures, { user, atMs: nowMs }]
      .filter(({ atMs }) => nowMs - atMs < FAILURES_WINDOW_MS)
      .slice(-most);
    if (suspect.failures.length < most || this.#banOf(subject, value, nowMs) !== null) return null;
    const lengthMs = Math.min(BAN_MAX_MS, BAN_MS * 2 ** suspect.bans);
    suspect.bans += 1;
    suspect.failures = [];
    suspect.ban = { subject, value, failures: most, untilMs: nowMs + lengthMs, seconds: lengthMs / 1000 };
    return suspect.ban;
  }

  #banOf(subject: Ban["subject"], value: string, nowMs: number): Ban | null {
    const ban = this.#suspects[subject].get(value)?.ban ?? null;
    return ban !== null && nowMs < ban.untilMs ? ban : null;
  }
}

function homeOf(user: string, key: string): string {
  return `${key} ${user}`;
}
