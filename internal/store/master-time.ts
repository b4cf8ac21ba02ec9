/**
 * The master's time: what deadlines are measured by, on every node. It starts at the later of the wall clock and the
 * last time that the data tells, and from there follows the monotonic clock alone, so that a step of the wall clock neither
 * expires anything early nor keeps anything late. Downtime counts. A replica sets its own by what the master tells it.
 */
import type { Clock } from "../base/clock.js";
import { type EpochMs, epochMs } from "../base/position.js";

export class MasterTime {
  readonly #clock: Clock;
  /** Master time minus monotonic time. */
  #offsetMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offsetMs = clock.wallMs() - clock.monotonicMs();
  }

  now(): EpochMs {
    return epochMs(Math.floor(this.#offsetMs + this.#clock.monotonicMs()));
  }

  /**
   * A node starts whose data knows of times up to `lastMs`; 0: of none. A wall clock that is further ahead of that than `jumpMsMax`
   * is not believed, and time goes on from `lastMs`: gives by how much it was ahead then, and else 0.
   */
  start(lastMs: EpochMs, jumpMsMax: number): number {
    const wallMs = this.#clock.wallMs();
    const aheadMs = lastMs > 0 ? wallMs - lastMs : 0;
    const isHeld = aheadMs > jumpMsMax;
    this.observe(epochMs(isHeld ? lastMs : Math.max(wallMs, lastMs)));
    return isHeld ? aheadMs : 0;
  }

  /** Takes over what the master says; the way it travelled makes this node's time a little late, never early. */
  observe(masterMs: EpochMs): void {
    this.#offsetMs = masterMs - this.#clock.monotonicMs();
  }
}
