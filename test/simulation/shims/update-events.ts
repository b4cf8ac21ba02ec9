/** Stands in the place of the events of the log in a simulation. */
import * as real from "../../../internal/store/update-events.js";
import type { KeyFilter, UpdateEvent } from "../../../internal/store/update-events.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/store/update-events.js";

export function clipped<Event extends UpdateEvent>(event: Event, filter: KeyFilter | undefined): Event | undefined {
  if (!hooks.now.clipped) return real.clipped(event, filter);
  return hooks.now.clipped(real.clipped, event, filter) as Event | undefined;
}
