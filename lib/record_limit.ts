/**
 * How large a record may be: one controller for one direction of one session, fed with what the receiver reports.
 *
 * One lost datagram loses its whole record, so a record should be the smaller the more the path loses; but each record
 * costs a call to the cipher and a send, so none should be smaller than that. Pure: counts and the time in, a limit out.
 *
 * **Estimate.** The receiver reports how many records it opened and how many it must have been sent (`keepalive.ts`); the
 * sender knows into how many datagrams it cut them. Lost records / datagrams sent is the rate of loss events: of lost
 * datagrams when losses are rare and apart, which the limit itself brings about, and of bursts when they come in bursts,
 * where it is what counts (RFC 5348, section 5, measures loss in events for the same reason). Only authentic counts
 * enter, both are cumulative, so a lost report costs nothing, and a record that was only late is taken back.
 * A slow window's mean decides, and the newest reports with a few losses, which must be sure (mean less one standard
 * deviation of Poisson's law), so that loss is seen at once and a single lost record is not taken for it. A long run of
 * datagrams without a loss says that it is over before the slow window has forgotten it.
 *
 * **Rule.** TCP above sees a lost record as that many segments lost at once, and survives it if they are a small part of
 * its window, which is 1.22 / sqrt(p) segments at loss p (Mathis et al., 1997). So a record has at most a third of
 * that. Where so many datagrams pass that the calls are what limits, it may have more. But n * p stays under 0.1 always.
 *
 * **With parity** (`parity.ts`, `parity_choice.ts`) a record is lost when two of its n + 1 datagrams are: TCP sees a loss every
 * 2 / (n * p^2) segments, has a window of 1.22 * sqrt(2 / n) / p, and n is a third of that at (0.57 / p)^(2/3). Where the calls
 * are what limits it may have more, in groups of m with a parity each: that costs 1 / m of the bytes, and n * m * p^2 / 2 of
 * the records are lost; the sum is least at m = sqrt(2 / n) / p.
 */

import type { Keepalive } from "./keepalive.ts";
import { datagramsPerSend, HEADER_BYTES, recordLimitFor, TAG_BYTES } from "./limits.ts";
import { ParityChoice } from "./parity_choice.ts";
import { MAX_PARITY_GROUPS } from "./protocol.ts";

/**
 * Time constants: of what was lost, and of how fast datagrams are sent. The second is short, because TCP sends a fraction of
 * what it did when loss begins, and the rate before it would ask for large records for seconds.
 */
const LOSS_MS = 1250;
const RATE_MS = 200;
/**
 * Longest time that one report counts for. Under traffic they come more often; what was learnt of a path is forgotten by
 * new evidence, not by silence, or every burst after a pause would start with records too large.
 */
const LONGEST_STEP_MS = 500;
/** Of how many reports at most the newest losses are taken, and how many losses are enough. */
const RECENT_REPORTS = 8;
const ENOUGH_LOSSES = 8;
/** What is believed before anything is known, 0.1 lost of 100: records of 12 datagrams, until the path shows better. */
const PRIOR_LOST = 0.1;
const PRIOR_DATAGRAMS = 100;
/** Most a record may grow within a second, as a factor. */
const GROWTH_PER_SECOND = 2.5;
/** The same as long as nothing was lost: twice as large every 100 ms, which is one report. */
const FIRST_GROWTH_PER_SECOND = 1000;
/** Losses expected of a run of datagrams without any, at which the loss has ended: by chance it is e^-8. */
const SURELY_OVER = 8;

/** A third of TCP's window of 1.22 / sqrt(p) segments. */
const WINDOW_SHARE = 0.4;
/** Where a record costs little (`--engine sync`): hardly more of TCP's window than single datagrams would take. */
const CHEAP_WINDOW_SHARE = 0.1;
/** Datagrams lost per record beyond which throughput collapses. */
const MOST_LOST_PER_RECORD = 0.1;
/** The same, of records with parity: here they are still sent as large as the calls make worth while. */
const MOST_LOST_WITH_PARITY = 0.15;
/**
 * Most parity of a record in shares of the square root of loss. A full queue loses little, but every byte counts there; of a
 * path that loses at random TCP uses the less the more it loses, by that root.
 */
const MOST_PARITY = 2;
/** Records a second whose fixed cost (measured: about 28 us, sealed, sent and opened by Web Crypto) is a sixth of a processor. */
const CHEAP_RECORDS_PER_SECOND = 6000;
/** The same where a record costs about 5 us (node:crypto). */
const CHEAPER_RECORDS_PER_SECOND = 30_000;

/** Reports refused in a row after which the other side must have begun to count anew, as after a resumption. */
const REFUSALS = 16;
/** Reports whose place in our counts is remembered: several seconds of round trip. */
const MARKS = 32;

/** What a receiver says about the records it was sent; the fields of a keep-alive message. */
export type LossReport = Pick<
  Keepalive,
  "recordsSeen" | "recordsExpected" | "recordsRestored" | "overloaded"
>;

/**
 * Datagrams that one record may have.
 *
 * @param loss loss events per datagram, 0 to 1
 * @param datagramsPerSecond how many are sent
 * @param cheapRecords a record costs little more than its bytes
 * @returns at least 1; a fraction is to be rounded down
 */
export function recordDatagrams(loss: number, datagramsPerSecond: number, cheapRecords = false): number {
  const share = cheapRecords ? CHEAP_WINDOW_SHARE : WINDOW_SHARE;
  const cheap = cheapRecords ? CHEAPER_RECORDS_PER_SECOND : CHEAP_RECORDS_PER_SECOND;
  const wanted = Math.max(share / Math.sqrt(loss), datagramsPerSecond / cheap);
  return Math.max(1, Math.min(MOST_LOST_PER_RECORD / loss, wanted));
}

/**
 * The same, parities apart, when parity goes with the record.
 *
 * @param loss loss events per datagram, 0 to 1
 */
export function parityDatagrams(loss: number, datagramsPerSecond: number, cheapRecords = false): number {
  const cheap = cheapRecords ? CHEAPER_RECORDS_PER_SECOND : CHEAP_RECORDS_PER_SECOND;
  const wanted = Math.max(((Math.SQRT2 * WINDOW_SHARE) / loss) ** (2 / 3), (3 * datagramsPerSecond) / cheap);
  const most = ((MOST_LOST_WITH_PARITY * Math.SQRT2) / loss) ** 2;
  return Math.max(1, Math.min(most, wanted));
}

/**
 * Groups to divide the pieces of a record into, each with its parity.
 *
 * @param loss loss events per datagram, 0 to 1
 * @returns 0 where parity would cost more of the path than loss costs TCP, else 1 to 8
 */
export function parityGroups(loss: number, pieces: number): number {
  if (1 / pieces > MOST_PARITY * Math.sqrt(loss)) return 0;
  const wanted = (pieces * loss * Math.sqrt(pieces)) / Math.SQRT2;
  return Math.max(1, Math.min(MAX_PARITY_GROUPS, pieces, Math.round(wanted)));
}

/**
 * Lost datagrams behind `hit` records that lost something, of `records` that were cut into so many `datagrams`: more than
 * `hit`, because some lost several. Where the share p is lost at random, a record of n keeps all of them by (1 - p)^n.
 */
function lossEvents(hit: number, records: number, datagrams: number): number {
  if (hit <= 0 || datagrams <= records) return hit;
  const recordsPerDatagram = records / datagrams;
  // all records hit does not mean all datagrams lost, unless a record is one: as if one more had kept its datagrams
  const share = hit / (records + 1 - recordsPerDatagram);
  return Math.max(hit, datagrams * (1 - (1 - share) ** recordsPerDatagram));
}

/** Lost records and datagrams, fading with {@link LOSS_MS}. */
class LossWindow {
  lost = 0;
  datagrams = 0;

  add(lost: number, datagrams: number, elapsedMs: number): void {
    const kept = Math.exp(-elapsedMs / LOSS_MS);
    this.lost = this.lost * kept + lost;
    this.datagrams = this.datagrams * kept + datagrams;
  }

  /** Loss events per datagram, with `priorLost` of {@link PRIOR_DATAGRAMS} believed before. */
  mean(priorLost: number): number {
    return (Math.max(0, this.lost) + priorLost) / (this.datagrams + PRIOR_DATAGRAMS);
  }
}

/**
 * Loss of the newest reports alone. When loss begins TCP slows down, and what was sent before outweighs what is sent now in
 * any window of time; so the newest reports are taken until they have enough losses.
 */
class RecentLosses {
  readonly #lost = new Float64Array(RECENT_REPORTS);
  readonly #datagrams = new Float64Array(RECENT_REPORTS);
  #next = 0;

  add(lost: number, datagrams: number): void {
    const at = this.#next++ % RECENT_REPORTS;
    this.#lost[at] = lost;
    this.#datagrams[at] = datagrams;
  }

  /** Loss events per datagram at least, one standard deviation of Poisson's law below the mean; 0 without enough losses. */
  get sure(): number {
    let lost = 0;
    let datagrams = PRIOR_DATAGRAMS;
    for (let back = 1; back <= RECENT_REPORTS; back++) {
      const at = (this.#next - back + RECENT_REPORTS) % RECENT_REPORTS;
      lost += this.#lost[at]!;
      datagrams += this.#datagrams[at]!;
      if (lost >= ENOUGH_LOSSES) return (lost - Math.sqrt(lost)) / datagrams;
    }
    return 0;
  }
}

/** See the top of the file. */
export class RecordLimit {
  readonly #cheapRecords: boolean;
  #maxDatagramBytes: number;
  /** Datagrams a record may have now; not rounded. */
  #allowed = recordDatagrams(PRIOR_LOST / PRIOR_DATAGRAMS, 0);
  readonly #slow = new LossWindow();
  readonly #recent = new RecentLosses();
  /** By the newest reports, fading with {@link RATE_MS}. */
  #datagramsPerSecond = 0;
  /** Datagrams since the last loss. */
  #cleanRun = 0;
  /** Something was lost since the beginning. */
  #everLost = false;
  readonly #parity = new ParityChoice();

  // what we sent, and what of it the newest report speaks of
  #records = 0;
  #datagrams = 0;
  /** Datagrams of records with parity. */
  #protected = 0;
  #seen = 0;
  #expected = 0;
  #restored = 0;
  #reportedDatagrams = 0;
  #reportedProtected = 0;
  #reportedAtMs = -Infinity;
  #refusals = 0;
  /** The receiver's count of records less ours; not zero only after one of the two began anew. */
  #ahead = 0;

  /** A ring of earlier values of #records, #datagrams and #protected, to tell how many datagrams the first n records had. */
  readonly #markRecords = new Float64Array(MARKS);
  readonly #markDatagrams = new Float64Array(MARKS);
  readonly #markProtected = new Float64Array(MARKS);
  #marks = 0;

  /**
   * @param maxDatagramBytes the largest datagram that the path allows, header included
   * @param cheapRecords a record costs little more than its bytes
   */
  constructor(maxDatagramBytes: number, cheapRecords = false) {
    this.#cheapRecords = cheapRecords;
    this.#maxDatagramBytes = maxDatagramBytes;
  }

  /** Largest plaintext of a record in bytes: between that of one full datagram and `recordLimitFor` of it. */
  get limit(): number {
    const pieceBytes = this.#maxDatagramBytes - HEADER_BYTES;
    const datagrams = Math.floor(Math.min(this.#allowed, this.#most));
    return Math.min(recordLimitFor(this.#maxDatagramBytes), datagrams * pieceBytes - TAG_BYTES);
  }

  /** Whether parity goes with each record. */
  get parity(): boolean {
    return this.#parity.on;
  }

  /** Datagrams of the largest record. */
  get #most(): number {
    const largest = recordLimitFor(this.#maxDatagramBytes) + TAG_BYTES;
    const most = Math.ceil(largest / (this.#maxDatagramBytes - HEADER_BYTES));
    if (!this.#parity.on) return most;
    const datagrams = datagramsPerSend(this.#maxDatagramBytes);
    // room for the parities of so large a record
    const groups = Math.max(1, parityGroups(this.lossNow, datagrams));
    return Math.max(1, Math.min(most, datagrams - groups));
  }

  /** Loss events per datagram as they are now, 0 to 1: a path that has just become bad is not taken for a good one. */
  get lossNow(): number {
    return this.#estimate(0);
  }

  /** Share of datagrams lost lately, 0 to 1, as far as it can be told from records. */
  get loss(): number {
    return this.#slow.datagrams > 0 ? Math.min(1, Math.max(0, this.#slow.lost) / this.#slow.datagrams) : 0;
  }

  /** The path allows datagrams of another size from now on. */
  setMaxDatagramBytes(maxDatagramBytes: number): void {
    this.#maxDatagramBytes = maxDatagramBytes;
    this.#mark();
  }

  /** Takes note of a record that was given a number, keep-alives too, and made so many datagrams, parity included. */
  recordSent(datagrams: number, parity: boolean): void {
    this.#records++;
    this.#datagrams += datagrams;
    if (parity) this.#protected += datagrams;
  }

  /**
   * Takes a report of the receiver.
   *
   * One that says that more was sent than we sent, or that is older than one taken before, is ignored; if nothing else comes
   * any more, the next one is a new beginning to count from.
   *
   * @returns whether it was taken
   */
  reported(report: LossReport, nowMs: number): boolean {
    const { recordsSeen: seen, recordsExpected: expected, recordsRestored } = report;
    if (!this.#plausible(seen, expected, recordsRestored)) {
      if (++this.#refusals >= REFUSALS) this.#beginAnew(seen, expected, recordsRestored);
      return false;
    }
    this.#refusals = 0;
    // negative when records that had been given up came after all
    const lost = expected - seen - (this.#expected - this.#seen);
    const restored = recordsRestored - this.#restored;
    const reported = expected - this.#ahead;
    const reportedDatagrams = this.#countAt(reported, this.#markDatagrams, this.#datagrams);
    const datagrams = Math.max(0, reportedDatagrams - this.#reportedDatagrams);
    const events = lossEvents(lost + restored, expected - this.#expected, datagrams);
    // of the records that the report speaks of, not of those sent since: a round trip ago there may have been no parity
    const reportedProtected = this.#countAt(reported, this.#markProtected, this.#protected);
    const share = datagrams > 0 ? Math.max(0, reportedProtected - this.#reportedProtected) / datagrams : 0;
    const elapsedMs = Math.min(LONGEST_STEP_MS, Math.max(0, nowMs - this.#reportedAtMs));
    this.#seen = seen;
    this.#expected = expected;
    this.#restored = recordsRestored;
    this.#reportedDatagrams = reportedDatagrams;
    this.#reportedProtected = reportedProtected;
    this.#reportedAtMs = nowMs;
    this.#mark();
    // what a busy receiver dropped says nothing of the path, and smaller records would make it busier
    if (report.overloaded === true) return true;
    this.#slow.add(events, datagrams, elapsedMs);
    this.#recent.add(events, datagrams);
    this.#cleanRun = lost + restored > 0 ? 0 : this.#cleanRun + datagrams;
    if (lost + restored > 0) this.#everLost = true;
    this.#parity.reported(lost, restored, share, this.lossNow, elapsedMs, nowMs);
    this.#measureRate(datagrams, elapsedMs);
    this.#adapt(elapsedMs);
    return true;
  }

  #plausible(seen: number, expected: number, restored: number): boolean {
    const possible = restored <= seen && seen <= expected && expected - this.#ahead <= this.#records;
    // whatever was restored was seen
    const newlySeen = seen - this.#seen;
    const newlyRestored = restored - this.#restored;
    return possible && expected >= this.#expected && newlySeen >= newlyRestored && newlyRestored >= 0;
  }

  #beginAnew(seen: number, expected: number, restored: number): void {
    this.#seen = seen;
    this.#expected = expected;
    this.#restored = restored;
    this.#ahead = expected - this.#records;
    this.#reportedDatagrams = this.#datagrams;
    this.#reportedProtected = this.#protected;
    this.#refusals = 0;
  }

  #measureRate(datagrams: number, elapsedMs: number): void {
    if (elapsedMs === 0) return;
    const kept = Math.exp(-elapsedMs / RATE_MS);
    this.#datagramsPerSecond =
      this.#datagramsPerSecond * kept + ((datagrams * 1000) / elapsedMs) * (1 - kept);
  }

  /**
   * Shrinks at once, grows slowly; but until the first loss it only grows, and fast, as TCP's slow start does: a path of which
   * nothing bad is known must not make the first seconds of every tunnel slow.
   */
  #adapt(elapsedMs: number): void {
    const datagramsPerSecond = this.#datagramsPerSecond;
    const estimate = this.#estimate(PRIOR_LOST);
    const wanted = this.#parity.on
      ? parityDatagrams(estimate, datagramsPerSecond, this.#cheapRecords)
      : recordDatagrams(estimate, datagramsPerSecond, this.#cheapRecords);
    const growth = this.#everLost ? GROWTH_PER_SECOND : FIRST_GROWTH_PER_SECOND;
    const grown = this.#allowed * growth ** (elapsedMs / 1000);
    const allowed = Math.min(wanted, grown, this.#most);
    this.#allowed = this.#everLost ? allowed : Math.max(this.#allowed, allowed);
  }

  /** Loss events per datagram. */
  #estimate(priorLost: number): number {
    const mean = this.#slow.mean(priorLost);
    return Math.min(1, Math.max(mean, this.#recent.sure), SURELY_OVER / this.#cleanRun);
  }

  /** Remembers that the records so far had the datagrams so far. The limit changes only here, so between two marks the mix is even. */
  #mark(): void {
    const at = this.#marks++ % MARKS;
    this.#markRecords[at] = this.#records;
    this.#markDatagrams[at] = this.#datagrams;
    this.#markProtected[at] = this.#protected;
  }

  /**
   * What was counted when we had sent `records` records: exact at the marks, in proportion between them.
   *
   * @param counts of the marks
   * @param above the count now
   */
  #countAt(records: number, counts: Float64Array, above: number): number {
    let aboveRecords = this.#records;
    for (let mark = this.#marks - 1; mark >= Math.max(0, this.#marks - MARKS); mark--) {
      const belowRecords = this.#markRecords[mark % MARKS]!;
      const below = counts[mark % MARKS]!;
      if (records >= belowRecords) return between(records, belowRecords, below, aboveRecords, above);
      aboveRecords = belowRecords;
      above = below;
    }
    return this.#marks <= MARKS ? between(records, 0, 0, aboveRecords, above) : above;
  }
}

/** The value at `x` on the line through two points. */
function between(x: number, x0: number, y0: number, x1: number, y1: number): number {
  return x1 === x0 ? y0 : y0 + ((x - x0) * (y1 - y0)) / (x1 - x0);
}
