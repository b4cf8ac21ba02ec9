/** Stands in the place of the core's `step` in a simulation: what it is asked goes through the simulation's hooks. */
import type { Effect } from "../../../internal/replication/core/effect.js";
import type { Event } from "../../../internal/replication/core/event.js";
import type { CoreState } from "../../../internal/replication/core/state.js";
import { step as real } from "../../../internal/replication/core/step.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/replication/core/step.js";

export function step(state: CoreState, event: Event): Effect[] {
  const { step: hook } = hooks.now;
  return hook ? hook(real, state, event) : real(state, event);
}
