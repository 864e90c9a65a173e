/**
 * Holds one direction of a session to a rate: a token bucket that lets packets through, and a short queue behind it.
 *
 * Why a queue and not a policer that drops what is over the rate: TCP sends in bursts (a super-packet is 64 KB), and a
 * bucket deep enough for them lets as much through unlimited, while a shallow one drops most of each burst, so that
 * TCP stays far under its rate. A queue spaces the burst out instead. Why a managed queue: TCP fills any queue, and every
 * packet would wait in it. CoDel (RFC 8289) drops a packet now and then when the wait stays over its target, which
 * keeps the wait near the target and TCP near the full rate; traffic that does not listen meets the queue's end.
 *
 * Pure: packets and the time in, packets out. The bucket is kept as the time at which the line is free again, in which
 * bits and packets are one currency.
 */

import type { RateLimit } from "./data_plane_message.ts";

/** How much time an idle line may save up, to be used at once: a fifth of a percent of ten seconds. */
const BURST_MS = 20;
/** How much time a line may save up on which packets waited: we are late, on a busy machine, and they are not to blame. */
const LATE_MS = 100;
/** Longest wait in the queue: room for what a TCP slow start sends too much on a path of 100 ms. What is more is dropped. */
const QUEUE_MS = 150;
/** Most that a queue holds, however fast the line is. */
const QUEUE_BYTES = 4 * 1024 * 1024;
/** A queue holds that many packets, however slow the line is: less would starve TCP. */
const MIN_QUEUE_PACKETS = 16;
/**
 * The wait that is no queue yet. RFC 8289, section 4.4 has 5 ms, for packets that come one by one; ours come as
 * super-packets, and TCP over a path of under a millisecond then has windows of ten packets, in which a loss costs more
 * than it should: measured at 20 Mbit/s, 5 ms let 18.4 Mbit/s of payload through, 20 ms 19.1 of a possible 19.3.
 */
const TARGET_MS = 20;
/**
 * What is added to a rate for headers. It is a rate of inner packets, of which TCP's payload is 96 %: with two percent
 * more, both what an application measures and what the counters say lie within 4 % of the figure.
 */
const HEADER_ALLOWANCE = 1.02;
/** A round trip of nearly all paths (RFC 8289, section 4.3). */
const INTERVAL_MS = 100;
/**
 * Where an ordinary packet takes the line longer than this (113 Mbit/s), the caller cuts super-packets up: whole, one
 * would block the line for long, and its loss would be that of up to 45 packets. On faster lines that would cost more
 * than it gains.
 */
const SLOW_PACKET_MS = 0.1;

/** A packet that waits, with what the caller needs to send it. */
export interface QueuedPacket {
  /** Ours alone. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Bytes of the IP packet, without headers of the device. */
  readonly innerBytes: number;
  /** Ordinary packets that it stands for. */
  readonly packets: number;
}

interface Waiting extends QueuedPacket {
  readonly sinceMs: number;
  readonly costMs: number;
}

/** The shaper of one direction of one session. */
export class RateShaper {
  #limit: RateLimit;
  /** When the line has carried all that was let through. */
  #freeMs = -Infinity;
  readonly #queue: Waiting[] = [];
  /** Line time and bytes of all that waits. */
  #queuedMs = 0;
  #queuedBytes = 0;
  readonly #codel = new CoDel();
  #dropped = 0;

  constructor(limit: RateLimit) {
    this.#limit = limit;
  }

  /** Changes the rate; what waits goes on at the new one. */
  setLimit(limit: RateLimit): void {
    this.#limit = limit;
    const waiting = this.#queue.splice(0);
    this.#queuedMs = 0;
    this.#queuedBytes = 0;
    for (const packet of waiting) this.#push(packet, packet.sinceMs);
    // what was let through at a slower rate must not hold the line for seconds
    this.#freeMs = -Infinity;
  }

  /** Whether a super-packet of so many ordinary packets should come in pieces. */
  wantsPieces(innerBytes: number, packets: number): boolean {
    return packets > 1 && this.#costMs(innerBytes, packets) > packets * SLOW_PACKET_MS;
  }

  /**
   * Offers a packet.
   *
   * @param bytes copied when the packet has to wait
   * @returns "go" when the caller shall send it now; "wait" when {@link take} will give it; "drop" when there is no room
   */
  offer(
    bytes: Uint8Array,
    start: number,
    end: number,
    innerBytes: number,
    packets: number,
    nowMs: number,
  ): "go" | "wait" | "drop" {
    const costMs = this.#costMs(innerBytes, packets);
    if (this.#queue.length === 0 && this.#freeMs <= nowMs) {
      this.#occupy(costMs, nowMs - BURST_MS);
      return "go";
    }
    const isLong = this.#queuedMs + costMs > QUEUE_MS && this.#queue.length >= MIN_QUEUE_PACKETS;
    if (isLong || this.#queuedBytes + end - start > QUEUE_BYTES) return "drop";
    this.#push({ bytes: Uint8Array.from(bytes.subarray(start, end)), innerBytes, packets }, nowMs);
    return "wait";
  }

  /** The next packet that may go; null when none may yet. */
  take(nowMs: number): QueuedPacket | null {
    while (this.#freeMs <= nowMs) {
      const packet = this.#queue.shift();
      if (packet === undefined) return null;
      this.#queuedMs -= packet.costMs;
      this.#queuedBytes -= packet.bytes.length;
      if (this.#codel.drops(nowMs - packet.sinceMs, this.#targetMs(packet), this.#queue.length, nowMs)) {
        this.#dropped += packet.packets;
        continue;
      }
      this.#occupy(packet.costMs, nowMs - LATE_MS);
      return packet;
    }
    return null;
  }

  /** Milliseconds until {@link take} will give something; null when nothing waits. */
  dueInMs(nowMs: number): number | null {
    return this.#queue.length === 0 ? null : Math.max(0, this.#freeMs - nowMs);
  }

  /** How many packets were dropped in the queue since the last call. */
  takeDropped(): number {
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }

  #push({ bytes, innerBytes, packets }: QueuedPacket, sinceMs: number): void {
    const costMs = this.#costMs(innerBytes, packets);
    this.#queue.push({ bytes, innerBytes, packets, sinceMs, costMs });
    this.#queuedMs += costMs;
    this.#queuedBytes += bytes.length;
  }

  /** @param earliestMs how far back the time goes that was saved up */
  #occupy(costMs: number, earliestMs: number): void {
    this.#freeMs = Math.max(this.#freeMs, earliestMs) + costMs;
  }

  #costMs(innerBytes: number, packets: number): number {
    const { bitsPerSecond, packetsPerSecond } = this.#limit;
    const bits = bitsPerSecond === null ? 0 : (innerBytes * 8000) / (bitsPerSecond * HEADER_ALLOWANCE);
    return Math.max(bits, packetsPerSecond === null ? 0 : (packets * 1000) / packetsPerSecond);
  }

  /** A packet that takes the line longer than the target must not count as a queue (RFC 8289, section 4.4). */
  #targetMs({ costMs }: Waiting): number {
    return Math.max(TARGET_MS, 1.5 * costMs);
  }
}

/** When to drop a packet from the front of a queue: CoDel, the state machine of RFC 8289, section 5.6. */
class CoDel {
  /** When the wait will have been over the target for an interval; null while it is under. */
  #aboveUntilMs: number | null = null;
  #dropping = false;
  #nextDropMs = 0;
  #count = 0;
  #lastCount = 0;

  /**
   * Judges the packet at the front.
   *
   * @param waitedMs how long it was in the queue
   * @param left packets behind it; the last one is never dropped
   */
  drops(waitedMs: number, targetMs: number, left: number, nowMs: number): boolean {
    if (!this.#isLate(waitedMs, targetMs, left, nowMs)) {
      this.#dropping = false;
      return false;
    }
    if (this.#dropping) {
      if (nowMs < this.#nextDropMs) return false;
      this.#count++;
      this.#nextDropMs += INTERVAL_MS / Math.sqrt(this.#count);
      return true;
    }
    this.#dropping = true;
    // a queue that was drained a moment ago goes on about where it was
    const recent = nowMs - this.#nextDropMs < 16 * INTERVAL_MS;
    const delta = this.#count - this.#lastCount;
    this.#count = recent && delta > 1 ? delta : 1;
    this.#lastCount = this.#count;
    this.#nextDropMs = nowMs + INTERVAL_MS / Math.sqrt(this.#count);
    return true;
  }

  #isLate(waitedMs: number, targetMs: number, left: number, nowMs: number): boolean {
    if (waitedMs < targetMs || left === 0) {
      this.#aboveUntilMs = null;
      return false;
    }
    this.#aboveUntilMs ??= nowMs + INTERVAL_MS;
    return nowMs >= this.#aboveUntilMs;
  }
}
