/** Stands in the place of the core's rules of promises in a simulation. */
import type { PromiseRequest } from "../../../internal/replication/core/ballot.js";
import type { CoreState } from "../../../internal/replication/core/state.js";
import { type Objection, objectionTo as real } from "../../../internal/replication/core/voting.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/replication/core/voting.js";

export function objectionTo(state: CoreState, request: PromiseRequest): Objection | undefined {
  const { objectionTo: hook } = hooks.now;
  return hook ? hook(real, state, request) : real(state, request);
}
