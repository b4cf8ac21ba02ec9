/** What a snapshot costs a master that goes on serving: the same load is measured without one, and while one after another is taken. */
import path from "node:path";
import type { LoadResult } from "./job.js";
import type { LoopReport } from "./loop-watch.js";
import type { ServerProcess } from "./server-process.js";
import type { Workbench } from "./workbench.js";
import { expectedOf, messagesOf, type Operation, pathOf } from "./workload.js";

export interface SnapshotPhase {
  readonly reads: LoadResult;
  readonly writes: LoadResult;
  readonly probe: LoopReport;
}

export interface SnapshotCost {
  readonly entries: number;
  readonly without: SnapshotPhase;
  readonly with: SnapshotPhase;
  readonly snapshots: number;
  readonly entriesPerSecond: number;
}

/** Of the reads, and as many of the writes. */
const CONNECTIONS = 16;
/** With so many connections at most 3,200 reads and as many writes a second, which is far from all that a master can do. */
const THINK_MS = 5;

export async function measureSnapshot(
  bench: Workbench,
  options: { entries: number; measureMs: number },
  progress: (text: string) => void,
): Promise<SnapshotCost> {
  const { entries, measureMs } = options;
  const name = `snapshot-${entries}`;
  progress(`filling a master with ${entries} entries`);
  await bench.run({ kind: "fill", directory: path.join(bench.directory, name), entries });
  // None but those that are asked for.
  const snapshots = { interval: "0s", log_bytes: "1000GB" };
  const wal = { directory: path.join(bench.directory, name) };
  const master = await bench.startMaster(name, { sections: { wal, snapshots }, probed: true });
  const [reader, writer] = [bench.load(), bench.load()];
  await writer.load(job("set", master.address, { warmupMs: 0, measureMs: 0 }));

  const phase = async (): Promise<SnapshotPhase> => {
    await master.probe("begin");
    const times = { warmupMs: 0, measureMs, thinkMs: THINK_MS };
    const [reads, writes] = await Promise.all([
      reader.load(job("get", master.address, times)),
      writer.load(job("set", master.address, times)),
    ]);
    return { reads, writes, probe: await master.probe("end") };
  };
  progress("serving without a snapshot");
  // The first time compiles the code; then it counts.
  await phase();
  const without = await phase();
  progress("serving while snapshots are taken");
  let isOver = false;
  let taken = 0;
  const takeThem = async (): Promise<number> => {
    const startMs = performance.now();
    while (!isOver) {
      await takeSnapshot(master);
      taken++;
    }
    return performance.now() - startMs;
  };
  const [during, elapsedMs] = await Promise.all([phase().finally(() => (isOver = true)), takeThem()]);
  return { entries, without, with: during, snapshots: taken, entriesPerSecond: (taken * entries * 1000) / elapsedMs };
}

function job(
  operation: Operation,
  address: string,
  times: { warmupMs: number; measureMs: number; thinkMs?: number },
): Parameters<ReturnType<Workbench["load"]>["load"]>[0] {
  return {
    kind: "load",
    protocol: "connect",
    address,
    path: pathOf[operation],
    messages: messagesOf[operation],
    expected: expectedOf[operation],
    connections: CONNECTIONS,
    streams: 1,
    ...times,
  };
}

async function takeSnapshot(master: ServerProcess): Promise<void> {
  const answer = await fetch(`http://${master.address}/cambium.v1.Cluster/CreateSnapshot`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: "{}",
  });
  if (!answer.ok) throw new Error(`a snapshot was refused: ${await answer.text()}`);
  await answer.arrayBuffer();
}
