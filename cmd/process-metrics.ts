/**
 * What any process of Node can tell of itself, under the names that dashboards for Node know: `process_*` and `nodejs_*`. One for
 * a process, for as long as it runs.
 */
import { readdirSync, readFileSync } from "node:fs";
import { constants, monitorEventLoopDelay, type PerformanceEntry, PerformanceObserver } from "node:perf_hooks";
import { getHeapStatistics } from "node:v8";
import { Registry } from "../internal/metrics/registry.js";

/** How often the event loop is looked at: its timer is late by as much as others have held up the loop. */
const RESOLUTION_MS = 10;
/** Delays are told of the time since the window before the present one began: half a minute at least, a whole one at most. */
const WINDOW_MS = 30_000;
const NS_PER_S = 1e9;
const GC_SECONDS = [0.001, 0.01, 0.1, 1, 2, 5];

const GC_KINDS: Readonly<Record<number, string>> = {
  [constants.NODE_PERFORMANCE_GC_MAJOR]: "major",
  [constants.NODE_PERFORMANCE_GC_MINOR]: "minor",
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL]: "incremental",
  [constants.NODE_PERFORMANCE_GC_WEAKCB]: "weakcb",
};

interface Delays {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

/** Measures from now on. The registry is to be told among others. */
export function processMetrics(): Registry {
  const registry = new Registry();
  addProcess(registry);
  addEventLoop(registry);
  addCollections(registry);
  return registry;
}

function addProcess(registry: Registry): void {
  const counter = (name: string, help: string, read: () => number): void =>
    registry.gauge({ name, help, type: "counter" }, read);
  const gauge = (name: string, help: string, read: () => number | undefined): void =>
    registry.gauge({ name, help }, read);
  const cpuSeconds = (which: "user" | "system"): number => process.cpuUsage()[which] / 1e6;
  const startSeconds = Date.now() / 1000 - process.uptime();
  counter("process_cpu_user_seconds_total", "User time of the processors.", () => cpuSeconds("user"));
  counter("process_cpu_system_seconds_total", "System time of the processors.", () => cpuSeconds("system"));
  counter("process_cpu_seconds_total", "User and system time of the processors.", () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", () => startSeconds);
  gauge("process_resident_memory_bytes", "Memory of the process.", () => process.memoryUsage.rss());
  gauge("process_open_fds", "Open files and connections; on Linux only.", openFiles);
  gauge("process_max_fds", "How many files and connections may be open; on Linux only.", openFilesMax);
  gauge("nodejs_heap_size_used_bytes", "Memory of JavaScript objects.", () => getHeapStatistics().used_heap_size);
  gauge("nodejs_heap_size_total_bytes", "Memory that is held for them.", () => getHeapStatistics().total_heap_size);
  gauge("nodejs_heap_size_limit_bytes", "Beyond it the process ends.", () => getHeapStatistics().heap_size_limit);
  gauge(
    "nodejs_external_memory_bytes",
    "Memory outside of that heap that its objects hold, such as the bytes of keys and values.",
    () => process.memoryUsage().external,
  );
  registry.gauges({ name: "nodejs_version_info", help: "1, for the version of Node.", labels: ["version"] }, () => [
    [[process.version], 1],
  ]);
}

function addEventLoop(registry: Registry): void {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  const secondsOf = (delayNs: number): number => Math.max(0, delayNs / NS_PER_S - RESOLUTION_MS / 1000);
  const look = (): Delays => {
    // Before the first look there is nothing to tell, which the histogram says by values that mean something else.
    if (histogram.count === 0) return { p50: 0, p99: 0, max: 0 };
    return {
      p50: secondsOf(histogram.percentile(50)),
      p99: secondsOf(histogram.percentile(99)),
      max: secondsOf(histogram.max),
    };
  };
  // Not from scrape to scrape: those who ask would take what others are to see.
  let before: Delays = { p50: 0, p99: 0, max: 0 };
  setInterval(() => {
    before = look();
    histogram.reset();
  }, WINDOW_MS).unref();
  const whose = "in the last half to whole minute";
  const gauge = (name: string, help: string, read: (delays: Delays) => number): void =>
    registry.gauge({ name, help }, () => Math.max(read(before), read(look())));
  gauge(
    "nodejs_eventloop_lag_p50_seconds",
    `Half of the turns of the event loop were no later, ${whose}.`,
    (d) => d.p50,
  );
  gauge(
    "nodejs_eventloop_lag_p99_seconds",
    `99 % of the turns of the event loop were no later, ${whose}.`,
    (d) => d.p99,
  );
  gauge("nodejs_eventloop_lag_max_seconds", `The latest turn of the event loop, ${whose}.`, (d) => d.max);
}

function addCollections(registry: Registry): void {
  const durations = registry.histograms({
    name: "nodejs_gc_duration_seconds",
    help: "Pauses for the collection of garbage.",
    labels: ["kind"],
    buckets: GC_SECONDS,
  });
  const byKind = new Map(Object.entries(GC_KINDS).map(([kind, name]) => [Number(kind), durations.with(name)]));
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { kind } = (entry as PerformanceEntry & { readonly detail: { readonly kind: number } }).detail;
      byKind.get(kind)?.observe(entry.duration / 1000);
    }
  }).observe({ entryTypes: ["gc"] });
}

function openFiles(): number | undefined {
  try {
    // The folder itself was open while it was listed.
    return readdirSync("/proc/self/fd").length - 1;
  } catch {
    return undefined;
  }
}

function openFilesMax(): number | undefined {
  try {
    const soft = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    if (soft === undefined) return undefined;
    return soft === "unlimited" ? Infinity : Number(soft);
  } catch {
    return undefined;
  }
}
