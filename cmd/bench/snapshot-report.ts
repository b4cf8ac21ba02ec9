/** What a run of the bench says of snapshots. */
import type { Block } from "./blocks.js";
import { fixed, grouped } from "./format.js";
import type { FullLoad, SnapshotCost, SnapshotPhase } from "./snapshot.js";
import { median } from "./statistics.js";

/** What a snapshot may cost a master, beyond what the same load costs without one. */
export const PAUSE_MS_MAX = 10;
export const GROWTH_MAX = 0.1;

/**
 * How much more memory was taken at most than without snapshots, as a part of that. What a process takes goes up and down with its
 * garbage under any load, so that only the most of the one can be compared with the most of the other.
 */
export function growthOf({ without, with: during }: Pick<SnapshotCost, "without" | "with">): number {
  return during.probe.residentBytesMost / without.probe.residentBytesMost - 1;
}

/** By which part fewer writes are made while snapshots are taken. */
export function writeSlowdownOf(load: FullLoad): number {
  return 1 - median(load.with) / median(load.without);
}

export function snapshotBlocks(cost: SnapshotCost): Block[] {
  const { entries, snapshots, entriesPerSecond, fullLoad } = cost;
  const rows: string[][] = [];
  const line = (name: string, of: (phase: SnapshotPhase) => string): void => {
    rows.push([name, of(cost.without), of(cost.with)]);
  };
  const ms = (value: number): string => fixed(value, 1);
  line("longest pause of the event loop, ms", ({ probe }) => ms(probe.longestDelayMs));
  line("without the wait for a processor, ms", ({ probe }) => ms(probe.longestRunMs ?? NaN));
  line("pause, p99, ms", ({ probe }) => ms(probe.p99DelayMs));
  line("longest garbage collection, ms", ({ probe }) => ms(probe.longestCollectionMs));
  line("resident at the beginning, MB", ({ probe }) => grouped(probe.residentBytes / 1e6));
  line("resident at most, MB", ({ probe }) => grouped(probe.residentBytesMost / 1e6));
  rows.push(["more than without, %", "", ms(growthOf(cost) * 100)]);
  line("writes/s", ({ writes }) => grouped((writes.operations * 1000) / writes.elapsedMs));
  line("write p50, µs", ({ writes }) => grouped(writes.p50Us));
  line("write p99, µs", ({ writes }) => grouped(writes.p99Us));
  line("reads/s", ({ reads }) => grouped((reads.operations * 1000) / reads.elapsedMs));
  line("read p50, µs", ({ reads }) => grouped(reads.p50Us));
  line("read p99, µs", ({ reads }) => grouped(reads.p99Us));
  rows.push(["writes/s at full load", grouped(median(fullLoad.without)), grouped(median(fullLoad.with))]);
  rows.push(["fewer than without, %", "", ms(100 * writeSlowdownOf(fullLoad))]);
  return [
    `snapshots of ${grouped(entries)} entries, one after another, under load: ${snapshots} taken, ${grouped(entriesPerSecond)} entries/s`,
    { head: ["", "without", "with"], rows },
  ];
}
