/** One change to this machine together with the way back: what the planners of the machine hand to `host_setup.ts`. */

import type { UndoStep } from "./undo_journal.ts";

/** A change that is planned and not yet made. */
export interface HostChange {
  /** For the log: `link`, `routing`, `NAT`. */
  readonly name: string;
  /** Written to the journal before `apply`; empty when the change vanishes with our TUN device. */
  readonly undo: readonly UndoStep[];
  /** What a failure means: no start, or a warning and a tunnel without it. */
  readonly onFailure: "throw" | "warn";
  /** Makes the change. Rejects with an error of `errors.ts`. */
  apply(): Promise<void>;
}
