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

/** The tokens of all sessions; one per session. */
export class ResumeTokens {
  readonly #byHash = new Map<string, Entry>();
  readonly #hashOf = new Map<number, string>();
  readonly #ttlMs: number;

  /** @param ttlMs life of a token after its connection was lost */
  constructor(ttlMs: number) {
    this.#ttlMs = ttlMs;
  }

  /** Makes `token` the only one of this session. */
  async issue(sessionId: number, token: Uint8Array<ArrayBuffer>): Promise<void> {
    const hash = (await sha256(token)).toHex();
    this.forget(sessionId);
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
   * @returns the session's ID; null when the token is unknown, used before or expired
   */
  async redeem(token: Uint8Array<ArrayBuffer>, nowMs: number): Promise<number | null> {
    const hash = (await sha256(token)).toHex();
    const entry = this.#byHash.get(hash);
    if (entry === undefined) return null;
    this.forget(entry.sessionId);
    return entry.expiresAtMs === null || nowMs < entry.expiresAtMs ? entry.sessionId : null;
  }

  /** The session ended, or its token was used. */
  forget(sessionId: number): void {
    const hash = this.#hashOf.get(sessionId);
    if (hash === undefined) return;
    this.#hashOf.delete(sessionId);
    this.#byHash.delete(hash);
  }
}
