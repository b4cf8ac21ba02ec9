/** Faults that are planted into production code, to see that the simulator finds them. */
import type { Effect } from "../../internal/replication/core/effect.js";
import type { Event } from "../../internal/replication/core/event.js";
import type { CoreState } from "../../internal/replication/core/state.js";
import type { Hooks } from "./hooks.js";
import type { Alterations } from "./sim-node.js";

export interface Planted {
  readonly step?: (real: (state: CoreState, event: Event) => Effect[], state: CoreState, event: Event) => Effect[];
  readonly hooks?: Hooks;
  readonly alterations?: Alterations;
}

/** By name; made anew for each seed. */
export const plantedFaults: Readonly<Record<string, () => Planted>> = {};
