/** Stands in the place of what the store knows of retries in flight in a simulation. */
import type { Position } from "../../../internal/base/position.js";
import { RetriesInFlight as Real } from "../../../internal/store/retries-in-flight.js";
import { hooks } from "../hooks.js";

export class RetriesInFlight extends Real {
  override find(clientId: string, clientSeq: number): Position | undefined {
    return hooks.now.findsNothingInFlight === true ? undefined : super.find(clientId, clientSeq);
  }
}
