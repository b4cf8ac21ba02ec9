/** How fast a start recovers, from the log and from a snapshot, next to a bare read of the same bytes. */
import { readdirSync } from "node:fs";
import path from "node:path";
import { median } from "./statistics.js";
import type { Workbench } from "./workbench.js";

export interface RecoveryRow {
  readonly from: "log" | "snapshot";
  readonly entries: number;
  readonly bytes: number;
  /** Medians of all rounds: opening the directory, and reading its files with a CRC over every byte. */
  readonly openMs: number;
  readonly readMs: number;
}

const ROUNDS = 3;

export async function measureRecovery(
  bench: Workbench,
  entryCounts: readonly number[],
  progress: (text: string) => void,
): Promise<RecoveryRow[]> {
  const rows: RecoveryRow[] = [];
  for (const entries of entryCounts) {
    const directory = path.join(bench.directory, `recovery-${entries}`);
    progress(`filling a log with ${entries} records`);
    await bench.run({ kind: "fill", directory, entries });
    for (const from of ["log", "snapshot"] as const) {
      if (from === "snapshot") await bench.run({ kind: "snapshot", directory });
      const files = ["wal", "records", "snapshots"].flatMap((folder) => filesOf(path.join(directory, folder)));
      const openMs: number[] = [];
      const readMs: number[] = [];
      let bytes = 0;
      for (let round = 1; round <= ROUNDS; round++) {
        progress(`recovering ${entries} records from the ${from}, ${round} of ${ROUNDS}`);
        const read = await bench.run({ kind: "read", files });
        ({ bytes } = read);
        readMs.push(read.elapsedMs);
        openMs.push((await bench.run({ kind: "open", directory, entries })).elapsedMs);
      }
      rows.push({ from, entries, bytes, openMs: median(openMs), readMs: median(readMs) });
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
