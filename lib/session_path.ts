/**
 * The path to one peer: how large a datagram may be, what probes and answers are due, what the log should say of it.
 *
 * Pure; the search itself is `pmtu.ts`. Sizes are UDP payload in bytes, times monotonic milliseconds.
 */

import { PROBE_ANSWERS_PER_SECOND } from "./limits.ts";
import { Pmtu, type PmtuProbe } from "./pmtu.ts";
import { TokenBucket } from "./token_bucket.ts";

/** A report in which at least one record of so many is missing is a hint at a black hole. */
const SUSPICIOUS_SHARE = 4;

/** The peer's word for a new path counts once in this time. */
const TOLD_EVERY_MS = 1_000;

/** See the top of the file. */
export class SessionPath {
  /** Largest datagram to send now; a plain field, read for every record. */
  maxDatagramBytes: number;
  /** Largest datagram sent since the last {@link poll}, probes aside; the way out raises it. */
  largestSentBytes = 0;
  readonly #pmtu: Pmtu;
  readonly #answers: TokenBucket;
  /** What the log knows; the size wanted, so that it hears nothing of a path that carries it. */
  #toldBytes: number;
  /** The search on this path was over at least once. */
  #settled = false;
  #toldMs = -Infinity;
  #reportedRecords = 0;
  #reportedLost = 0;

  /** @param wantedBytes never more than this */
  constructor(wantedBytes: number, nowMs: number) {
    this.#pmtu = new Pmtu(wantedBytes, nowMs);
    this.#answers = new TokenBucket(PROBE_ANSWERS_PER_SECOND, PROBE_ANSWERS_PER_SECOND, nowMs);
    this.maxDatagramBytes = this.#pmtu.maxDatagramBytes;
    this.#toldBytes = wantedBytes;
  }

  /** The path has answered a probe of the size in use. */
  get isKnown(): boolean {
    const { state } = this.#pmtu;
    return state === "search" || state === "complete";
  }

  /** The probes to send now, mostly none. */
  poll(nowMs: number): readonly PmtuProbe[] {
    if (this.largestSentBytes > 0) this.#pmtu.sent(this.largestSentBytes, nowMs);
    this.largestSentBytes = 0;
    return this.#pmtu.poll(nowMs);
  }

  /** The peer acknowledged a probe. */
  acked(number: number, nowMs: number): void {
    this.#pmtu.acked(number, nowMs);
    this.#adopt();
  }

  /** A probe of this size came from the peer. @returns whether it may be answered: a flood is not */
  probed(datagramBytes: number, nowMs: number): boolean {
    this.#pmtu.peerReached(datagramBytes, nowMs);
    return this.#answers.take(nowMs);
  }

  /** The endpoint moved. */
  moved(nowMs: number): void {
    this.#pmtu.moved(nowMs);
    this.#settled = false;
    this.#adopt();
  }

  /** The peer says that the path is another. It may repeat itself, and must not have us search all the time. */
  told(nowMs: number): void {
    if (nowMs - this.#toldMs < TOLD_EVERY_MS) return;
    this.#toldMs = nowMs;
    this.moved(nowMs);
  }

  /** The kernel refused to send a datagram of this size. */
  tooBig(datagramBytes: number, nowMs: number): void {
    this.#pmtu.tooBig(datagramBytes, nowMs);
    this.#adopt();
  }

  /**
   * Takes the peer's counts of our records: many losses are a hint that large datagrams vanish.
   *
   * @returns how many records arrived, as far as the path's load is concerned: probes that were too large for the path
   *   count as arrived (RFC 8899, section 3, point 7)
   */
  reported(recordsSeen: number, recordsExpected: number, nowMs: number): number {
    const missing = Math.max(0, recordsExpected - recordsSeen);
    const seen = recordsSeen + Math.min(missing, this.#pmtu.oversizedProbes);
    const lost = recordsExpected - seen - this.#reportedLost;
    if (lost > 0 && lost * SUSPICIOUS_SHARE >= recordsExpected - this.#reportedRecords)
      this.#pmtu.suspect(nowMs);
    this.#reportedRecords = recordsExpected;
    this.#reportedLost = recordsExpected - seen;
    return seen;
  }

  /** What is new to the log: a fall at once, everything else when the search is over; null for nothing. */
  takeNews(): string | null {
    const bytes = this.maxDatagramBytes;
    const before = this.#toldBytes;
    const searching = this.#pmtu.state !== "complete";
    if (!searching) this.#settled = true;
    const fell = this.#settled && bytes < before;
    if (bytes === before || (searching && !fell)) return null;
    this.#toldBytes = bytes;
    return `datagrams of up to ${bytes} bytes, ${before} before${searching ? "; searching" : ""}`;
  }

  #adopt(): void {
    this.maxDatagramBytes = this.#pmtu.maxDatagramBytes;
  }
}
