/**
 * What TCP gets through a tunnel whose records are lost whole: a model in rounds of one round trip, from which the constants
 * of `lib/record_limit.ts` were chosen.
 *
 * Each flow sends its window in super-packets of a third of it (tcp_tso_should_defer of Linux), the tunnel splits or joins
 * them to records of at most n datagrams, and a record is lost with 1 - (1 - p)^n. A round takes the round trip or, if that
 * is longer, the processor time of its records. A flow that lost something multiplies its window by 0.7 (CUBIC, RFC 9438);
 * one that lost all of its window waits for a tail loss probe (RFC 8985), and if that is lost too, for the time-out of 200 ms.
 */

import { randomSource } from "./property.ts";

/** The path, the load, and what the tunnel's work costs. */
export interface RoundsOptions {
  /** Probability that a datagram is lost. */
  readonly loss: number;
  readonly roundTripUs: number;
  readonly flows: number;
  /** Most datagrams of a record. */
  readonly datagrams: number;
  readonly recordCostUs?: number;
  readonly datagramCostUs?: number;
  readonly seconds?: number;
  readonly seed?: number;
}

interface Flow {
  window: number;
  /** Window before the last loss; 0 in slow start. */
  windowAtLoss: number;
  sinceLossUs: number;
  waitUs: number;
}

const LARGEST_WINDOW = 4000;
const LARGEST_SUPER_PACKET = 45;
const TIMEOUT_US = 200_000;
/** Super-packets that follow each other find themselves in one record this often. */
const JOINED_SHARE = 0.5;

/** @returns datagrams a second that reach the receivers, retransmissions left out */
export function goodput(options: RoundsOptions): number {
  const { loss, roundTripUs, recordCostUs = 28, datagramCostUs = 6.5, seconds = 8 } = options;
  const random = randomSource(options.seed ?? 1);
  const chance = (share: number) => random(1e9) < share * 1e9;
  const flows: Flow[] = Array.from({ length: options.flows }, () => ({
    window: 10,
    windowAtLoss: 0,
    sinceLossUs: 0,
    waitUs: 0,
  }));
  let timeUs = 0;
  let delivered = 0;
  while (timeUs < seconds * 1e6) {
    const sent = flows.map((flow) => (flow.waitUs > 0 ? 0 : Math.max(1, Math.floor(flow.window))));
    const lost = flows.map(() => 0);
    let costUs = 0;
    for (const record of recordsOf(sent, options.datagrams, random, chance)) {
      const datagrams = record.reduce((sum, [, part]) => sum + part, 0);
      costUs += recordCostUs + datagramCostUs * datagrams;
      if (chance(1 - (1 - loss) ** datagrams)) for (const [flow, part] of record) lost[flow]! += part;
    }
    const roundUs = Math.max(roundTripUs, costUs);
    timeUs += roundUs;
    for (const [i, flow] of flows.entries()) {
      if (flow.waitUs > 0) flow.waitUs -= roundUs;
      else {
        delivered += sent[i]! - lost[i]!;
        finishRound(flow, lost[i]! > 0, lost[i] === sent[i], roundUs, roundTripUs, chance, loss);
      }
    }
  }
  return (delivered * 1e6) / timeUs;
}

/** The records of one round: of each the flows whose segments it holds, and how many. */
function recordsOf(
  sent: readonly number[],
  datagrams: number,
  random: (below: number) => number,
  chance: (share: number) => boolean,
): [flow: number, segments: number][][] {
  const superPackets = sent
    .flatMap((window, flow) => {
      const size = Math.max(2, Math.min(LARGEST_SUPER_PACKET, Math.floor(window / 3)));
      return cut(window, size).map((segments) => ({ flow, segments, turn: random(1e9) }));
    })
    .toSorted((a, b) => a.turn - b.turn);
  const records: [number, number][][] = [];
  let room = 0;
  for (const { flow, segments } of superPackets) {
    const even = Math.ceil(segments / Math.ceil(segments / datagrams));
    for (const part of cut(segments, even)) {
      if (part <= room && chance(JOINED_SHARE)) records.at(-1)!.push([flow, part]);
      else {
        records.push([[flow, part]]);
        room = datagrams;
      }
      room -= part;
    }
  }
  return records;
}

/** `total` in parts of `size`, the last one the rest. */
function cut(total: number, size: number): number[] {
  return Array.from({ length: Math.ceil(total / size) }, (_, i) => Math.min(size, total - i * size));
}

function finishRound(
  flow: Flow,
  lostSome: boolean,
  lostAll: boolean,
  roundUs: number,
  roundTripUs: number,
  chance: (share: number) => boolean,
  loss: number,
): void {
  if (!lostSome) {
    flow.sinceLossUs += roundUs;
    flow.window = Math.min(LARGEST_WINDOW, grownWindow(flow));
    return;
  }
  flow.windowAtLoss = flow.window;
  flow.window = Math.max(2, flow.window * 0.7);
  flow.sinceLossUs = 0;
  if (!lostAll) {
    // a retransmission lost again costs another round trip
    if (chance(Math.min(1, 3 * loss))) flow.waitUs = roundTripUs;
  } else if (chance(loss)) {
    flow.waitUs = Math.max(TIMEOUT_US, 2 * roundTripUs);
    flow.window = 2;
  } else flow.waitUs = 3 * roundTripUs;
}

/** RFC 9438: the cubic function, and at least what Reno would have (section 4.3: 0.53 segments a round trip). */
function grownWindow(flow: Flow): number {
  if (flow.windowAtLoss === 0) return flow.window * 2;
  const cubic =
    0.4 * (flow.sinceLossUs / 1e6 - Math.cbrt((flow.windowAtLoss * 0.3) / 0.4)) ** 3 + flow.windowAtLoss;
  return Math.max(flow.window + 0.53, Math.min(cubic, flow.window * 1.5));
}
