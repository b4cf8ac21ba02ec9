/** Watches from inside a process how long its event loop stands still and how much memory it takes. */
import { type IntervalHistogram, monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { threadRanMs } from "./thread-time.js";

export interface LoopReport {
  /** The longest that the event loop was late for a timer of 1 ms. */
  readonly longestDelayMs: number;
  readonly p99DelayMs: number;
  /**
   * The longest that the thread itself ran between two turns of the timers, and did not merely wait for a processor that others
   * had; undefined where the system does not tell.
   */
  readonly longestRunMs?: number;
  /** The longest that JavaScript stood still for the garbage collector. */
  readonly longestCollectionMs: number;
  /** Resident, at `begin`, and at most since. */
  readonly residentBytes: number;
  readonly residentBytesMost: number;
}

const RESOLUTION_MS = 1;
const MEMORY_INTERVAL_MS = 10;

export class LoopWatch {
  readonly #delays: IntervalHistogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  readonly #collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      this.#longestCollectionMs = Math.max(this.#longestCollectionMs, duration);
    }
  });
  #ranMs: number | undefined;
  #longestRunMs: number | undefined;
  #longestCollectionMs = 0;
  #runTimer: NodeJS.Timeout | undefined;
  #residentBytes = 0;
  #residentBytesMost = 0;
  #memoryTimer: NodeJS.Timeout | undefined;

  begin(): void {
    this.#delays.enable();
    this.#delays.reset();
    this.#ranMs = threadRanMs();
    this.#longestRunMs = undefined;
    this.#runTimer = setInterval(() => this.#noteRun(), RESOLUTION_MS).unref();
    this.#longestCollectionMs = 0;
    this.#collections.observe({ entryTypes: ["gc"] });
    this.#residentBytes = this.#residentBytesMost = process.memoryUsage.rss();
    this.#memoryTimer = setInterval(() => {
      this.#residentBytesMost = Math.max(this.#residentBytesMost, process.memoryUsage.rss());
    }, MEMORY_INTERVAL_MS).unref();
  }

  end(): void {
    this.#delays.disable();
    this.#collections.disconnect();
    clearInterval(this.#runTimer);
    clearInterval(this.#memoryTimer);
  }

  report(): LoopReport {
    // What is recorded is from one firing of the timer to the next, which is its own interval when nothing is late.
    const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
    return {
      longestDelayMs: late(this.#delays.max),
      p99DelayMs: late(this.#delays.percentile(99)),
      ...(this.#longestRunMs !== undefined && { longestRunMs: this.#longestRunMs }),
      longestCollectionMs: this.#longestCollectionMs,
      residentBytes: this.#residentBytes,
      residentBytesMost: this.#residentBytesMost,
    };
  }

  #noteRun(): void {
    const nowMs = threadRanMs();
    if (nowMs !== undefined && this.#ranMs !== undefined) {
      this.#longestRunMs = Math.max(this.#longestRunMs ?? 0, nowMs - this.#ranMs);
    }
    this.#ranMs = nowMs;
  }
}

/** What other programs took of the processors is no fault of the program's. */
export function longestPauseMs({ longestRunMs, longestDelayMs }: LoopReport): number {
  return Math.min(longestRunMs ?? Infinity, longestDelayMs);
}
