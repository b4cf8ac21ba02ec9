/**
 * Removes keys that are past their deadline, on a master: by records of their own, so that every node removes them at the same
 * place of the log. Until then they are hidden. One record is under way at a time, and holds so few keys that neither making nor
 * applying it holds up the event loop; the next one follows as soon as it is applied.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { EpochMs } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import type { Removal } from "./change.js";
import { StoreError, type StoreErrorCode } from "./store-error.js";

export interface ExpirerOptions {
  readonly engine: Engine;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The master's time. */
  readonly nowMs: () => EpochMs;
  /** Whether a write in flight touches a key: what becomes of it is not known yet. */
  readonly isInFlight: (key: Uint8Array) => boolean;
  /** Writes one record; resolves when it is applied. Rejects with `StoreError`. */
  readonly propose: (changes: readonly Removal[]) => Promise<unknown>;
}

const KEYS_A_RECORD_MAX = 1000;
const BYTES_A_RECORD_MAX = 128 * 1024;
/** Keys that are due and cannot go yet, or a record that could not be written: looked at again after so long. */
const RETRY_MS = 100;
/** Timers of machines count no further than 2^31 ms. */
const SLEEP_MS_MAX = 24 * 60 * 60 * 1000;
/** Of a node that is no master any more, or is about to be none: the next mastership begins anew. */
const ENDED: ReadonlySet<StoreErrorCode> = new Set(["not_master", "not_ready", "closing", "failed", "outcome_unknown"]);

export class Expirer {
  readonly #options: ExpirerOptions;
  #isActive = false;
  #isRunning = false;
  #timer: Timer | undefined;
  /** By the master's time. */
  #timerDueMs = Infinity;
  #complaint = "";

  constructor(options: ExpirerOptions) {
    this.#options = options;
  }

  /** This node takes writes from now on. */
  start(): void {
    this.#isActive = true;
    this.look();
  }

  stop(): void {
    this.#isActive = false;
    this.#disarm();
  }

  /** Call it whenever something was applied: a key may have come that is due sooner than the others. */
  look(): void {
    const { engine } = this.#options;
    if (!this.#isActive || this.#isRunning || engine.nextDueMs >= this.#timerDueMs) return;
    this.#sleepUntil(engine.nextDueMs);
  }

  #sleepUntil(dueMs: number): void {
    const { clock, nowMs } = this.#options;
    this.#disarm();
    if (dueMs === Infinity) return;
    this.#timerDueMs = dueMs;
    this.#timer = clock.after(Math.min(Math.max(0, dueMs - nowMs()), SLEEP_MS_MAX), () => {
      this.#disarm();
      void this.#run();
    });
  }

  #disarm(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerDueMs = Infinity;
  }

  async #run(): Promise<void> {
    const { engine, nowMs } = this.#options;
    this.#isRunning = true;
    let dueMs = Infinity;
    try {
      while (this.#isActive && (dueMs = engine.nextDueMs) <= nowMs()) {
        const changes = this.#overdue();
        if (changes.length === 0) {
          // What is due is in flight, or the engine only knows a bound.
          dueMs = nowMs() + RETRY_MS;
          break;
        }
        await this.#options.propose(changes);
        this.#complaint = "";
      }
    } catch (error) {
      dueMs = nowMs() + RETRY_MS;
      this.#hear(error);
    } finally {
      this.#isRunning = false;
    }
    if (this.#isActive) this.#sleepUntil(dueMs);
  }

  #overdue(): Removal[] {
    const { engine, nowMs, isInFlight } = this.#options;
    const changes: Removal[] = [];
    let bytes = 0;
    for (const { key, modSeq } of engine.due(nowMs(), KEYS_A_RECORD_MAX)) {
      if (isInFlight(key)) continue;
      changes.push({ kind: "expire", key, modSeq });
      bytes += key.length;
      if (bytes >= BYTES_A_RECORD_MAX) break;
    }
    return changes;
  }

  #hear(error: unknown): void {
    if (!(error instanceof StoreError)) throw error;
    if (ENDED.has(error.code) || error.code === this.#complaint) return;
    this.#complaint = error.code;
    this.#options.logger.warn("keys whose time is over cannot be removed now; they are hidden, and tried again", {
      reason: error.message,
    });
  }
}
