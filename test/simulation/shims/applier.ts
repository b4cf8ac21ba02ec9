/** Stands in the place of the store's applier in a simulation. */
import type { Position } from "../../../internal/base/position.js";
import { Applier as Real } from "../../../internal/store/applier.js";
import { hooks } from "../hooks.js";

export * from "../../../internal/store/applier.js";

export class Applier extends Real {
  override get isRebuilding(): boolean {
    return super.isRebuilding && hooks.now.showsWhatIsRebuilt !== true;
  }

  override async cutAfter(fork: Position): Promise<void> {
    if (hooks.now.keepsStateAtCut !== true) await super.cutAfter(fork);
  }
}
