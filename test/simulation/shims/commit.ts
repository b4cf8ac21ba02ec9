/** Stands in the place of the core's rule of commitment in a simulation. */
import { type Ballot, committedSeq as real } from "../../../internal/replication/core/commit.js";
import type { Seq } from "../../../internal/base/position.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/replication/core/commit.js";

export function committedSeq(ballot: Ballot): Seq | undefined {
  const { committedSeq: hook } = hooks.now;
  return hook ? hook(real, ballot) : real(ballot);
}
