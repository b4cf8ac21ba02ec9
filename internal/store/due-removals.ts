/**
 * Removes what is overdue, on a master: by records of their own, so that every node removes it at the same place of the log. One record is
 * under way at a time, or a few where each takes long; the next ones follow as soon as all of them are applied. What is overdue, and
 * how much of it fits a record, others say.
 */
import type { Clock, Timer } from "../base/clock.js";
import type { Logger } from "../base/logger.js";
import type { EpochMs } from "../base/position.js";
import { StoreError, type StoreErrorCode } from "./store-error.js";
import { turn } from "./turn.js";

export interface DueRemovalsOptions<Removed> {
  readonly clock: Clock;
  readonly logger: Logger;
  /** The master's time. */
  readonly nowMs: () => EpochMs;
  /** When something is due next, or a time before that; Infinity: never. */
  readonly nextDueMs: () => number;
  /**
   * What is due and can go now, as up to `recordsMax` records, each so little that neither making nor applying it holds up the
   * event loop; undefined: that takes longer to find than one turn of the event loop may.
   */
  readonly overdue: (recordsMax: number) => readonly (readonly Removed[])[] | undefined;
  /** Writes one record; resolves when it is applied. Rejects with `StoreError`. */
  readonly propose: (removed: readonly Removed[]) => Promise<unknown>;
  /**
   * Records that are under way together where the disk or the other nodes are slow. Those that are kept together are applied in one
   * turn of the event loop, which more of them would hold up.
   */
  readonly recordsMax: number;
  /** Said once when a record cannot be written. */
  readonly complaint: string;
}

/** Slow is what takes longer from the proposal of a record until it is applied, and more than one turn of the event loop. */
const SLOW_MS = 2;
/** What is due and cannot go yet, or a record that could not be written: looked at again after so long. */
const RETRY_MS = 100;
/** Timers of machines count no further than 2^31 ms. */
const SLEEP_MS_MAX = 24 * 60 * 60 * 1000;
/** Of a node that is no master any more, or is about to be none: the next mastership begins anew. */
const ENDED: ReadonlySet<StoreErrorCode> = new Set(["not_master", "not_ready", "closing", "failed", "outcome_unknown"]);

export class DueRemovals<Removed> {
  readonly #options: DueRemovalsOptions<Removed>;
  #isActive = false;
  #isRunning = false;
  #timer: Timer | undefined;
  /** By the master's time. */
  #timerDueMs = Infinity;
  /** Those that are made together next. */
  #recordsMax = 1;
  /** Those that are still to be proposed. */
  #records: (readonly Removed[])[] = [];
  #complaint = "";

  constructor(options: DueRemovalsOptions<Removed>) {
    this.#options = options;
  }

  /** This node takes writes from now on. */
  start(): void {
    this.#isActive = true;
    this.look();
  }

  stop(): void {
    this.#isActive = false;
    // The next mastership may see another time.
    this.#records = [];
    this.#disarm();
  }

  /** Call it whenever something was applied: what came may be due sooner than the rest. */
  look(): void {
    if (!this.#isActive || this.#isRunning) return;
    const dueMs = this.#options.nextDueMs();
    if (dueMs < this.#timerDueMs) this.#sleepUntil(dueMs);
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
    const { nowMs, nextDueMs, overdue } = this.#options;
    this.#isRunning = true;
    let dueMs = Infinity;
    try {
      while (this.#isActive && (dueMs = nextDueMs()) <= nowMs()) {
        const records = overdue(this.#recordsMax);
        if (!records) {
          dueMs = nextDueMs();
          break;
        }
        if (records.length === 0) {
          // What is due is in flight, or only a bound is known.
          dueMs = nowMs() + RETRY_MS;
          break;
        }
        await this.#proposeAll(records);
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

  /**
   * One record a turn of the event loop, as long as none fails. Settles when none is under way any more, so that nothing that was
   * proposed is told as overdue again; rejects with what the first one failed with.
   */
  async #proposeAll(records: readonly (readonly Removed[])[]): Promise<void> {
    const { clock, propose, recordsMax } = this.#options;
    const startMs = clock.monotonicMs();
    let tookMs: number | undefined;
    let isWaiting = false;
    let failure: { readonly error: unknown } | undefined;
    const underWay: Promise<void>[] = [];
    this.#records = [...records];
    for (let removed = this.#records.shift(); removed; removed = this.#records.shift()) {
      const proposed = propose(removed).then(
        () => void (tookMs ??= clock.monotonicMs() - startMs),
        (error: unknown) => {
          failure ??= { error };
          this.#records = [];
          this.#recordsMax = 1;
        },
      );
      underWay.push(proposed);
      await turn();
      // What a quick disk keeps is applied by now, however long this node itself took for that.
      isWaiting ||= tookMs === undefined;
    }
    await Promise.all(underWay);
    if (failure) throw failure.error;
    this.#recordsMax = isWaiting && tookMs! > SLOW_MS ? recordsMax : 1;
    // What was applied together may have taken its time.
    if (underWay.length > 1) await turn();
  }

  #hear(error: unknown): void {
    if (!(error instanceof StoreError)) throw error;
    if (ENDED.has(error.code) || error.code === this.#complaint) return;
    this.#complaint = error.code;
    this.#options.logger.warn(this.#options.complaint, { reason: error.message });
  }
}
