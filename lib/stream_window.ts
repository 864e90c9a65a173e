/**
 * How much of one session may be on its way into its TLS stream, and when to drop packets instead of queueing more.
 *
 * A TCP connection loses nothing: whatever flows inside it find no loss either, and fill every buffer on the way until a
 * ping takes half a second. So the queue in front of a slow stream is kept short, as a good router would: what would wait
 * longer than STREAM_DELAY_MS at the rate at which the stream takes data is dropped before it is numbered. A fast stream
 * holds back the reading of the TUN instead, which costs nothing. Pure.
 */

import {
  STREAM_DELAY_MS,
  STREAM_SHORT_QUEUE_BYTES,
  STREAM_UNSENT_BYTES,
  STREAM_WINDOW_BYTES,
} from "./limits.ts";

/** Shortest time over which a rate is measured. */
const MEASURE_MS = 40;
/** Weight of the newest measurement. */
const WEIGHT = 1 / 4;
/** With less than this waiting it is the sender's rate that is seen, not the stream's. */
const BACKLOG_BYTES = 16 * 1024;

/** One per session and stream. */
export class StreamWindow {
  #usedBytes = 0;
  #bytesPerMs: number | null = null;
  /** Beginning of the measurement; null while too little waits. */
  #sinceMs: number | null = null;
  #drainedBytes = 0;

  /** Takes room. @returns false when there is none */
  take(bytes: number, nowMs: number): boolean {
    if (this.#usedBytes > 0 && this.#usedBytes + bytes > STREAM_WINDOW_BYTES) return false;
    this.#usedBytes += bytes;
    if (this.#sinceMs === null && this.#usedBytes >= BACKLOG_BYTES) this.#begin(nowMs);
    return true;
  }

  /** The stream has taken so many bytes. */
  drained(bytes: number, nowMs: number): void {
    this.#usedBytes = Math.max(0, this.#usedBytes - bytes);
    if (this.#sinceMs === null) return;
    this.#drainedBytes += bytes;
    const elapsedMs = nowMs - this.#sinceMs;
    const isBacklogged = this.#usedBytes >= BACKLOG_BYTES;
    if (elapsedMs >= MEASURE_MS) this.#measured(this.#drainedBytes / elapsedMs);
    else if (!isBacklogged)
      this.#atLeast((this.#drainedBytes - STREAM_UNSENT_BYTES) / Math.max(1, elapsedMs));
    if (!isBacklogged) this.#sinceMs = null;
    else if (elapsedMs >= MEASURE_MS) this.#begin(nowMs);
  }

  /** Whether a packet would wait too long. @param sealingBytes on their way here, not yet taken */
  isLate(sealingBytes: number): boolean {
    if (this.#bytesPerMs === null) return false;
    const limit = Math.max(STREAM_SHORT_QUEUE_BYTES, this.#bytesPerMs * STREAM_DELAY_MS);
    return limit < STREAM_WINDOW_BYTES && this.#usedBytes + sealingBytes > limit;
  }

  /** A new stream has taken nothing yet. */
  reset(): void {
    this.#usedBytes = 0;
    this.#bytesPerMs = null;
    this.#sinceMs = null;
  }

  #begin(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#drainedBytes = 0;
  }

  #measured(rate: number): void {
    const known = this.#bytesPerMs ?? rate;
    this.#bytesPerMs = known + WEIGHT * (rate - known);
  }

  /** A burst that was gone soon: what the kernel did not just put aside shows how fast the stream is at least. */
  #atLeast(rate: number): void {
    if (this.#bytesPerMs !== null) this.#bytesPerMs = Math.max(this.#bytesPerMs, rate);
  }
}
