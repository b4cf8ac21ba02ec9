/** Time as a port: production reads the machine's clocks, tests and the simulator turn the hands themselves. */
import { assert } from "./assert.js";

/** A timer that has not fired yet. */
export interface Timer {
  /** Forgets the timer; harmless when it has fired already. */
  cancel(): void;
}

export interface Clock {
  /** Milliseconds since some fixed moment, with fractions; never goes back. */
  monotonicMs(): number;
  /** Milliseconds since 1970 by the machine's wall clock, whole; may jump either way. */
  wallMs(): number;
  /** Calls `fire` once, `delayMs` from now at the earliest. A pending timer does not keep the process alive. */
  after(delayMs: number, fire: () => void): Timer;
}

/** The clocks of this machine. */
export class SystemClock implements Clock {
  monotonicMs(): number {
    return performance.now();
  }

  wallMs(): number {
    return Date.now();
  }

  after(delayMs: number, fire: () => void): Timer {
    const handle = setTimeout(fire, delayMs);
    handle.unref();
    return { cancel: () => clearTimeout(handle) };
  }
}

interface FakeTimer {
  readonly dueMs: number;
  readonly order: number;
  readonly fire: () => void;
}

/** A clock that stands still until `advance` is called. Timers fire in the order of their due times. */
export class FakeClock implements Clock {
  #nowMs = 0;
  #wallOffsetMs: number;
  #order = 0;
  readonly #timers = new Set<FakeTimer>();

  constructor(wallMs = 1_700_000_000_000) {
    this.#wallOffsetMs = wallMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return Math.floor(this.#wallOffsetMs + this.#nowMs);
  }

  after(delayMs: number, fire: () => void): Timer {
    const timer = { dueMs: this.#nowMs + Math.max(0, delayMs), order: this.#order++, fire };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** Lets `ms` pass, firing what falls due on the way at its own moment. */
  advance(ms: number): void {
    assert(ms >= 0, "time does not go back");
    const endMs = this.#nowMs + ms;
    for (let next = this.#next(endMs); next; next = this.#next(endMs)) {
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.fire();
    }
    this.#nowMs = endMs;
  }

  /** Steps the wall clock without letting time pass, as an administrator or NTP does. */
  stepWall(ms: number): void {
    this.#wallOffsetMs += ms;
  }

  /** Timers that wait to fire. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  #next(endMs: number): FakeTimer | undefined {
    let first: FakeTimer | undefined;
    for (const timer of this.#timers) {
      if (timer.dueMs > endMs) continue;
      if (!first || timer.dueMs < first.dueMs || (timer.dueMs === first.dueMs && timer.order < first.order)) {
        first = timer;
      }
    }
    return first;
  }
}
