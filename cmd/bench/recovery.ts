/**
 * How fast a start recovers, from the log and from a snapshot, next to a bare read of the same bytes, and to redis, where that is
 * installed, which loads as many equal entries from its log and its snapshot.
 */
import { existsSync, readdirSync } from "node:fs";
import { cp } from "node:fs/promises";
import path from "node:path";
import { ROUNDS } from "./interleave.js";
import type { RecoveryJob, RecoveryResult, RecoverySource } from "./recovery-job.js";
import { RedisData, type RedisLoad, redisVersion } from "./recovery-redis.js";
import { recoveryBlocks } from "./recovery-report.js";
import { defineSection, type Progress } from "./section.js";
import { median } from "./statistics.js";
import type { Workbench } from "./workbench.js";

export interface RecoveryRow {
  readonly from: RecoverySource;
  readonly entries: number;
  readonly bytes: number;
  /** Medians of all rounds: opening the directory, and reading its files with a CRC over every byte. */
  readonly openMs: number;
  readonly readMs: number;
  /** Of the process that opens. */
  readonly openCpuMs: number;
  /** Medians too; absent where redis is not installed. */
  readonly redis?: RedisLoad & { readonly version: string };
  readonly samples: readonly RecoverySample[];
}

interface RecoverySample {
  readonly open: RecoveryResult;
  readonly read: RecoveryResult;
  readonly redis?: RedisLoad;
}

export const recovery = defineSection<{ readonly entryCounts: readonly number[] }, readonly RecoveryRow[]>({
  name: "recovery",
  description: "how fast a start recovers from the log and from a snapshot, next to a bare read and to redis",
  sizes: { quick: { entryCounts: [30_000] }, full: { entryCounts: [100_000, 1_000_000] } },
  measure: (bench, { entryCounts }, progress) => measureRecovery(bench, entryCounts, progress),
  render: recoveryBlocks,
  goals: [
    {
      figure: "recovery from the log / redis' load of its AOF, a million entries",
      unit: "×",
      atLeast: 1,
      aim: 1.5,
      measured: (rows) => besideRedis(rows, "log"),
    },
    {
      figure: "recovery from a snapshot / redis' load of its RDB, a million entries",
      unit: "×",
      atLeast: 1.5,
      aim: 2.5,
      measured: (rows) => besideRedis(rows, "snapshot"),
    },
  ],
});

/** How many times as fast as redis; NaN where that, or so many entries, were not measured. */
function besideRedis(rows: readonly RecoveryRow[], from: RecoverySource): number {
  const row = rows.find((each) => each.from === from && each.entries === 1_000_000);
  return row?.redis ? row.redis.loadMs / row.openMs : NaN;
}

/** Makes the data directory `name`, with so many entries, each by a record of its own. What was made once is copied from then on. */
export async function fillDirectory(bench: Workbench, name: string, entries: number): Promise<string> {
  const filled = path.join(bench.directory, `filled-${entries}`);
  const directory = path.join(bench.directory, name);
  if (!existsSync(filled)) await runRecovery(bench, { kind: "fill", directory: filled, entries });
  await cp(filled, directory, { recursive: true });
  return directory;
}

/** A job of `recovery-process.ts`. */
function runRecovery(bench: Workbench, job: RecoveryJob): Promise<RecoveryResult> {
  return bench.work("recovery-process.js", job);
}

async function measureRecovery(
  bench: Workbench,
  entryCounts: readonly number[],
  progress: Progress,
): Promise<RecoveryRow[]> {
  const rows: RecoveryRow[] = [];
  const version = redisVersion();
  for (const entries of entryCounts) {
    progress(`filling logs with ${entries} records`);
    const redisDirectory = path.join(bench.directory, `redis-${entries}`);
    const [directory, redis] = await Promise.all([
      fillDirectory(bench, `recovery-${entries}`, entries),
      version ? RedisData.fill(bench, redisDirectory, entries) : undefined,
    ]);
    for (const from of ["log", "snapshot"] as const) {
      if (from === "snapshot") await runRecovery(bench, { kind: "snapshot", directory });
      const files = ["wal", "records", "snapshots"].flatMap((folder) => filesOf(path.join(directory, folder)));
      const samples: RecoverySample[] = [];
      for (let round = 1; round <= ROUNDS; round++) {
        progress(`recovering ${entries} records from the ${from}, ${round} of ${ROUNDS}`);
        const read = await runRecovery(bench, { kind: "read", files });
        const open = await runRecovery(bench, { kind: "open", directory, entries });
        samples.push({ read, open, ...(redis && { redis: await redis.load(from) }) });
      }
      const of = (pick: (sample: RecoverySample) => number): number => median(samples.map(pick));
      rows.push({
        from,
        entries,
        bytes: of(({ read }) => read.bytes),
        openMs: of(({ open }) => open.elapsedMs),
        openCpuMs: of(({ open }) => open.cpuMs),
        readMs: of(({ read }) => read.elapsedMs),
        ...(version && {
          redis: {
            version,
            loadMs: of((sample) => sample.redis?.loadMs ?? NaN),
            cpuMs: of((sample) => sample.redis?.cpuMs ?? NaN),
          },
        }),
        samples,
      });
    }
  }
  return rows;
}

function filesOf(directory: string): string[] {
  try {
    return readdirSync(directory)
      .filter((name) => /\.(wal|snapshot)$/.test(name))
      .map((name) => path.join(directory, name));
  } catch (error) {
    // The first snapshot makes the folder.
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
