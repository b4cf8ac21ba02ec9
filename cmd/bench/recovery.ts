/**
 * How fast a start recovers, from the log and from a snapshot, next to a bare read of the same bytes, and to redis, where that is
 * installed, which loads as many equal entries from its log and its snapshot.
 */
import { readdirSync } from "node:fs";
import path from "node:path";
import type { RecoverySource } from "./recovery-job.js";
import { RedisData, type RedisLoad, redisVersion } from "./recovery-redis.js";
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
  /** Medians too; undefined where redis is not installed. */
  readonly redis?: RedisLoad & { readonly version: string };
}

const ROUNDS = 3;

export async function measureRecovery(
  bench: Workbench,
  entryCounts: readonly number[],
  progress: (text: string) => void,
): Promise<RecoveryRow[]> {
  const rows: RecoveryRow[] = [];
  const version = redisVersion();
  for (const entries of entryCounts) {
    const directory = path.join(bench.directory, `recovery-${entries}`);
    progress(`filling a log with ${entries} records`);
    await bench.run({ kind: "fill", directory, entries });
    if (version) progress(`filling redis with ${entries} entries`);
    const redisDirectory = path.join(bench.directory, `redis-${entries}`);
    const redis = version ? await RedisData.fill(bench, redisDirectory, entries) : undefined;
    for (const from of ["log", "snapshot"] as const) {
      if (from === "snapshot") await bench.run({ kind: "snapshot", directory });
      const files = ["wal", "records", "snapshots"].flatMap((folder) => filesOf(path.join(directory, folder)));
      const openMs: number[] = [];
      const openCpuMs: number[] = [];
      const readMs: number[] = [];
      const loads: RedisLoad[] = [];
      let bytes = 0;
      for (let round = 1; round <= ROUNDS; round++) {
        progress(`recovering ${entries} records from the ${from}, ${round} of ${ROUNDS}`);
        const read = await bench.run({ kind: "read", files });
        ({ bytes } = read);
        readMs.push(read.elapsedMs);
        const opened = await bench.run({ kind: "open", directory, entries });
        openMs.push(opened.elapsedMs);
        openCpuMs.push(opened.cpuMs);
        if (redis) loads.push(await redis.load(from));
      }
      rows.push({
        from,
        entries,
        bytes,
        openMs: median(openMs),
        openCpuMs: median(openCpuMs),
        readMs: median(readMs),
        ...(version && {
          redis: {
            version,
            loadMs: median(loads.map(({ loadMs }) => loadMs)),
            cpuMs: median(loads.map(({ cpuMs }) => cpuMs)),
          },
        }),
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
