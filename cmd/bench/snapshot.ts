/** What a snapshot costs a master that goes on serving: the same load is measured without one, and while one after another is taken. */
import { interleave } from "./interleave.js";
import type { LoadJob, LoadResult } from "./job.js";
import { callJson } from "./json-call.js";
import { type LoopReport, longestPauseMs } from "./loop-watch.js";
import { jobOf } from "./measurement.js";
import type { Operation } from "./protocols.js";
import { fillDirectory } from "./recovery.js";
import { defineSection, type Progress } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import { GROWTH_MAX, growthOf, PAUSE_MS_MAX, snapshotBlocks, writeSlowdownOf } from "./snapshot-report.js";
import type { Workbench } from "./workbench.js";

export interface SnapshotPhase {
  readonly reads: LoadResult;
  readonly writes: LoadResult;
  readonly probe: LoopReport;
}

/** Of sets that come as fast as they are answered. */
export interface FullLoad {
  /** Each of a round, in operations a second. */
  readonly without: readonly number[];
  readonly with: readonly number[];
}

export interface SnapshotCost {
  readonly entries: number;
  /** Under a load of which the master bears much more. */
  readonly without: SnapshotPhase;
  readonly with: SnapshotPhase;
  readonly snapshots: number;
  readonly entriesPerSecond: number;
  readonly fullLoad: FullLoad;
}

interface SnapshotSizes {
  readonly entryCounts: readonly number[];
  readonly measureMs: number;
  readonly fullLoadMs: number;
}

/** Of the reads, and as many of the writes. */
const CONNECTIONS = 16;
/** With so many connections at most 3,200 reads and as many writes a second, which is far from all that a master can do. */
const THINK_MS = 5;
/** Of the writes at full load. */
const FULL_CONNECTIONS = 64;

export const snapshot = defineSection<SnapshotSizes, readonly SnapshotCost[]>({
  name: "snapshot",
  description: "what snapshots cost a master that goes on serving: pauses, memory, and the rate of writes",
  sizes: {
    quick: { entryCounts: [30_000], measureMs: 200, fullLoadMs: 120 },
    full: { entryCounts: [100_000, 1_000_000], measureMs: 10_000, fullLoadMs: 3000 },
  },
  async measure(bench, { entryCounts, ...times }, progress) {
    const costs: SnapshotCost[] = [];
    for (const entries of entryCounts) costs.push(await measureSnapshot(bench, { entries, ...times }, progress));
    return costs;
  },
  render: (costs) => costs.flatMap(snapshotBlocks),
  goals: [
    {
      figure: "a snapshot's share of the rate of writes, at full load",
      unit: "%",
      atMost: 20,
      measured: (costs) => Math.max(...costs.map((cost) => 100 * writeSlowdownOf(cost.fullLoad))),
    },
    {
      figure: "a snapshot's longest pause, beyond that of the load alone",
      unit: "ms",
      atMost: PAUSE_MS_MAX,
      measured: (costs) =>
        Math.max(...costs.map((cost) => longestPauseMs(cost.with.probe) - longestPauseMs(cost.without.probe))),
    },
    {
      figure: "a snapshot's memory, beyond that of the load alone",
      unit: "%",
      atMost: GROWTH_MAX * 100,
      measured: (costs) => Math.max(...costs.map((cost) => 100 * growthOf(cost))),
    },
  ],
});

async function measureSnapshot(
  bench: Workbench,
  options: { entries: number; measureMs: number; fullLoadMs: number },
  progress: Progress,
): Promise<SnapshotCost> {
  const { entries, measureMs, fullLoadMs } = options;
  const name = `snapshot-${entries}`;
  progress(`filling a master with ${entries} entries`);
  await fillDirectory(bench, name, entries);
  const master = await bench.startMaster(name, { probed: true });
  const [reader, writer] = [bench.load(), bench.load()];

  const phase = async (): Promise<SnapshotPhase> => {
    await master.probe("begin");
    const load = (operation: Operation): LoadJob => ({
      ...jobOf({ protocol: "connect", operation, connections: CONNECTIONS, streams: 1 }, master.address),
      warmupMs: 0,
      measureMs,
      thinkMs: THINK_MS,
    });
    const [reads, writes] = await Promise.all([reader.load(load("get")), writer.load(load("set"))]);
    return { reads, writes, probe: await master.probe("end") };
  };
  progress("serving without a snapshot");
  // The first time compiles the code, that of snapshots and of the call that asks for them too; then it counts.
  await whileTaking(master, phase);
  const without = await phase();
  progress("serving while snapshots are taken");
  const during = await whileTaking(master, phase);

  const fullLoad = await interleave(
    ["without", "with"] as const,
    async (which) => {
      const write = async (): Promise<number> => {
        const clients = { connections: FULL_CONNECTIONS, streams: 1 };
        const job = jobOf({ protocol: "connect", operation: "set", ...clients }, master.address);
        const { operations, elapsedMs } = await writer.load({ ...job, warmupMs: 0, measureMs: fullLoadMs });
        return (operations * 1000) / elapsedMs;
      };
      return which === "with" ? (await whileTaking(master, write)).result : write();
    },
    (text) => progress(`writing at full load: ${text}`),
  );
  await bench.stop(master);
  return {
    entries,
    without,
    with: during.result,
    snapshots: during.taken,
    entriesPerSecond: (during.taken * entries * 1000) / during.elapsedMs,
    fullLoad: { without: fullLoad.get("without")!, with: fullLoad.get("with")! },
  };
}

/** Does something while one snapshot after another is taken. */
async function whileTaking<Result>(
  master: ServerProcess,
  work: () => Promise<Result>,
): Promise<{ result: Result; taken: number; elapsedMs: number }> {
  let isOver = false;
  let taken = 0;
  const takeThem = async (): Promise<number> => {
    const startMs = performance.now();
    while (!isOver) {
      await callJson(master, "Cluster/CreateSnapshot", {});
      taken++;
    }
    return performance.now() - startMs;
  };
  const [result, elapsedMs] = await Promise.all([work().finally(() => (isOver = true)), takeThem()]);
  return { result, taken, elapsedMs };
}
