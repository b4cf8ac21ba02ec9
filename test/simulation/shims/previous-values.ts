/** Stands in the place of the look-up of values before in a simulation. */
import { type Previous, PreviousValues as Real } from "../../../internal/store/previous-values.js";
import type { LoggedEvent } from "../../../internal/store/update-events.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/store/previous-values.js";

export class PreviousValues extends Real {
  override async of(event: LoggedEvent): Promise<Previous | undefined> {
    const previous = await super.of(event);
    // What the event has put, and not what was there before.
    const isOff = hooks.now.showsTheValueAfter === true && previous?.previous && event.type === "put";
    return isOff ? { previous: event.value } : previous;
  }
}
