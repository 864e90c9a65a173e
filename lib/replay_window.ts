/**
 * The sliding replay window of one epoch: which sequence numbers were already accepted.
 *
 * The algorithm of RFC 6479: a ring of 32-bit words, so that moving the window clears whole words and shifts nothing.
 * Looking ({@link ReplayWindow.accepts}) is apart from marking ({@link ReplayWindow.mark}): a number is marked only after
 * the record's tag was verified, or a forged record could shut out a genuine one.
 */

import { REPLAY_WINDOW_RECORDS } from "./limits.ts";

const WORD_BITS = 32;
/** More words than the window needs (RFC 6479, section 3: the newest is only partly used); doubled, so a power of two. */
const WORDS = (REPLAY_WINDOW_RECORDS / WORD_BITS) * 2;

/** State: a bitmap of {@link REPLAY_WINDOW_RECORDS} numbers that ends at the highest number marked. */
export class ReplayWindow {
  readonly #words = new Int32Array(WORDS);
  /** One more than the highest number marked. */
  #next = 0;
  #marked = 0;

  /** One more than the highest sequence number marked: how many the peer must have sent. */
  get next(): number {
    return this.#next;
  }

  /** How many sequence numbers were marked. */
  get marked(): number {
    return this.#marked;
  }

  /** Whether `sequence` is new: not marked and not behind the window. Changes nothing. */
  accepts(sequence: number): boolean {
    if (sequence >= this.#next) return true;
    if (sequence + REPLAY_WINDOW_RECORDS < this.#next) return false;
    return (this.#words[wordOf(sequence)]! & bitOf(sequence)) === 0;
  }

  /**
   * Marks `sequence` as seen.
   *
   * @returns false when it was not new (another copy of the record was verified meanwhile)
   */
  mark(sequence: number): boolean {
    if (!this.accepts(sequence)) return false;
    if (sequence >= this.#next) this.#advance(sequence);
    this.#words[wordOf(sequence)]! |= bitOf(sequence);
    this.#marked++;
    return true;
  }

  #advance(sequence: number): void {
    const from = Math.floor((this.#next + WORD_BITS - 1) / WORD_BITS);
    const to = Math.floor(sequence / WORD_BITS);
    if (to - from >= WORDS) this.#words.fill(0);
    else for (let word = from; word <= to; word++) this.#words[word % WORDS] = 0;
    this.#next = sequence + 1;
  }
}

function wordOf(sequence: number): number {
  return Math.floor(sequence / WORD_BITS) % WORDS;
}

function bitOf(sequence: number): number {
  return 1 << (sequence % WORD_BITS);
}
