/**
 * How many log-ins may be started: by each address, and by all together. Pure; time is handed in.
 *
 * The rate of one address is WireGuard's (ratelimiter/ of wireguard-go: 20 a second, bursts of 5). All IPv6 addresses
 * of a /64 count as one, because one subscriber has at least that many. When the total is used up by many addresses,
 * a reserve is left to those that were not heard of for a while and to those that logged in before: a crowd that
 * keeps knocking uses up neither.
 */

import { makePrefix, networkOf, parseAddress } from "./address.ts";
import {
  HANDSHAKES_BURST,
  HANDSHAKES_PER_SECOND,
  HANDSHAKES_RESERVE_PER_SECOND,
  HANDSHAKES_TOTAL_PER_SECOND,
  LIMITED_ADDRESSES,
} from "./limits.ts";
import { TokenBucket } from "./token_bucket.ts";

/** An address is a newcomer again after this silence. */
const NEWCOMER_AFTER_MS = 60_000;
/** An address that is shut out is told why this often. */
const BANNED_PER_SECOND = 1;
const BANNED_BURST = 2;

/**
 * Whom an address counts for: itself, or its /64. On a link all link-local addresses share one /64 (RFC 4291, section
 * 2.5.6), so these count for themselves, as does a text that is no address.
 */
export function limitKey(address: string): string {
  if (!address.includes(":") || /^fe[89ab]/i.test(address)) return address;
  try {
    return networkOf(makePrefix(parseAddress(address), 64)).text;
  } catch {
    return address;
  }
}

/** Rates of a limiter, in handshakes a second. */
export interface HandshakeRates {
  readonly perAddress: number;
  readonly total: number;
}

export const DEFAULT_HANDSHAKE_RATES: HandshakeRates = {
  perAddress: HANDSHAKES_PER_SECOND,
  total: HANDSHAKES_TOTAL_PER_SECOND,
};

interface Knocker {
  readonly bucket: TokenBucket;
  lastMs: number;
}

/** The buckets of all addresses. */
export class HandshakeLimiter {
  readonly #rates: HandshakeRates;
  readonly #total: TokenBucket;
  readonly #reserve: TokenBucket;
  /** By {@link limitKey}, the longest unused first. */
  readonly #knockers = new Map<string, Knocker>();
  readonly #banned = new Map<string, Knocker>();
  /** Keys that logged in, the longest ago first. */
  readonly #proven = new Set<string>();

  constructor(rates: HandshakeRates, nowMs: number) {
    this.#rates = rates;
    this.#total = new TokenBucket(rates.total, rates.total, nowMs);
    const reserve = Math.min(rates.total, HANDSHAKES_RESERVE_PER_SECOND);
    this.#reserve = new TokenBucket(reserve, reserve, nowMs);
  }

  /** Addresses that are remembered, for tests. */
  get size(): number {
    return this.#knockers.size;
  }

  /** Whether the address may start a handshake now. @param banned it is shut out, and may only be told so */
  take(address: string, banned: boolean, nowMs: number): boolean {
    const key = limitKey(address);
    if (banned)
      return this.#knocker(this.#banned, key, BANNED_PER_SECOND, BANNED_BURST, nowMs).bucket.take(nowMs);
    const { perAddress } = this.#rates;
    const burst = Math.max(HANDSHAKES_BURST, Math.ceil(perAddress / 4));
    const known = this.#knockers.get(key);
    const privileged =
      this.#proven.has(key) || known === undefined || nowMs - known.lastMs > NEWCOMER_AFTER_MS;
    const knocker = this.#knocker(this.#knockers, key, perAddress, burst, nowMs);
    if (!knocker.bucket.take(nowMs)) return false;
    return this.#total.take(nowMs) || (privileged && this.#reserve.take(nowMs));
  }

  /** Somebody at this address proved who it is. */
  proven(address: string): void {
    const key = limitKey(address);
    this.#proven.delete(key);
    this.#proven.add(key);
    dropOldest(this.#proven);
  }

  #knocker(
    among: Map<string, Knocker>,
    key: string,
    perSecond: number,
    burst: number,
    nowMs: number,
  ): Knocker {
    const knocker = among.get(key) ?? { bucket: new TokenBucket(perSecond, burst, nowMs), lastMs: nowMs };
    knocker.lastMs = nowMs;
    among.delete(key);
    among.set(key, knocker);
    dropOldest(among);
    return knocker;
  }
}

/** Keeps a collection, the longest unused first, within {@link LIMITED_ADDRESSES}. */
export function dropOldest(among: Map<string, unknown> | Set<string>): void {
  if (among.size <= LIMITED_ADDRESSES) return;
  for (const oldest of among.keys()) {
    among.delete(oldest);
    return;
  }
}
