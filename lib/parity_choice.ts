/**
 * Whether records travel with their parity: one decision for one direction of one session, from what the receiver reports.
 *
 * Parity costs one datagram a record and saves the record that lost one. So it is for paths that lose datagrams apart from
 * each other, as radio does. A full queue drops many in a row, which parity does not help, and where it would only make
 * the queue longer: it is left away for a while when it saved less than half of what it should have saved. A record of one
 * datagram has none, so of the records that lost something only the share is expected that its datagrams had.
 *
 * Pure: counts and the time in, yes or no out.
 */

/** Loss per datagram above which parity is tried, and below which it ends: a lost record in a hundred and less. */
const BEGIN_LOSS = 4e-4;
const END_LOSS = 2e-4;
/** Time constant of what is remembered of the effect. */
const MEMORY_MS = 2_000;
/** Records with parity that should have lost something, before the effect is judged. */
const ENOUGH = 8;
/** The same, before it counts as a help that has lasted. */
const LONG_ENOUGH = 32;
/** Least share of them that must have been saved. */
const SAVED_SHARE = 0.5;
/**
 * How long to do without after it did not help; the longer, the more often in a row. The first time is short: when loss
 * begins, records are still so large that many lose more than parity restores.
 */
const PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 10_000;

/** See the top of the file. */
export class ParityChoice {
  #on = false;
  /** Records with parity that should have lost a datagram, and those restored. */
  #hit = 0;
  #restored = 0;
  #notBeforeMs = -Infinity;
  #pauseMs = PAUSE_MS;

  get on(): boolean {
    return this.#on;
  }

  /**
   * Takes one report of the receiver.
   *
   * @param lost records lost since the report before; negative when some came after all
   * @param restored records that lost a datagram and were restored since then
   * @param share of the reported records' datagrams that belong to records with parity, 0 to 1
   * @param loss loss events per datagram as they are now, 0 to 1
   * @param elapsedMs since the report before
   */
  reported(
    lost: number,
    restored: number,
    share: number,
    loss: number,
    elapsedMs: number,
    nowMs: number,
  ): void {
    if (!this.#on) {
      this.#on = loss > BEGIN_LOSS && nowMs >= this.#notBeforeMs;
      return;
    }
    const kept = Math.exp(-elapsedMs / MEMORY_MS);
    this.#hit = Math.max(0, this.#hit * kept + (lost + restored) * share);
    this.#restored = this.#restored * kept + restored;
    if (this.#hit >= ENOUGH && this.#restored < this.#hit * SAVED_SHARE) this.#pause(nowMs);
    else if (loss < END_LOSS) this.#end(nowMs);
    else if (this.#hit >= LONG_ENOUGH) this.#pauseMs = PAUSE_MS;
  }

  #pause(nowMs: number): void {
    this.#end(nowMs + this.#pauseMs);
    this.#pauseMs = Math.min(MAX_PAUSE_MS, 2 * this.#pauseMs);
  }

  #end(notBeforeMs: number): void {
    this.#on = false;
    this.#hit = 0;
    this.#restored = 0;
    this.#notBeforeMs = notBeforeMs;
  }
}
