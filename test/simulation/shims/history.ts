/** Stands in the place of the core's search for where two logs agree in a simulation. */
import type { EpochHistory } from "../../../internal/base/epoch-history.js";
import type { Seq } from "../../../internal/base/position.js";
import type { LogView } from "../../../internal/replication/core/event.js";
import { agreementWith as real } from "../../../internal/replication/core/history.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/replication/core/history.js";

export function agreementWith(log: LogView, peer: { history: EpochHistory; lastSeq: Seq }): Seq | undefined {
  const { agreementWith: hook } = hooks.now;
  return hook ? hook(real, log, peer) : real(log, peer);
}
