/** How fast a start recovers, from the log and from a snapshot, next to a bare read of the same bytes. */
import { readdirSync } from "node:fs";
import path from "node:path";
import { ROUNDS } from "./interleave.js";
import type { RecoveryJob, RecoveryResult } from "./recovery-job.js";
import { recoveryBlocks } from "./recovery-report.js";
import { defineSection, type Progress } from "./section.js";
import { median } from "./statistics.js";
import type { Workbench } from "./workbench.js";

export interface RecoveryRow {
  readonly from: "log" | "snapshot";
  readonly entries: number;
  readonly bytes: number;
  /** Medians of all rounds: opening the directory, and reading its files with a CRC over every byte. */
  readonly openMs: number;
  readonly readMs: number;
  readonly openSamplesMs: readonly number[];
  readonly readSamplesMs: readonly number[];
}

export const recovery = defineSection<{ readonly entryCounts: readonly number[] }, readonly RecoveryRow[]>({
  name: "recovery",
  description: "how fast a start recovers from the log and from a snapshot, next to a bare read of the same bytes",
  sizes: { quick: { entryCounts: [100_000] }, full: { entryCounts: [100_000, 1_000_000] } },
  measure: (bench, { entryCounts }, progress) => measureRecovery(bench, entryCounts, progress),
  render: recoveryBlocks,
  goals: [],
});

/** A job of `recovery-process.ts`. */
export function runRecovery(bench: Workbench, job: RecoveryJob): Promise<RecoveryResult> {
  return bench.work("recovery-process.js", job);
}

async function measureRecovery(
  bench: Workbench,
  entryCounts: readonly number[],
  progress: Progress,
): Promise<RecoveryRow[]> {
  const rows: RecoveryRow[] = [];
  for (const entries of entryCounts) {
    const directory = path.join(bench.directory, `recovery-${entries}`);
    progress(`filling a log with ${entries} records`);
    await runRecovery(bench, { kind: "fill", directory, entries });
    for (const from of ["log", "snapshot"] as const) {
      if (from === "snapshot") await runRecovery(bench, { kind: "snapshot", directory });
      const files = ["wal", "records", "snapshots"].flatMap((folder) => filesOf(path.join(directory, folder)));
      const openMs: number[] = [];
      const readMs: number[] = [];
      let bytes = 0;
      for (let round = 1; round <= ROUNDS; round++) {
        progress(`recovering ${entries} records from the ${from}, ${round} of ${ROUNDS}`);
        const read = await runRecovery(bench, { kind: "read", files });
        ({ bytes } = read);
        readMs.push(read.elapsedMs);
        openMs.push((await runRecovery(bench, { kind: "open", directory, entries })).elapsedMs);
      }
      const medians = { openMs: median(openMs), readMs: median(readMs) };
      rows.push({ from, entries, bytes, ...medians, openSamplesMs: openMs, readSamplesMs: readMs });
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
