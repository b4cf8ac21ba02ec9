/** Says how far a long start has come, once a second, and nothing when it is short. */
import type { Clock } from "../base/clock.js";
import type { Logger } from "../base/logger.js";

const EVERY_MS = 1000;
/** Reading the clock at every step would cost as much as a small step does; so many of the largest take well under a second. */
const STEPS_A_LOOK = 64;

export class Progress {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #what: string;
  readonly #startMs: number;
  #saidMs: number;
  #steps = 0;

  constructor(clock: Clock, logger: Logger, what: string) {
    this.#clock = clock;
    this.#logger = logger;
    this.#what = what;
    this.#startMs = this.#saidMs = clock.monotonicMs();
  }

  /** One more step is done; `reached` says how far that is. */
  tick(reached: number): void {
    if (++this.#steps % STEPS_A_LOOK === 0) this.look(reached);
  }

  /** As `tick`, for steps of which each takes a while. */
  look(reached: number): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#saidMs < EVERY_MS) return;
    this.#saidMs = nowMs;
    this.#logger.info(this.#what, { reached, elapsed_ms: Math.round(nowMs - this.#startMs) });
  }
}
