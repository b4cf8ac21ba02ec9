/** When what is written is synced, and when it counts as kept: the durability modes. */
import type { Clock, Timer } from "../base/clock.js";
import type { Seq } from "../base/position.js";

/**
 * `always`: a record is kept once it is synced, and every group write is. `interval`: kept once it is written; synced every
 * `syncIntervalMs` while there is something to sync. `os`: kept once it is written; the kernel syncs when it likes, the log
 * itself at rotation and close.
 */
export type Durability = "always" | "interval" | "os";

export interface SyncPolicyOptions {
  readonly durability: Durability;
  readonly syncIntervalMs: number;
  readonly clock: Clock;
  /** Called when a sync has become due by the passing of time. */
  readonly due: () => void;
}

export class SyncPolicy {
  readonly #options: SyncPolicyOptions;
  #timer: Timer | undefined;
  #due = false;

  constructor(options: SyncPolicyOptions) {
    this.#options = options;
  }

  /** Whether what is written has to be synced now. */
  get isDue(): boolean {
    return this.#due;
  }

  keptSeq(writtenSeq: Seq, syncedSeq: Seq): Seq {
    return this.#options.durability === "always" ? syncedSeq : writtenSeq;
  }

  /** Records have been written that are not synced. */
  wrote(): void {
    if (this.#options.durability === "always") this.#due = true;
    if (this.#options.durability !== "interval" || this.#timer) return;
    this.#timer = this.#options.clock.after(this.#options.syncIntervalMs, () => {
      this.#due = true;
      this.#options.due();
    });
  }

  /** Everything that is written is synced. */
  synced(): void {
    this.#due = false;
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  close(): void {
    this.synced();
  }
}

/** Calls back once nothing has happened for a while. */
export class IdleTimer {
  readonly #clock: Clock;
  readonly #idleMs: number;
  readonly #idle: () => void;
  #timer: Timer | undefined;
  #lastMs: number;

  constructor(clock: Clock, idleMs: number, idle: () => void) {
    this.#clock = clock;
    this.#idleMs = idleMs;
    this.#idle = idle;
    this.#lastMs = clock.monotonicMs();
  }

  /** Something has happened: the time begins anew. Cheap, since a running timer is left alone. */
  busy(): void {
    this.#lastMs = this.#clock.monotonicMs();
    this.#arm();
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  #arm(): void {
    this.#timer ??= this.#clock.after(Math.max(0, this.#lastMs + this.#idleMs - this.#clock.monotonicMs()), () => {
      this.#timer = undefined;
      if (this.#clock.monotonicMs() - this.#lastMs < this.#idleMs) this.#arm();
      else this.#idle();
    });
  }
}
