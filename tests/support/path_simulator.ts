/**
 * Two ends that probe a simulated path: each direction with its own MTU over time, loss and delay, in virtual time.
 *
 * Both ends send full-size datagrams all the time (bulk traffic), answer probes at once, and know nothing but what
 * arrives. Steps of one millisecond; everything random comes from a seed.
 */

import { Pmtu } from "../../lib/pmtu.ts";
import { randomSource } from "./property.ts";

/** One direction. */
export interface Direction {
  /** Largest UDP payload that arrives, at a time. */
  readonly mtuBytes: (nowMs: number) => number;
  /** Loss of every datagram, whatever its size, 0 to 1. */
  readonly loss: (nowMs: number) => number;
  readonly delayMs: number;
}

/** What goes over the path. */
type Datagram = {
  readonly arrivesMs: number;
  readonly to: 0 | 1;
  readonly kind: "probe" | "ack";
  readonly number: number;
  readonly datagramBytes: number;
};

const ACK_BYTES = 40;

/** See the top of the file; end 0 sends over `directions[0]` to end 1. */
export class PathSimulator {
  nowMs = 0;
  probesSent = 0;
  probeBytes = 0;
  readonly ends: readonly [Pmtu, Pmtu];
  readonly #directions: readonly [Direction, Direction];
  readonly #random: (below: number) => number;
  readonly #hints: boolean;
  #flying: Datagram[] = [];

  /** @param hints whether the ends are told at once when full-size datagrams vanish (loss reports) */
  constructor(directions: readonly [Direction, Direction], maxBytes: number, seed: number, hints = false) {
    this.#directions = directions;
    this.#random = randomSource(seed);
    this.#hints = hints;
    this.ends = [new Pmtu(maxBytes, 0), new Pmtu(maxBytes, 0)];
  }

  /** Runs until `done` or `untilMs`. @returns the time, or null when `done` never came */
  runUntil(untilMs: number, done: () => boolean = () => false): number | null {
    while (this.nowMs < untilMs) {
      if (done()) return this.nowMs;
      this.#step();
    }
    return done() ? this.nowMs : null;
  }

  #step(): void {
    this.nowMs++;
    const arrived = this.#flying.filter((datagram) => datagram.arrivesMs <= this.nowMs);
    if (arrived.length > 0) this.#flying = this.#flying.filter((datagram) => !arrived.includes(datagram));
    for (const datagram of arrived) {
      if (datagram.kind === "ack") this.ends[datagram.to].acked(datagram.number, this.nowMs);
      else this.#transmit(datagram.to, "ack", datagram.number, ACK_BYTES);
    }
    for (const from of [0, 1] as const) {
      const end = this.ends[from];
      end.sent(end.maxDatagramBytes, this.nowMs);
      if (this.#hints && end.maxDatagramBytes > this.#directions[from].mtuBytes(this.nowMs))
        end.suspect(this.nowMs);
      for (const probe of end.poll(this.nowMs)) {
        this.probesSent++;
        this.probeBytes += probe.datagramBytes;
        this.#transmit(from, "probe", probe.number, probe.datagramBytes);
      }
    }
  }

  #transmit(from: 0 | 1, kind: "probe" | "ack", number: number, datagramBytes: number): void {
    const direction = this.#directions[from];
    const lost = this.#random(1_000_000) < direction.loss(this.nowMs) * 1_000_000;
    if (lost || datagramBytes > direction.mtuBytes(this.nowMs)) return;
    const to = from === 0 ? 1 : 0;
    this.#flying.push({ arrivesMs: this.nowMs + direction.delayMs, to, kind, number, datagramBytes });
  }
}
