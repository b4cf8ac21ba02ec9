/**
 * Loaded into a server before its own code (`node --import`), to watch from inside how long its event loop stands still and how
 * much memory the process takes, between a `begin` and an `end` that come over the channel to the bench.
 */
import { monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { threadRanMs } from "./thread-time.js";

export type ProbeRequest = "begin" | "end";

export interface ProbeReport {
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

const delays = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
let ranMs: number | undefined;
let longestRunMs: number | undefined;
let runTimer: NodeJS.Timeout | undefined;
let longestCollectionMs = 0;
const collections = new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longestCollectionMs = Math.max(longestCollectionMs, duration);
});
let residentBytes = 0;
let residentBytesMost = 0;
let memoryTimer: NodeJS.Timeout | undefined;

function noteRun(): void {
  const nowMs = threadRanMs();
  if (nowMs !== undefined && ranMs !== undefined) longestRunMs = Math.max(longestRunMs ?? 0, nowMs - ranMs);
  ranMs = nowMs;
}

function begin(): void {
  delays.enable();
  delays.reset();
  ranMs = threadRanMs();
  longestRunMs = undefined;
  runTimer = setInterval(noteRun, RESOLUTION_MS).unref();
  longestCollectionMs = 0;
  collections.observe({ entryTypes: ["gc"] });
  residentBytes = residentBytesMost = process.memoryUsage.rss();
  memoryTimer = setInterval(() => {
    residentBytesMost = Math.max(residentBytesMost, process.memoryUsage.rss());
  }, MEMORY_INTERVAL_MS).unref();
}

function end(): void {
  delays.disable();
  collections.disconnect();
  clearInterval(runTimer);
  clearInterval(memoryTimer);
}

function report(): ProbeReport {
  // What is recorded is from one firing of the timer to the next, which is its own interval when nothing is late.
  const late = (nanoseconds: number): number => Math.max(0, nanoseconds / 1e6 - RESOLUTION_MS);
  return {
    longestDelayMs: late(delays.max),
    p99DelayMs: late(delays.percentile(99)),
    ...(longestRunMs !== undefined && { longestRunMs }),
    longestCollectionMs,
    residentBytes,
    residentBytesMost,
  };
}

process.on("message", (request: ProbeRequest) => {
  if (request === "begin") begin();
  else end();
  process.send?.(report());
});
// The channel alone keeps no server alive.
process.channel?.unref();
