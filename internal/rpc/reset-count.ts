/**
 * Calls that the other end of a connection of HTTP/2 has begun and broken off. To begin one costs it less than it costs us, and
 * those that are broken off do not count towards the calls at the same time: without this there is no end to them.
 */
import type { Clock } from "../base/clock.js";

/** At once, as when a caller gives up everything that it has waited for; no less than the calls that it may have by default. */
const BURST = 300;
/** After that. */
const PER_SECOND = 50;

export class ResetCount {
  readonly #clock: Clock;
  #left = BURST;
  #sinceMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#sinceMs = clock.monotonicMs();
  }

  /** Counts one. Returns whether there were too many. */
  add(): boolean {
    const nowMs = this.#clock.monotonicMs();
    this.#left = Math.min(BURST, this.#left + ((nowMs - this.#sinceMs) / 1000) * PER_SECOND) - 1;
    this.#sinceMs = nowMs;
    return this.#left < 0;
  }
}
