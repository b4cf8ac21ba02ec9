/** How fast the engine is, how much memory it takes, and how long it makes others wait, next to a `Map` in the same run. */
import path from "node:path";
import { engineBlocks, PAUSE_MS_MAX, LATE_MS_MAX } from "./engine-report.js";
import {
  type ChurnResult,
  type EngineKind,
  engineKinds,
  type EvictionResult,
  type Evictor,
  evictors,
  type ExpiryResult,
  type FloodResult,
  type Job,
  type JobKind,
  type LimitResult,
  type OperationsResult,
  type Results,
} from "./engine-job.js";
import { defineSection, type Progress } from "./section.js";
import type { Workbench } from "./workbench.js";

export interface EngineRow extends OperationsResult {
  readonly engine: EngineKind;
  readonly entries: number;
}

export interface EvictionRow extends EvictionResult {
  readonly evictor: Evictor;
}

/** What concerns the engine beside its operations, with what was measured. */
export interface EngineExtras {
  readonly churn: Job<"churn"> & ChurnResult;
  readonly flood: Job<"flood"> & FloodResult;
  readonly eviction: Omit<Job<"eviction">, "evictor"> & { readonly rows: readonly EvictionRow[] };
  readonly expiry: Omit<Job<"expiry">, "directory"> & ExpiryResult;
  readonly limit: Omit<Job<"limit">, "directory"> & LimitResult;
}

export interface EngineOutcome {
  readonly operations: readonly EngineRow[];
  /** Absent: a quick run leaves them out. */
  readonly extras?: EngineExtras;
}

interface ExtraSizes {
  readonly churn: Job<"churn">;
  readonly flood: Job<"flood">;
  readonly eviction: Omit<Job<"eviction">, "evictor">;
  readonly expiry: Omit<Job<"expiry">, "directory">;
  readonly limit: Omit<Job<"limit">, "directory">;
}

interface EngineSizes {
  readonly engines: readonly EngineKind[];
  readonly entryCounts: readonly number[];
  readonly operations: number;
  readonly extras?: ExtraSizes;
}

/** A `Map` of five million entries takes some 4 GB of heap. */
const HEAP_MB = 12_000;
/** What redis 7.0 takes for an entry of a 16-byte key and a 100-byte value. */
const REDIS_ENTRY_BYTES = 203;

export const engine = defineSection<EngineSizes, EngineOutcome>({
  name: "engine",
  description:
    "every operation of the engine next to a Map: time, memory and pauses; churn, floods, evictions, expiry, limits",
  sizes: {
    quick: { engines: ["map", "slab"], entryCounts: [10_000], operations: 20_000 },
    full: {
      engines: engineKinds,
      entryCounts: [10_000, 100_000, 1_000_000, 5_000_000],
      operations: 1_000_000,
      extras: {
        churn: { entries: 1_000_000, overwrites: 10_000_000 },
        flood: { keys: 1_000_000, bits: 10 },
        eviction: { entriesMax: 100_000, keys: 1_000_000, requests: 6_000_000 },
        expiry: { entries: 1_000_000 },
        limit: { bytesMax: 100_000_000, times: 10 },
      },
    },
  },
  measure: measureEngine,
  render: engineBlocks,
  goals: [
    ...[1_000_000, 5_000_000].flatMap((entries) => [
      {
        figure: `engine: a get's time / Map, ${entries / 1e6} M entries`,
        unit: "×" as const,
        atMost: 0.6,
        measured: ({ operations }: EngineOutcome) =>
          find(operations, "slab", entries).getNs / find(operations, "map", entries).getNs,
      },
      {
        figure: `engine: longest pause, ${entries / 1e6} M entries`,
        unit: "ms" as const,
        atMost: PAUSE_MS_MAX,
        aim: 5,
        measured: ({ operations }: EngineOutcome) => find(operations, "slab", entries).longestTurnMs,
      },
      {
        figure: `engine: bytes of an entry / redis' ${REDIS_ENTRY_BYTES}, ${entries / 1e6} M entries`,
        unit: "×" as const,
        atMost: 1,
        measured: ({ operations }: EngineOutcome) =>
          find(operations, "slab", entries).residentBytes / REDIS_ENTRY_BYTES,
      },
    ]),
    {
      figure: "engine: longest pause while a million keys expire in one second",
      unit: "ms",
      atMost: PAUSE_MS_MAX,
      measured: ({ extras }) => Math.max(extras?.expiry.longestTurnMs ?? NaN, extras?.expiry.aloneLongestTurnMs ?? NaN),
    },
    {
      figure: "engine: the last of them gone after its deadline",
      unit: "ms",
      atMost: LATE_MS_MAX,
      measured: ({ extras }) => extras?.expiry.lateMs ?? NaN,
    },
    {
      figure: "engine: bytes accounted / storage.max_bytes",
      unit: "×",
      atMost: 1,
      measured: ({ extras }) => (extras ? extras.limit.accountedBytesMost / extras.limit.bytesMax : NaN),
    },
  ],
});

/** Without one every figure of it is unknown. */
function find(
  rows: readonly EngineRow[],
  engine: EngineKind,
  entries: number,
): Pick<EngineRow, "getNs" | "longestTurnMs" | "residentBytes"> {
  const row = rows.find((each) => each.engine === engine && each.entries === entries);
  return row ?? { getNs: NaN, longestTurnMs: NaN, residentBytes: NaN };
}

async function measureEngine(bench: Workbench, sizes: EngineSizes, progress: Progress): Promise<EngineOutcome> {
  const operations: EngineRow[] = [];
  for (const entries of sizes.entryCounts) {
    for (const engine of sizes.engines) {
      progress(`${engine}, ${entries} entries`);
      const job = { engine, entries, operations: sizes.operations };
      operations.push({ engine, entries, ...(await run(bench, "operations", job)) });
    }
  }
  return { operations, ...(sizes.extras && { extras: await measureExtras(bench, sizes.extras, progress) }) };
}

async function measureExtras(bench: Workbench, sizes: ExtraSizes, progress: Progress): Promise<EngineExtras> {
  progress("overwrites with other sizes");
  const churn = { ...sizes.churn, ...(await run(bench, "churn", sizes.churn)) };
  progress("keys that collide");
  const flood = { ...sizes.flood, ...(await run(bench, "flood", sizes.flood)) };
  const rows: EvictionRow[] = [];
  for (const evictor of evictors) {
    progress(`evictions, ${evictor}`);
    rows.push({ evictor, ...(await run(bench, "eviction", { ...sizes.eviction, evictor })) });
  }
  progress("keys that fall due in one second");
  const expiryJob = { ...sizes.expiry, directory: path.join(bench.directory, "expiry") };
  const expiry = { ...sizes.expiry, ...(await run(bench, "expiry", expiryJob)) };
  progress("a limit of memory");
  const limitJob = { ...sizes.limit, directory: path.join(bench.directory, "limit") };
  const limit = { ...sizes.limit, ...(await run(bench, "limit", limitJob)) };
  return { churn, flood, eviction: { ...sizes.eviction, rows }, expiry, limit };
}

function run<Kind extends JobKind>(bench: Workbench, kind: Kind, job: Job<Kind>): Promise<Results[Kind]> {
  return bench.work("engine-process.js", { kind, ...job }, ["--expose-gc", `--max-old-space-size=${HEAP_MB}`]);
}
