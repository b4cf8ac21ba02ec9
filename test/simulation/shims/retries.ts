/** Stands in the place of the store's table of answers in a simulation. */
import { type RememberedClient, RetryTable as Real } from "../../../internal/store/retries.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/store/retries.js";

export class RetryTable extends Real {
  override restore(client: RememberedClient): void {
    if (hooks.now.restoresNoAnswers !== true) super.restore(client);
  }
}
