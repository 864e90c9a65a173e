/** One change to this machine together with the way back: what the planners of the machine hand to `host_setup.ts`. */

import type { HostPlan } from "./host_plan.ts";
import type { UndoStep } from "./undo_journal.ts";

/** A change that is planned and not yet made. */
export interface HostChange {
  /** For the log, and to find the same change of an earlier plan: `link`, `routing`, `NAT`. */
  readonly name: string;
  /** What it makes, as text: a change whose key is that of the one in force has nothing to do. */
  readonly key: string;
  /** Written to the journal before `apply`; empty when the change vanishes with our TUN device. */
  readonly undo: readonly UndoStep[];
  /** What a failure means: no start, or a warning and a tunnel without it. */
  readonly onFailure: "throw" | "warn";
  /** Makes the change, in place of the one of the same name if there is one. Rejects with an error of `errors.ts`. */
  apply(): Promise<void>;
}

/** What stands already, for planners that lead from there to the next plan without a gap. */
export interface Standing {
  readonly plan: HostPlan | null;
  /** Undo steps of the change of this name; empty when there is none. */
  steps(name: string): readonly UndoStep[];
}

/** A machine that nobody has touched. */
export const NOTHING_STANDS: Standing = { plan: null, steps: () => [] };
