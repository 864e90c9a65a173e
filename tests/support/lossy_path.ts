/**
 * A path that loses, delays, reorders and repeats datagrams, between a sender with a record limit and a receiver that
 * reports: everything but the bytes. Seeded, in simulated time.
 */

import { LossReports } from "../../lib/loss_report.ts";
import { type LossReport, parityGroups, RecordLimit } from "../../lib/record_limit.ts";
import { MAX_SEND_BYTES } from "../../lib/limits.ts";
import { ReplayWindow } from "../../lib/replay_window.ts";
import { randomSource } from "./property.ts";

/** A path on which a full packet is 1,420 bytes. */
export const DATAGRAM_BYTES = 1452;
const STEP_MS = 10;

/** What the path does and what is sent; what is left out does not happen. */
export interface PathOptions {
  readonly seconds: number;
  /** By the time in seconds, where it is not one rate. */
  readonly datagramsPerSecond: number | ((atSeconds: number) => number);
  /** Probability that a datagram is lost, by the time in seconds. */
  readonly loss?: (atSeconds: number) => number;
  /** Datagrams that one loss takes with it, itself included. */
  readonly burst?: number;
  /** Share of records that are one datagram (voice, acknowledgements) instead of as large as allowed. */
  readonly smallShare?: number;
  readonly roundTripMs?: number;
  /** Share of records that come `reorderMs` late. */
  readonly reorderShare?: number;
  readonly reorderMs?: number;
  readonly duplicateShare?: number;
  /** Share of reports that are lost. */
  readonly reportLoss?: number;
  /** The sender's records cost little more than their bytes. */
  readonly cheapRecords?: boolean;
  /** Loss that the receiver knows for its own. */
  readonly overloaded?: boolean;
  readonly seed?: number;
}

/** The state after one step of 10 ms. */
export interface PathSample {
  readonly atSeconds: number;
  /** Datagrams that the largest record has, parity apart. */
  readonly datagrams: number;
  readonly loss: number;
  readonly reports: number;
  readonly parity: boolean;
  /** Since the beginning: pieces sent, and those that the receiver never had because their record was lost. */
  readonly pieces: number;
  readonly lostPieces: number;
  /** Since the beginning: all datagrams sent, parity too. */
  readonly sent: number;
}

/** A copy of a record that arrives. */
interface Arrival {
  readonly atMs: number;
  readonly sequence: number;
  /** A piece was lost and restored. */
  readonly restored: boolean;
}

/** Datagrams that leave by one send. */
const MOST_DATAGRAMS = Math.floor(MAX_SEND_BYTES / DATAGRAM_BYTES);

/** Runs the path. @returns a sample for every 10 ms */
export function runPath(options: PathOptions): PathSample[] {
  const { seconds, datagramsPerSecond, roundTripMs = 20, reportLoss = 0, overloaded = false } = options;
  const random = randomSource(options.seed ?? 1);
  const chance = (share: number) => random(1e9) < share * 1e9;
  const limit = new RecordLimit(DATAGRAM_BYTES, options.cheapRecords);
  const link = new Link(options, chance);
  const receiver = new ReplayWindow();
  const reporter = new LossReports();
  const samples: PathSample[] = [];
  let arrivals: Arrival[] = [];
  let reports: { atMs: number; report: LossReport }[] = [];
  let sequence = 0;
  let credit = 0;
  let reported = 0;
  let restored = 0;
  let [sent, sentPieces, lostPieces] = [0, 0, 0];
  for (let nowMs = 0; nowMs < seconds * 1000; nowMs += STEP_MS) {
    const rate =
      typeof datagramsPerSecond === "number" ? datagramsPerSecond : datagramsPerSecond(nowMs / 1000);
    credit += (rate * STEP_MS) / 1000;
    while (credit > 0) {
      const pieces = chance(options.smallShare ?? 0) ? 1 : datagramsOf(limit.limit);
      const groups = groupsOf(limit, pieces);
      credit -= pieces + groups;
      sent += pieces + groups;
      sentPieces += pieces;
      limit.recordSent(pieces + groups, groups > 0);
      const copies = link.carry(sequence++, pieces, groups, nowMs);
      if (copies.length === 0) lostPieces += pieces;
      arrivals.push(...copies);
    }
    for (const arrival of arrivals.filter(({ atMs }) => atMs <= nowMs)) {
      if (!receiver.mark(arrival.sequence)) continue;
      reporter.dataOpened();
      if (arrival.restored) restored++;
    }
    arrivals = arrivals.filter(({ atMs }) => atMs > nowMs);
    const hit = receiver.next - receiver.marked + restored;
    if (reporter.due(hit, nowMs)) {
      reporter.sent(hit, nowMs);
      reported++;
      const report = {
        recordsSeen: receiver.marked,
        recordsExpected: receiver.next,
        recordsRestored: restored,
        overloaded,
      };
      if (!chance(reportLoss)) reports.push({ atMs: nowMs + roundTripMs / 2, report });
    }
    for (const { report } of reports.filter(({ atMs }) => atMs <= nowMs)) limit.reported(report, nowMs);
    reports = reports.filter(({ atMs }) => atMs > nowMs);
    samples.push({
      atSeconds: nowMs / 1000,
      datagrams: datagramsOf(limit.limit),
      loss: limit.loss,
      reports: reported,
      parity: limit.parity,
      pieces: sentPieces,
      lostPieces,
      sent,
    });
  }
  return samples;
}

/** Datagrams of a record with a plaintext of so many bytes. */
export function datagramsOf(plaintextBytes: number): number {
  return Math.ceil((plaintextBytes + 16) / (DATAGRAM_BYTES - 16));
}

/** Parities that go with a record, as `data_plane_outbound.ts` has it. */
function groupsOf(limit: RecordLimit, pieces: number): number {
  if (pieces === 1 || !limit.parity) return 0;
  return Math.max(0, Math.min(parityGroups(limit.lossNow, pieces), MOST_DATAGRAMS - pieces));
}

/** Decides what becomes of the datagrams. */
class Link {
  readonly #options: PathOptions;
  readonly #chance: (share: number) => boolean;
  #burstLeft = 0;

  constructor(options: PathOptions, chance: (share: number) => boolean) {
    this.#options = options;
    this.#chance = chance;
  }

  /** When copies of a whole record arrive: none, one or two. */
  carry(sequence: number, pieces: number, groups: number, nowMs: number): Arrival[] {
    const { roundTripMs = 20, reorderShare = 0, reorderMs = 0 } = this.#options;
    const lostOfGroup = Array.from({ length: Math.max(1, groups) }, () => 0);
    let restored = false;
    // parities go ahead
    for (let group = 0; group < groups; group++) if (this.#loses(nowMs)) lostOfGroup[group]!++;
    for (let piece = 0; piece < pieces; piece++) {
      if (!this.#loses(nowMs)) continue;
      lostOfGroup[piece % lostOfGroup.length]!++;
      restored = true;
    }
    if (lostOfGroup.some((lost) => lost > Math.min(1, groups))) return [];
    const atMs = nowMs + roundTripMs / 2 + (this.#chance(reorderShare) ? reorderMs : 0);
    const copy = { atMs, sequence, restored };
    return this.#chance(this.#options.duplicateShare ?? 0) ? [copy, copy] : [copy];
  }

  /** Whether the path loses the next datagram. */
  #loses(nowMs: number): boolean {
    const { loss, burst = 1 } = this.#options;
    const probability = (loss?.(nowMs / 1000) ?? 0) / burst;
    if (this.#burstLeft === 0 && this.#chance(probability)) this.#burstLeft = burst;
    if (this.#burstLeft === 0) return false;
    this.#burstLeft--;
    return true;
  }
}
