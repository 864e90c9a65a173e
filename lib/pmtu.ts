/**
 * How large a datagram the path to one peer carries: path MTU discovery by probing, DPLPMTUD (RFC 8899).
 *
 * One machine a session and direction; it covers what we send, the peer's own covers the other way. Pure: told what
 * happened and when, it hands out the probes to send and says which datagram size holds. Sizes are UDP payload.
 *
 * A size is judged by a **trial**, not by time-outs. Each round of a trial sends the size in question and beside it
 * smaller ones (controls). If the size is answered, the path carries it. If PMTU_PROBES smaller ones were answered and
 * the size never, it does not. So loss, a long round trip or an outage alone never shrinks anything: they take the
 * controls as well, and the trial waits. Three kinds of trial:
 *  - search: is a larger size carried? The first try is the largest size wanted, then the range is halved;
 *  - confirm: does the size in use still arrive? Every PMTU_CONFIRM_MS while full-size datagrams are sent, and at once
 *    on a hint (`suspect`): this finds black holes;
 *  - the first on a path (state "base"): like a search, from PMTU_BASE_BYTES on.
 * What a search ends at is doubted once: the smallest refused size is tried again before the search is complete, so that
 * a size which luck refused does not hold for PMTU_RAISE_MS.
 */

import {
  PMTU_BASE_BYTES,
  PMTU_CONFIRM_MS,
  PMTU_ERROR_RAISE_MS,
  PMTU_MIN_BYTES,
  PMTU_PROBES,
  PMTU_RAISE_MS,
  PMTU_STEP_BYTES,
} from "./limits.ts";

/** The states of RFC 8899, section 5.2 (figure 5); "error": not even the base size is carried. */
export type PmtuState = "base" | "search" | "complete" | "error";

/** A probe to send now: one datagram of `datagramBytes` UDP payload with DF set, see `probe_message.ts`. */
export interface PmtuProbe {
  readonly number: number;
  readonly datagramBytes: number;
}

/** Shortest time between two rounds of a trial. */
const ROUND_MS = 100;
/** Hints are not listened to so soon after the size in use was confirmed. */
const HINT_HOLD_MS = 250;
/** The round trip while it is not known, and the longest wait after the first round. */
const FIRST_RTT_MS = 200;
const MAX_FIRST_WAIT_MS = 1_000;
/** Rounds without any answer before they get rarer, and how rare they may get: an outage is not a flood of probes. */
const QUICK_ROUNDS = 12;
const MAX_ROUND_MS = 2_000;
/** Unanswered probes of a trial that are remembered; older answers no longer count. */
const MAX_OUTSTANDING = 128;

const NO_PROBES: readonly PmtuProbe[] = [];

/** One question to the path. */
interface Trial {
  /** The size in question and the controls below it, largest first. */
  readonly sizes: readonly number[];
  round: number;
  nextRoundMs: number;
  /** Probes answered, none of them of the size in question, and the largest of them. */
  answered: number;
  largestAnswered: number;
}

/** See the top of the file. */
export class Pmtu {
  #maxBytes: number;
  #currentBytes = 0;
  /** Smallest size that the path refused; above `#maxBytes` when none was. */
  #refusedBytes = 0;
  /** The refusal is beyond doubt, or was doubted once already. */
  #refusalSure = false;
  /** The path has answered a probe of at least the base size. */
  #proven = false;
  #searching = true;
  #trial: Trial | null = null;
  #outstanding: (PmtuProbe & { readonly sentMs: number })[] = [];
  #nextNumber = 0;
  #rttMs: number | null = null;
  #largeSentMs = -Infinity;
  #confirmedMs = -Infinity;
  #raiseMs = Infinity;
  /** When a size was refused last. */
  #refusedMs = -Infinity;
  #oversizedProbes = 0;

  /** @param maxBytes largest UDP payload wanted: the outgoing interface's MTU less IP and UDP header, or less */
  constructor(maxBytes: number, nowMs: number) {
    this.#maxBytes = maxBytes;
    this.moved(nowMs);
  }

  /** Largest datagram to send, for `piecesFor` in `protocol.ts`. */
  get maxDatagramBytes(): number {
    return this.#currentBytes;
  }

  get state(): PmtuState {
    if (this.#currentBytes < this.#baseBytes) return "error";
    if (!this.#proven) return "base";
    return this.#searching ? "search" : "complete";
  }

  /**
   * Probes that were lost because they were too large, since the beginning. Records that a peer reports as lost contain
   * them; they say nothing about congestion (RFC 8899, section 3, point 7) and are to be subtracted.
   */
  get oversizedProbes(): number {
    return this.#oversizedProbes;
  }

  /** A new path (the endpoint moved, another interface or transport): everything known is void. */
  moved(nowMs: number, maxBytes = this.#maxBytes): void {
    this.#maxBytes = maxBytes;
    this.#currentBytes = this.#baseBytes;
    this.#forgetRefusals();
    this.#proven = false;
    this.#rttMs = null;
    this.#confirmedMs = nowMs;
    this.#raiseMs = Infinity;
    this.#endTrial();
  }

  /** Datagrams of up to `datagramBytes` were sent; cheap enough to be told of every record. */
  sent(datagramBytes: number, nowMs: number): void {
    if (datagramBytes > this.#floorBytes) this.#largeSentMs = nowMs;
  }

  /** A hint that large datagrams vanish (the peer reports lost records, an ICMP error came): asks the path at once. */
  suspect(nowMs: number): void {
    // every trial has the size in use among its sizes, so one that runs will answer this question as well
    if (this.#trial !== null || !this.#proven || nowMs - this.#confirmedMs < HINT_HOLD_MS) return;
    if (this.#currentBytes > this.#minBytes) this.#startTrial(this.#currentBytes, 2, nowMs);
  }

  /**
   * A datagram of this size came from the peer: paths are mostly alike both ways, so one that was refused may fit again. After
   * PMTU_ERROR_RAISE_MS, so that a path which is narrow one way only is not asked all the time.
   */
  peerReached(datagramBytes: number, nowMs: number): void {
    const over = this.#trial === null && !this.#searching && this.#currentBytes < this.#maxBytes;
    if (!over || datagramBytes < this.#refusedBytes || nowMs < this.#refusedMs + PMTU_ERROR_RAISE_MS) return;
    this.#forgetRefusals();
  }

  /** The kernel refused to send a datagram of this size (EMSGSIZE): it will not fit this path for now. */
  tooBig(datagramBytes: number, nowMs: number): void {
    const known = datagramBytes === this.#refusedBytes && this.#refusalSure;
    if (known || datagramBytes > this.#refusedBytes || datagramBytes <= this.#minBytes) return;
    this.#countOversized(datagramBytes);
    this.#refuse(datagramBytes, datagramBytes <= this.#baseBytes ? this.#minBytes : this.#baseBytes, nowMs);
    this.#refusalSure = true;
  }

  /** The peer acknowledged a probe; a number that no trial waits for is ignored. */
  acked(number: number, nowMs: number): void {
    const index = this.#outstanding.findIndex((probe) => probe.number === number);
    const trial = this.#trial;
    if (index < 0 || trial === null) return;
    const { datagramBytes, sentMs } = this.#outstanding.splice(index, 1)[0]!;
    const sampleMs = nowMs - sentMs;
    this.#rttMs = this.#rttMs === null ? sampleMs : (7 * this.#rttMs + sampleMs) / 8;
    if (datagramBytes >= this.#baseBytes) this.#proven = true;
    if (datagramBytes >= this.#currentBytes) this.#confirmedMs = nowMs;
    if (datagramBytes === trial.sizes[0]) {
      this.#accept(datagramBytes);
      return;
    }
    trial.answered++;
    trial.largestAnswered = Math.max(trial.largestAnswered, datagramBytes);
    if (trial.answered >= PMTU_PROBES) this.#fail(trial, nowMs);
  }

  /** Monotonic milliseconds when {@link poll} has something to do, by what is known now; Infinity for never. */
  dueAt(): number {
    if (this.#trial !== null) return this.#trial.nextRoundMs;
    if (this.#searching) return -Infinity;
    return Math.min(this.#raiseMs, this.#confirmDueMs());
  }

  /** The probes to send now, mostly none. */
  poll(nowMs: number): readonly PmtuProbe[] {
    if (nowMs < this.dueAt()) return NO_PROBES;
    if (this.#trial === null) this.#nextTrial(nowMs);
    return this.#trial === null ? NO_PROBES : this.#sendRound(this.#trial, nowMs);
  }

  get #baseBytes(): number {
    return Math.min(PMTU_BASE_BYTES, this.#maxBytes);
  }

  get #minBytes(): number {
    return Math.min(PMTU_MIN_BYTES, this.#maxBytes);
  }

  /** What the size in use falls to when it fails; only datagrams above this size can be in a black hole. */
  get #floorBytes(): number {
    return this.#currentBytes > this.#baseBytes ? this.#baseBytes : this.#minBytes;
  }

  #confirmDueMs(): number {
    const wanted = this.#largeSentMs > this.#confirmedMs && this.#currentBytes > this.#minBytes;
    return wanted ? this.#confirmedMs + PMTU_CONFIRM_MS : Infinity;
  }

  #nextTrial(nowMs: number): void {
    if (nowMs >= this.#raiseMs) this.#forgetRefusals();
    if (nowMs >= this.#confirmDueMs()) return this.#startTrial(this.#currentBytes, 1, nowMs);
    if (!this.#searching) return;
    const candidate = this.#nextCandidate();
    if (candidate !== null) return this.#startTrial(candidate, this.#proven ? 1 : 2, nowMs);
    this.#searching = false;
    this.#raiseMs = nowMs + (this.state === "error" ? PMTU_ERROR_RAISE_MS : PMTU_RAISE_MS);
  }

  /** The next size to ask for; null when the search is over. */
  #nextCandidate(): number | null {
    if (this.#currentBytes >= this.#maxBytes) return this.#proven ? null : this.#currentBytes;
    if (this.#refusedBytes > this.#maxBytes) return this.#maxBytes;
    const gap = this.#refusedBytes - this.#currentBytes;
    if (gap > PMTU_STEP_BYTES) return this.#currentBytes + Math.ceil(gap / 2);
    return this.#refusalSure ? null : this.#refusedBytes;
  }

  /** @param round 1 asks for the size alone first, 2 sends a control with it at once */
  #startTrial(datagramBytes: number, round: number, nowMs: number): void {
    this.#endTrial();
    const below = [this.#currentBytes, this.#baseBytes, this.#minBytes];
    const sizes = [datagramBytes, ...new Set(below.filter((size) => size < datagramBytes))];
    this.#trial = {
      sizes: sizes.toSorted((a, b) => b - a),
      round,
      nextRoundMs: nowMs,
      answered: 0,
      largestAnswered: 0,
    };
  }

  #endTrial(): void {
    this.#trial = null;
    this.#outstanding = [];
  }

  /** The size in question and the controls: down to the largest that was answered, or one more every other round. */
  #sendRound(trial: Trial, nowMs: number): readonly PmtuProbe[] {
    const answered = trial.sizes.indexOf(trial.largestAnswered);
    const last = answered > 0 ? answered : Math.floor(trial.round / 2);
    const probes = trial.sizes
      .slice(0, last + 1)
      .map((datagramBytes) => ({ number: this.#takeNumber(), datagramBytes, sentMs: nowMs }));
    this.#outstanding.push(...probes);
    if (this.#outstanding.length > MAX_OUTSTANDING) this.#outstanding.splice(0, probes.length);
    trial.nextRoundMs = nowMs + this.#waitMs(trial);
    trial.round++;
    return probes;
  }

  #takeNumber(): number {
    const number = this.#nextNumber;
    this.#nextNumber = (number + 1) % 2 ** 32;
    return number;
  }

  /** Time to the next round: a round trip after the first, then quickly, and rarely while nobody answers. */
  #waitMs(trial: Trial): number {
    const rttMs = this.#rttMs ?? FIRST_RTT_MS;
    if (trial.round === 1) return Math.min(MAX_FIRST_WAIT_MS, Math.max(ROUND_MS, 1.5 * rttMs));
    const quickMs = Math.min(MAX_ROUND_MS, Math.max(ROUND_MS, rttMs / 3));
    const silent = trial.answered > 0 ? 0 : Math.max(0, trial.round - QUICK_ROUNDS);
    return Math.min(MAX_ROUND_MS, quickMs * 2 ** Math.min(silent, 16));
  }

  #accept(datagramBytes: number): void {
    this.#endTrial();
    if (datagramBytes <= this.#currentBytes) return;
    this.#currentBytes = datagramBytes;
    // a refused size that is carried after all: what lies above it is open again
    if (datagramBytes >= this.#refusedBytes) this.#forgetRefusals();
  }

  /** Enough smaller sizes were answered beside the one in question: all above the largest of them are refused. */
  #fail(trial: Trial, nowMs: number): void {
    const refused = trial.sizes.findLast((size) => size > trial.largestAnswered)!;
    this.#countOversized(refused);
    this.#refuse(refused, trial.largestAnswered, nowMs);
  }

  /** Takes note that the probes on the way of at least `refused` bytes were lost for their size. */
  #countOversized(refused: number): void {
    this.#oversizedProbes += this.#outstanding.filter((probe) => probe.datagramBytes >= refused).length;
  }

  /** Takes note that `refused` is too large; the size in use, if it is not smaller, becomes `fallback`. */
  #refuse(refused: number, fallback: number, nowMs: number): void {
    this.#endTrial();
    this.#refusedMs = nowMs;
    this.#refusalSure = refused === this.#refusedBytes;
    this.#refusedBytes = Math.min(this.#refusedBytes, refused);
    this.#searching = true;
    this.#raiseMs = Infinity;
    if (this.#currentBytes < refused) return;
    this.#currentBytes = fallback;
    this.#confirmedMs = nowMs;
  }

  /** Searches anew up to the largest size. */
  #forgetRefusals(): void {
    this.#refusedBytes = this.#maxBytes + 1;
    this.#refusalSure = false;
    this.#searching = true;
    this.#raiseMs = Infinity;
  }
}
