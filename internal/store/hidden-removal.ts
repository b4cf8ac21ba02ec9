/**
 * Carries out what deletions of ranges have said: their keys are hidden at once, and their entries removed here, so many in a
 * turn of the event loop that others have theirs.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { Engine } from "../engine/engine.js";

export interface HiddenRemovalOptions {
  readonly engine: Engine;
  readonly clock: Clock;
  /** All that was hidden is removed. */
  readonly onSettled: () => void;
}

/** Entries that are looked at in one turn: some two milliseconds. */
const LOOKS_A_TURN = 1000;
/** With the records themselves: what is small is done when they are applied. */
const LOOKS_AT_ONCE = 500;

export class HiddenRemoval {
  readonly #options: HiddenRemovalOptions;
  #timer: Timer | undefined;

  constructor(options: HiddenRemovalOptions) {
    this.#options = options;
  }

  /** Call it when records were applied. */
  look(): void {
    if (!this.#options.engine.isSettled && !this.#timer) this.#remove(LOOKS_AT_ONCE);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #remove(looksMax: number): void {
    const { engine, clock, onSettled } = this.#options;
    if (!engine.removeHidden(looksMax)) onSettled();
    else {
      this.#timer = clock.after(0, () => {
        this.#timer = undefined;
        this.#remove(LOOKS_A_TURN);
      });
    }
  }
}
