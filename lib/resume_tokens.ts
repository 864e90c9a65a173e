/**
 * Single-use tokens that bring a client back to its session without a log-in.
 *
 * Pure but for Web Crypto's SHA-256: random bytes and time are handed in. Only hashes are kept, so that the memory of
 * a server holds nothing that could be sent to it.
 */

import { sha256 } from "./hash.ts";

interface Entry {
  readonly sessionId: number;
  /** Monotonic milliseconds; null while the session's control connection stands. */
  expiresAtMs: number | null;
}

/** What a token was good for. */
export interface Redeemed {
  readonly sessionId: number;
  readonly reused: boolean;
}

/** Used tokens of one session that are known when they come again. */
const USED_TOKENS = 64;

/** The tokens of all sessions; one per session. */
export class ResumeTokens {
  readonly #byHash = new Map<string, Entry>();
  readonly #hashOf = new Map<number, string>();
  /** Sessions of the tokens that were used, by hash, and the hashes of each session, the oldest first. */
  readonly #used = new Map<string, number>();
  readonly #usedOf = new Map<number, string[]>();
  readonly #ttlMs: number;

  /** @param ttlMs life of a token after its connection was lost */
  constructor(ttlMs: number) {
    this.#ttlMs = ttlMs;
  }

  /** Makes `token` the only one of this session. */
  async issue(sessionId: number, token: Uint8Array<ArrayBuffer>): Promise<void> {
    const hash = (await sha256(token)).toHex();
    this.#withdraw(sessionId);
    this.#byHash.set(hash, { sessionId, expiresAtMs: null });
    this.#hashOf.set(sessionId, hash);
  }

  /** The session has a connection: its token does not expire. */
  stopExpiry(sessionId: number): void {
    const hash = this.#hashOf.get(sessionId);
    const entry = hash === undefined ? undefined : this.#byHash.get(hash);
    if (entry !== undefined) entry.expiresAtMs = null;
  }

  /** The session's connection was lost: its token's life starts to run. */
  startExpiry(sessionId: number, nowMs: number): void {
    const hash = this.#hashOf.get(sessionId);
    const entry = hash === undefined ? undefined : this.#byHash.get(hash);
    if (entry !== undefined) entry.expiresAtMs = nowMs + this.#ttlMs;
  }

  /**
   * Uses a token up.
   *
   * @returns the session; `reused` when the token was used before, so that somebody has a copy of it. Null when it is
   * unknown or expired
   */
  async redeem(token: Uint8Array<ArrayBuffer>, nowMs: number): Promise<Redeemed | null> {
    const hash = (await sha256(token)).toHex();
    const usedBy = this.#used.get(hash);
    if (usedBy !== undefined) return { sessionId: usedBy, reused: true };
    const entry = this.#byHash.get(hash);
    if (entry === undefined) return null;
    this.#withdraw(entry.sessionId);
    if (entry.expiresAtMs !== null && nowMs >= entry.expiresAtMs) return null;
    this.#remember(hash, entry.sessionId);
    return { sessionId: entry.sessionId, reused: false };
  }

  /** The session ended. */
  forget(sessionId: number): void {
    this.#withdraw(sessionId);
    for (const hash of this.#usedOf.get(sessionId) ?? []) this.#used.delete(hash);
    this.#usedOf.delete(sessionId);
  }

  #withdraw(sessionId: number): void {
    const hash = this.#hashOf.get(sessionId);
    if (hash === undefined) return;
    this.#hashOf.delete(sessionId);
    this.#byHash.delete(hash);
  }

  #remember(hash: string, sessionId: number): void {
    const used = this.#usedOf.get(sessionId) ?? [];
    used.push(hash);
    this.#used.set(hash, sessionId);
    this.#usedOf.set(sessionId, used);
    if (used.length > USED_TOKENS) this.#used.delete(used.shift()!);
  }
}
