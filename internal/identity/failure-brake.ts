/**
 * Slows down those who show wrong credentials: each address gets so many answers a second to them, and waits for the others.
 * Right credentials are not held up, so that nobody can lock out whoever calls from the same address.
 */
import type { Clock } from "../base/clock.js";
import { addressGroupOf } from "./address-group.js";

/** Wrong attempts of an address that are answered at once, before the pace counts. */
const BURST = 10;
/** Between two answers, after that. */
const PACE_MS = 250;
/** A caller that would have to wait for longer is to be cut off. */
const WAIT_MS_MAX = 5000;
/** Addresses that are remembered; the one that failed longest ago is forgotten first. */
const ADDRESSES_MAX = 10_000;
/** Answers that wait at the same time, over all addresses. */
const WAITING_MAX = 1000;

export class FailureBrake {
  readonly #clock: Clock;
  /** When the next answer would be due, if every one before had kept the pace. */
  readonly #dueMs = new Map<string, number>();
  #waiting = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Addresses that are remembered. */
  get size(): number {
    return this.#dueMs.size;
  }

  /** Counts an attempt. Calls `answer` when it may be answered, or returns false where the caller is to be cut off instead. */
  fail(address: string | undefined, answer: () => void): boolean {
    const key = addressGroupOf(address);
    const nowMs = this.#clock.monotonicMs();
    const dueMs = Math.max(this.#dueMs.get(key) ?? Number.NEGATIVE_INFINITY, nowMs - BURST * PACE_MS) + PACE_MS;
    const waitMs = dueMs - nowMs;
    if (waitMs > WAIT_MS_MAX) return false;
    this.#remember(key, dueMs);
    if (waitMs <= 0) {
      answer();
      return true;
    }
    if (this.#waiting >= WAITING_MAX) return false;
    this.#waiting++;
    this.#clock.after(waitMs, () => {
      this.#waiting--;
      answer();
    });
    return true;
  }

  #remember(key: string, dueMs: number): void {
    this.#dueMs.delete(key);
    this.#dueMs.set(key, dueMs);
    if (this.#dueMs.size <= ADDRESSES_MAX) return;
    for (const oldest of this.#dueMs.keys()) {
      this.#dueMs.delete(oldest);
      return;
    }
  }
}
