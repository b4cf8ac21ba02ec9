/**
 * Where a simulation looks into production code, and where planted faults change what it does. When the simulator is
 * bundled, imports of a few modules are led to the files in `shims/`, which call these first; production knows nothing of it.
 */
import type { CommitMode } from "../../internal/replication/core/commit.js";
import type { Effect } from "../../internal/replication/core/effect.js";
import type { Event } from "../../internal/replication/core/event.js";
import type { CoreState } from "../../internal/replication/core/state.js";

type Step = (state: CoreState, event: Event) => Effect[];

export interface Hooks {
  /** Takes the place of the core's step, which it is given. */
  step?: (real: Step, state: CoreState, event: Event) => Effect[];
}

/** Of the simulation that is running; there is one at a time. */
export const hooks: { now: Hooks } = { now: {} };

export type { CommitMode };
