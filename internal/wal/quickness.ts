/** How quick the disk has been of late with one kind of call: whether the thread itself may wait for it. */
import type { Clock } from "../base/clock.js";

/** Whoever else needs the thread is held up for so long by a call, on average. */
const BRIEF_MS = 1;
/** Of so many calls the average is taken, the older ones counting less: one that was late because others had the processor says little. */
const CALLS = 8;
/** Once they are not brief, none is waited for in this way for so long; where the first ones after that are not either, twice as long. */
const DISTRUST_MIN_MS = 1000;
const DISTRUST_MAX_MS = 60_000;

export class Quickness {
  readonly #clock: Clock;
  #averageMs = 0;
  #distrustMs = DISTRUST_MIN_MS;
  #distrustedUntilMs = -Infinity;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The next call is likely to be brief. */
  get isQuick(): boolean {
    return this.#clock.monotonicMs() >= this.#distrustedUntilMs;
  }

  /** The thread stood still so long for a call. */
  stoodStill(ms: number): void {
    this.#averageMs += (ms - this.#averageMs) / CALLS;
    if (this.#averageMs > BRIEF_MS) {
      this.#averageMs = 0;
      this.#distrustedUntilMs = this.#clock.monotonicMs() + this.#distrustMs;
      this.#distrustMs = Math.min(DISTRUST_MAX_MS, 2 * this.#distrustMs);
    } else if (ms <= BRIEF_MS) this.#distrustMs = DISTRUST_MIN_MS;
  }
}
