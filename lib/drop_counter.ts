/** Counts what the packet path dropped, by reason. */

import { DROP_REASONS, type DropReason } from "./errors.ts";

/** One plain number per reason: counting costs an addition. */
export class DropCounter {
  readonly #counts = new Map<DropReason, number>(DROP_REASONS.map((reason) => [reason, 0]));

  add(reason: DropReason, count = 1): void {
    this.#counts.set(reason, this.#counts.get(reason)! + count);
  }

  /** How often `reason` occurred. */
  count(reason: DropReason): number {
    return this.#counts.get(reason)!;
  }

  /** The reasons that occurred, with their counts. */
  snapshot(): Partial<Record<DropReason, number>> {
    return Object.fromEntries([...this.#counts].filter(([, count]) => count > 0));
  }
}
