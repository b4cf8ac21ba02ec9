/** The clocks of one simulated machine: they run a little too fast or too slow, and the wall clock jumps when told. */
import type { Clock, Timer } from "../../internal/base/clock.js";
import type { Process, World } from "./world.js";

/** What a machine's clocks show, whatever runs on it. */
export class MachineClock {
  readonly #world: World;
  #rate = 1;
  /** Where the clocks stood when the rate changed last. */
  #sinceMs: number;
  #monotonicMs: number;
  #wallOffsetMs: number;

  constructor(world: World, start: { monotonicMs: number; wallMs: number }) {
    this.#world = world;
    this.#sinceMs = world.nowMs;
    this.#monotonicMs = start.monotonicMs;
    this.#wallOffsetMs = start.wallMs - start.monotonicMs;
  }

  get rate(): number {
    return this.#rate;
  }

  monotonicMs(): number {
    return this.#monotonicMs + (this.#world.nowMs - this.#sinceMs) * this.#rate;
  }

  wallMs(): number {
    return Math.floor(this.#wallOffsetMs + this.monotonicMs());
  }

  /** 1 is true time. */
  setRate(rate: number): void {
    this.#monotonicMs = this.monotonicMs();
    this.#sinceMs = this.#world.nowMs;
    this.#rate = rate;
  }

  stepWall(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  /** The machine was switched on again: the monotonic clock begins anew. */
  reboot(monotonicMs: number): void {
    const wallMs = this.wallMs();
    this.#monotonicMs = monotonicMs;
    this.#sinceMs = this.#world.nowMs;
    this.#wallOffsetMs = wallMs - monotonicMs;
  }
}

/** The same clocks as a process sees them, with its timers, which end with it. */
export class ProcessClock implements Clock {
  readonly #world: World;
  readonly #machine: MachineClock;
  readonly #process: Process;

  constructor(world: World, machine: MachineClock, process: Process) {
    this.#world = world;
    this.#machine = machine;
    this.#process = process;
  }

  monotonicMs(): number {
    return this.#machine.monotonicMs();
  }

  wallMs(): number {
    return this.#machine.wallMs();
  }

  after(delayMs: number, fire: () => void): Timer {
    const dueMs = this.#machine.monotonicMs() + Math.max(0, delayMs);
    let scheduled = this.#schedule(dueMs, () => due());
    let pending = true;
    this.#process.timers++;
    const due = (): void => {
      if (this.#machine.monotonicMs() < dueMs) {
        // The clock was slowed down meanwhile.
        scheduled = this.#schedule(dueMs, due);
        return;
      }
      pending = false;
      this.#process.timers--;
      fire();
    };
    return {
      cancel: () => {
        if (!pending) return;
        pending = false;
        this.#process.timers--;
        scheduled.cancel();
      },
    };
  }

  #schedule(dueMs: number, run: () => void): { cancel(): void } {
    // A hair later than due, so that rounding brings no timer too early.
    const leftMs = Math.max(0, dueMs - this.#machine.monotonicMs()) / this.#machine.rate + 1e-6;
    return this.#world.after(leftMs, this.#process, "timer", run);
  }
}
