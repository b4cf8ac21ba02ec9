/**
 * Lets the engine give back memory that it does not need any more. Operations see to that themselves, a little each; after the
 * last of many deletions something may be left, and nobody else would come to it.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { Engine } from "../engine/engine.js";

export interface TidierOptions {
  readonly engine: Engine;
  readonly clock: Clock;
}

/** Looked at so long after something was applied … */
const DELAY_MS = 100;
/** … and as long as there is more to do, again after so long. */
const PAUSE_MS = 1;
/** What is done in one turn takes some tens of microseconds; a millisecond where every value is large. */
const STEPS_A_TURN = 16;

export class Tidier {
  readonly #options: TidierOptions;
  #timer: Timer | undefined;
  #isStopped = false;

  constructor(options: TidierOptions) {
    this.#options = options;
  }

  /** Call it whenever something was applied. */
  noteApplied(): void {
    if (!this.#timer && !this.#isStopped) this.#runAfter(DELAY_MS);
  }

  stop(): void {
    this.#isStopped = true;
    this.#timer?.cancel();
  }

  #runAfter(delayMs: number): void {
    this.#timer = this.#options.clock.after(delayMs, () => {
      this.#timer = undefined;
      if (this.#tidy()) this.#runAfter(PAUSE_MS);
    });
  }

  /** Whether there is more to do. */
  #tidy(): boolean {
    const { engine } = this.#options;
    for (let step = 0; step < STEPS_A_TURN; step++) if (!engine.tidy()) return false;
    return true;
  }
}
