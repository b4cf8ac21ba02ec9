import { expect, test } from "vitest";
import { textOf } from "./blocks.js";
import type { LoopReport } from "./loop-watch.js";
import type { SnapshotCost, SnapshotPhase } from "./snapshot.js";
import { growthOf, snapshotBlocks, writeSlowdownOf } from "./snapshot-report.js";

function phase(probe: Partial<LoopReport>): SnapshotPhase {
  const load = { operations: 10, elapsedMs: 1000, p50Us: 1, p99Us: 2, loaderCpuUs: 3 };
  const quiet = {
    longestDelayMs: 9,
    p99DelayMs: 1,
    longestCollectionMs: 1,
    residentBytes: 1e8,
    residentBytesMost: 1e8,
  };
  return { reads: load, writes: load, probe: { ...quiet, ...probe } };
}

const cost: SnapshotCost = {
  entries: 10,
  without: phase({}),
  with: phase({ residentBytesMost: 1.11e8 }),
  snapshots: 2,
  entriesPerSecond: 20,
  fullLoad: { without: [100, 110, 90], with: [70, 85, 80] },
};

test("what a snapshot costs is told beside the same without one", () => {
  expect(growthOf(cost)).toBeCloseTo(0.11);
  expect(writeSlowdownOf(cost.fullLoad)).toBeCloseTo(0.2);
  const text = textOf(snapshotBlocks(cost));
  expect(text).toMatch(/writes\/s at full load +│ +100 │ +80 │/);
  expect(text).toMatch(/more than without, % +│ +│ +11\.0 │/);
  expect(text).not.toContain("NaN");
});
