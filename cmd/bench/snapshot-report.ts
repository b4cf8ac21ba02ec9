/** What a run of the bench says of snapshots. */
import Table from "cli-table3";
import { grouped } from "./report.js";
import type { SnapshotCost, SnapshotPhase } from "./snapshot.js";

/** What the documentation promises of a master that takes a snapshot. */
const PAUSE_MS_MAX = 10;
const GROWTH_MAX = 0.1;

/** How much more memory a phase took at most than when it began, as a part of that. */
function growthOf({ probe }: SnapshotPhase): number {
  return probe.residentBytesMost / probe.residentBytes - 1;
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
  line("growth, %", (phase) => ms(growthOf(phase) * 100));
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
  const { longestRunMs, longestDelayMs } = cost.with.probe;
  // What other programs took of the processors is no fault of the snapshot's.
  const pauseMs = Math.min(longestRunMs ?? Infinity, longestDelayMs);
  if (pauseMs > PAUSE_MS_MAX) {
    sentences.push(`a pause of ${pauseMs.toFixed(1)} ms, ${PAUSE_MS_MAX} at most are promised`);
  }
  const growth = growthOf(cost.with);
  if (growth > GROWTH_MAX) {
    sentences.push(`memory grew by ${(growth * 100).toFixed(1)} %, ${GROWTH_MAX * 100} at most are promised`);
  }
  return sentences;
}
