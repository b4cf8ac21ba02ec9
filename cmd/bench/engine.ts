/** How fast the engine is, how much memory it takes, and how long it makes others wait, next to a `Map` in the same run. */
import { fork } from "node:child_process";
import path from "node:path";
import { fileURLToPath } from "node:url";
import {
  type ChurnResult,
  type EngineJob,
  type EngineKind,
  engineKinds,
  type EngineReport,
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

export interface EngineSizes {
  readonly entryCounts: readonly number[];
  readonly churn: Job<"churn">;
  readonly flood: Job<"flood">;
  readonly eviction: Omit<Job<"eviction">, "evictor">;
  readonly expiry: Omit<Job<"expiry">, "directory">;
  readonly limit: Omit<Job<"limit">, "directory">;
}

/** A `Map` of five million entries takes some 4 GB of heap. */
const HEAP_MB = 12_000;

/** Of all engines with so many entries. */
export async function measureEngine(entries: number, progress: (text: string) => void): Promise<EngineRow[]> {
  const rows: EngineRow[] = [];
  for (const engine of engineKinds) {
    progress(`measuring the engine: ${engine}, ${entries} entries`);
    rows.push({ engine, entries, ...(await run("operations", { engine, entries })) });
  }
  return rows;
}

/** `directory` is on the disk that is to be measured. */
export async function measureEngineExtras(
  directory: string,
  sizes: EngineSizes,
  progress: (text: string) => void,
): Promise<EngineExtras> {
  const say = (text: string): void => progress(`measuring the engine: ${text}`);
  say("overwrites with other sizes");
  const churn = { ...sizes.churn, ...(await run("churn", sizes.churn)) };
  say("keys that collide");
  const flood = { ...sizes.flood, ...(await run("flood", sizes.flood)) };
  const rows: EvictionRow[] = [];
  for (const evictor of evictors) {
    say(`evictions, ${evictor}`);
    rows.push({ evictor, ...(await run("eviction", { ...sizes.eviction, evictor })) });
  }
  say("keys that fall due in one second");
  const expiryJob = { ...sizes.expiry, directory: path.join(directory, "expiry") };
  const expiry = { ...sizes.expiry, ...(await run("expiry", expiryJob)) };
  say("a limit of memory");
  const limitJob = { ...sizes.limit, directory: path.join(directory, "limit") };
  const limit = { ...sizes.limit, ...(await run("limit", limitJob)) };
  return { churn, flood, eviction: { ...sizes.eviction, rows }, expiry, limit };
}

function run<Kind extends JobKind>(kind: Kind, parameters: Job<Kind>): Promise<Results[Kind]> {
  const job = { kind, ...parameters } as unknown as EngineJob;
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(new URL("./engine-process.js", import.meta.url)), [JSON.stringify(job)], {
      execArgv: ["--expose-gc", `--max-old-space-size=${HEAP_MB}`],
    });
    const leave = (): void => void child.kill("SIGKILL");
    process.once("exit", leave);
    child.once("message", (report: EngineReport) => {
      if (report.kind === "done") resolve(report.result as Results[Kind]);
      else reject(new Error(`the engine's ${kind}: ${report.message}`));
    });
    child.once("exit", (code, signal) => {
      process.off("exit", leave);
      reject(new Error(`the engine's ${kind}: the process ended (${code ?? signal})`));
    });
  });
}
