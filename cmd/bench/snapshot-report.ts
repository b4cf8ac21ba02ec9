/** What a run of the bench says of snapshots. */
import Table from "cli-table3";
import { longestPauseMs } from "./loop-watch.js";
import { grouped } from "./report.js";
import type { SnapshotCost, SnapshotPhase } from "./snapshot.js";

/** What a snapshot may cost a master, beyond what the same load costs without one. */
const PAUSE_MS_MAX = 10;
const GROWTH_MAX = 0.1;

/**
 * How much more memory was taken at most than without snapshots, as a part of that. What a process takes goes up and down with its
 * garbage under any load, so that only the most of the one can be compared with the most of the other.
 */
function growthOf({ without, with: during }: SnapshotCost): number {
  return during.probe.residentBytesMost / without.probe.residentBytesMost - 1;
}

export function renderSnapshot(cost: SnapshotCost): string {
  const { entries, snapshots, entriesPerSecond } = cost;
  const table = new Table({
    head: ["", "without", "with"],
    colAligns: ["left", "right", "right"],
    style: { head: [], border: [], compact: true },
  });
  const line = (name: string, of: (phase: SnapshotPhase) => string): void => {
    table.push([name, of(cost.without), of(cost.with)]);
  };
  const ms = (value: number): string => (Number.isNaN(value) ? "–" : value.toFixed(1));
  line("longest pause of the event loop, ms", ({ probe }) => ms(probe.longestDelayMs));
  line("without the wait for a processor, ms", ({ probe }) => ms(probe.longestRunMs ?? NaN));
  line("pause, p99, ms", ({ probe }) => ms(probe.p99DelayMs));
  line("longest garbage collection, ms", ({ probe }) => ms(probe.longestCollectionMs));
  line("resident at the beginning, MB", ({ probe }) => grouped(probe.residentBytes / 1e6));
  line("resident at most, MB", ({ probe }) => grouped(probe.residentBytesMost / 1e6));
  table.push(["more than without, %", "", ms(growthOf(cost) * 100)]);
  line("writes/s", ({ writes }) => grouped((writes.operations * 1000) / writes.elapsedMs));
  line("write p50, µs", ({ writes }) => grouped(writes.p50Us));
  line("write p99, µs", ({ writes }) => grouped(writes.p99Us));
  line("reads/s", ({ reads }) => grouped((reads.operations * 1000) / reads.elapsedMs));
  line("read p50, µs", ({ reads }) => grouped(reads.p50Us));
  line("read p99, µs", ({ reads }) => grouped(reads.p99Us));
  return [
    `snapshots of ${grouped(entries)} entries under load: ${snapshots} taken, ${grouped(entriesPerSecond)} entries/s`,
    table.toString(),
    ...broken(cost).map((sentence) => `MORE THAN PROMISED: ${sentence}`),
    "",
  ].join("\n");
}

/** Which of the promises this run does not bear out. */
export function broken(cost: SnapshotCost): string[] {
  const sentences: string[] = [];
  const [alwaysMs, pauseMs] = [longestPauseMs(cost.without.probe), longestPauseMs(cost.with.probe)];
  if (pauseMs > alwaysMs + PAUSE_MS_MAX) {
    sentences.push(
      `a pause of ${pauseMs.toFixed(1)} ms, and of ${alwaysMs.toFixed(1)} ms without snapshots; ${PAUSE_MS_MAX} ms more at most are promised`,
    );
  }
  const growth = growthOf(cost);
  if (growth > GROWTH_MAX) {
    sentences.push(
      `${(growth * 100).toFixed(1)} % more memory than without snapshots, ${GROWTH_MAX * 100} % at most are promised`,
    );
  }
  return sentences;
}
