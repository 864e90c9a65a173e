/**
 * Holds the packets of rate-limited sessions back and lets them go in time: one direction of a data plane.
 *
 * A session without a limit never comes here. Super-packets that would block a slow line for long are cut up first, as
 * the kernel's own shapers do (tc-tbf(8), tc-cake(8)).
 */

import type { Clock } from "./clock.ts";
import { VNET_HEADER_BYTES } from "./limits.ts";
import { packetLength } from "./packet.ts";
import type { QueuedPacket, RateShaper } from "./rate_limit.ts";
import { segmentedBytes, writeSegments } from "./segment.ts";

/** Whose packets they are; one that was removed gets none any more. */
interface Peer {
  readonly removed: boolean;
}

export interface RateGateOptions<Owner extends Peer> {
  /** Packets have a virtio-net header in front. */
  readonly offload: boolean;
  readonly clock: Clock;
  /** Sends what was held back: packets in order, each in its own buffer. */
  readonly release: (owner: Owner, packets: readonly QueuedPacket[]) => void;
  /** Ordinary packets over the limit. */
  readonly dropped: (packets: number) => void;
}

/**
 * One timer for all sessions of one direction. A loop that keeps timers waiting asks for {@link dueMs} and calls
 * {@link releaseDue} itself.
 */
export class RateGate<Owner extends Peer> {
  readonly #options: RateGateOptions<Owner>;
  readonly #waiting = new Map<RateShaper, Owner>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #dueMs = Infinity;

  constructor(options: RateGateOptions<Owner>) {
    this.#options = options;
  }

  /**
   * Takes the packet `bytes[start..end)`, with its virtio-net header if the device has them.
   *
   * @param innerBytes length of the IP packet
   * @param packets ordinary packets that it stands for
   * @returns whether the caller shall send it as it stands; else it was dropped, or is released when its time comes
   */
  admit(
    owner: Owner,
    shaper: RateShaper,
    bytes: Uint8Array,
    start: number,
    end: number,
    innerBytes: number,
    packets: number,
  ): boolean {
    const nowMs = this.#options.clock.monotonicMs();
    if (this.#options.offload && shaper.wantsPieces(innerBytes, packets)) {
      for (const piece of cutUp(bytes, start, innerBytes)) {
        const size = piece.length - VNET_HEADER_BYTES;
        const goes = this.#offer(owner, shaper, piece, 0, piece.length, size, 1, nowMs);
        if (goes) this.#options.release(owner, [{ bytes: piece, innerBytes: size, packets: 1 }]);
      }
      return false;
    }
    return this.#offer(owner, shaper, bytes, start, end, innerBytes, packets, nowMs);
  }

  /** Monotonic milliseconds at which something may go; Infinity when nothing waits. */
  get dueMs(): number {
    return this.#dueMs;
  }

  /** Lets go what may go now; cheap when nothing may. */
  releaseDue(nowMs: number): void {
    if (nowMs >= this.#dueMs) this.#fire();
  }

  /** A limit has changed: what waits may be due earlier. */
  changed(shaper: RateShaper): void {
    if (this.#waiting.has(shaper)) this.#schedule(shaper, this.#options.clock.monotonicMs());
  }

  /** Lets nothing go any more. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueMs = Infinity;
    this.#waiting.clear();
  }

  #offer(
    owner: Owner,
    shaper: RateShaper,
    bytes: Uint8Array,
    start: number,
    end: number,
    innerBytes: number,
    packets: number,
    nowMs: number,
  ): boolean {
    const result = shaper.offer(bytes, start, end, innerBytes, packets, nowMs);
    if (result === "go") return true;
    if (result === "drop") this.#options.dropped(packets);
    else if (!this.#waiting.has(shaper)) {
      this.#waiting.set(shaper, owner);
      this.#schedule(shaper, nowMs);
    }
    return false;
  }

  #schedule(shaper: RateShaper, nowMs: number): void {
    const dueMs = nowMs + (shaper.dueInMs(nowMs) ?? 0);
    if (dueMs >= this.#dueMs) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueMs = dueMs;
    this.#timer = setTimeout(() => this.#fire(), Math.ceil(dueMs - nowMs));
  }

  #fire(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#dueMs = Infinity;
    for (const [shaper, owner] of this.#waiting) {
      const nowMs = this.#options.clock.monotonicMs();
      if (!owner.removed) this.#release(owner, shaper, nowMs);
      if (owner.removed || shaper.dueInMs(nowMs) === null) this.#waiting.delete(shaper);
      else this.#schedule(shaper, nowMs);
    }
  }

  #release(owner: Owner, shaper: RateShaper, nowMs: number): void {
    const due: QueuedPacket[] = [];
    for (let packet = shaper.take(nowMs); packet !== null; packet = shaper.take(nowMs)) due.push(packet);
    const dropped = shaper.takeDropped();
    if (dropped > 0) this.#options.dropped(dropped);
    if (due.length > 0) this.#options.release(owner, due);
  }
}

/** The ordinary packets of the super-packet whose virtio-net header is at `start`, each behind an empty header. */
function cutUp(bytes: Uint8Array, start: number, innerBytes: number): Uint8Array<ArrayBuffer>[] {
  const segments = new Uint8Array(segmentedBytes(bytes, start, innerBytes));
  const end = writeSegments(bytes, start, innerBytes, segments, 0);
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < end;) {
    const next = at + Math.max(1, packetLength(segments, at, end));
    const piece = new Uint8Array(VNET_HEADER_BYTES + next - at);
    piece.set(segments.subarray(at, next), VNET_HEADER_BYTES);
    pieces.push(piece);
    at = next;
  }
  return pieces;
}
