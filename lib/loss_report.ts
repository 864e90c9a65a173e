/**
 * When a receiver tells the sender what it lost: the keep-alive message, sent out of turn while records arrive.
 *
 * A report is due {@link LOSS_REPORT_MS} after the last one if the number of lost records changed or many records came, and
 * {@link CLEAN_REPORT_MS} after it if a few came, so that the sender also learns of a path that got well. An idle session
 * sends none: keep-alives do not count as records here, or two ends would answer each other's reports for ever.
 */

/** Least time between two reports of a session. */
const LOSS_REPORT_MS = 100;
/** Time between two reports of a trickle of records that all arrive. */
const CLEAN_REPORT_MS = 500;
/** Records that are worth a report by themselves. */
const MANY_RECORDS = 64;
/** Records that are worth a report after the longer time; less is no traffic that large records could speed up. */
const FEW_RECORDS = 8;

/** State of one session's reports; counts and a clock in, yes or no out. */
export class LossReports {
  #opened = 0;
  #lost = 0;
  #lastMs = -Infinity;

  /** Takes note that a record other than a keep-alive was opened. */
  dataOpened(): void {
    this.#opened++;
  }

  /**
   * Whether to send a report now. Cheap enough to be asked after every batch of datagrams.
   *
   * @param recordsHit of what the other side must have sent since the session began, how many lost a datagram
   */
  due(recordsHit: number, nowMs: number): boolean {
    if (this.#opened === 0) return false;
    const waitedMs = nowMs - this.#lastMs;
    if (waitedMs < LOSS_REPORT_MS) return false;
    if (recordsHit !== this.#lost || this.#opened >= MANY_RECORDS) return true;
    return waitedMs >= CLEAN_REPORT_MS && this.#opened >= FEW_RECORDS;
  }

  /** Takes note that a keep-alive with these counts goes out; every one is a report, for whatever reason it is sent. */
  sent(recordsHit: number, nowMs: number): void {
    this.#opened = 0;
    this.#lost = recordsHit;
    this.#lastMs = nowMs;
  }
}
