/**
 * The master's time: what deadlines are measured by, on every node. It starts at the later of the wall clock and the
 * last timestamp of the log, and from there follows the monotonic clock alone, so that a step of the wall clock neither
 * expires anything early nor keeps anything late. Downtime counts. A replica sets its own by what the master tells it.
 */
import type { Clock } from "../base/clock.js";
import { type EpochMs, epochMs } from "../base/position.js";

export class MasterTime {
  readonly #clock: Clock;
  /** Master time minus monotonic time. */
  #offsetMs: number;

  constructor(clock: Clock, lastTimestampMs: EpochMs) {
    this.#clock = clock;
    this.#offsetMs = Math.max(clock.wallMs(), lastTimestampMs) - clock.monotonicMs();
  }

  now(): EpochMs {
    return epochMs(Math.floor(this.#offsetMs + this.#clock.monotonicMs()));
  }

  /** Takes over what the master says; the way it travelled makes this node's time a little late, never early. */
  observe(masterMs: EpochMs): void {
    this.#offsetMs = masterMs - this.#clock.monotonicMs();
  }
}
