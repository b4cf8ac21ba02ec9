/** A replica that stands still under load (SIGSTOP), and goes on: what it costs the master meanwhile, and whether it catches up. */
import { expect, onTestFinished, test } from "vitest";
import type { TestNode } from "../harness/node.js";
import { TestCluster } from "../harness/cluster.js";
import { call, set, status } from "../harness/rpc.js";
import { until } from "../harness/until.js";
import { Voters } from "../harness/voters.js";
import { MeasuredLoad, type Measurement } from "./support/measured-load.js";
import { processOf, residentBytes } from "./support/node-processes.js";

/** More than all that may be on its way to a replica, the buffers of the system included, many times over. */
const PHASE_BYTES = 60e6;
const VALUE_BYTES = 16 * 1024;
const WRITERS = 8;
/** A write may take so many times as long while a replica stands still; in the middle, on a machine that others use. */
const SLOWER_MAX = 2;
/** The memory of a process goes up and down with its garbage; what is meant for a replica would be more than this. */
const MORE_BYTES_MAX = 64e6;

interface Nodes {
  readonly master: TestNode;
  readonly replicas: readonly TestNode[];
}

async function nodesWith(commit: "master" | "majority"): Promise<Nodes> {
  if (commit === "majority") {
    const voters = await Voters.start();
    onTestFinished(() => voters.close());
    const [master, ...replicas] = voters.nodes as [TestNode, ...TestNode[]];
    return { master, replicas };
  }
  const cluster = await TestCluster.start({ replicas: 2 });
  onTestFinished(() => cluster.close());
  return cluster;
}

interface Phase extends Measurement {
  readonly residentBytesMost: number;
}

async function phaseOf(load: MeasuredLoad, masterProcess: number): Promise<Phase> {
  load.measure();
  let residentBytesMost = 0;
  await until(
    "enough is written",
    async () => {
      residentBytesMost = Math.max(residentBytesMost, await residentBytes(masterProcess));
      return load.writes * VALUE_BYTES > PHASE_BYTES;
    },
    600_000,
  );
  return { ...load.measure(), residentBytesMost };
}

async function valuesAt(address: string, keys: readonly string[]): Promise<(string | undefined)[]> {
  const values: (string | undefined)[] = [];
  for (let at = 0; at < keys.length; at += 100) {
    const { body } = await call(address, "KVStore/BatchGet", { keys: keys.slice(at, at + 100) });
    const { entries = [] } = body as { entries?: { exists?: boolean; value?: string }[] };
    values.push(...entries.map(({ exists, value }) => (exists ? value : undefined)));
  }
  return values;
}

test.for(["master", "majority"] as const)(
  "a replica that stands still under load costs the master neither time nor memory, and catches up (commit: %s)",
  async (commit) => {
    const { master, replicas } = await nodesWith(commit);
    const stopped = replicas[0]!;
    const masterProcess = await processOf(master);
    const load = new MeasuredLoad({ address: master.address, writers: WRITERS, valueBytes: VALUE_BYTES });
    onTestFinished(() => stopped.signal("SIGCONT"));
    // The first phase compiles the code, and fills what garbage may fill.
    await phaseOf(load, masterProcess);
    const before = await phaseOf(load, masterProcess);
    stopped.signal("SIGSTOP");
    const during = await phaseOf(load, masterProcess);
    const { appliedSeq: behindUpTo } = await status(master.address);
    stopped.signal("SIGCONT");
    const continuedMs = performance.now();
    const reached = async (seq: number): Promise<number> => {
      const hasIt = async (): Promise<boolean> => (await status(stopped.address)).appliedSeq >= seq;
      await until(`it has applied ${seq}`, hasIt, 120_000);
      return performance.now() - continuedMs;
    };
    const [after, madeUpMs] = await Promise.all([phaseOf(load, masterProcess), reached(behindUpTo)]);
    await load.stop();
    await reached(await set(master.address, "last", "1"));

    const keys = [...load.values.keys()];
    for (const node of [master, ...replicas]) {
      expect(await valuesAt(node.address, keys)).toEqual([...load.values.values()]);
      expect(node.stderr).toBe("");
    }
    const slower = during.p50Ms / before.p50Ms;
    const say = (name: string, { writes, elapsedMs, p50Ms, p99Ms, residentBytesMost }: Phase): string =>
      `${name}: ${Math.round((writes * 1000) / elapsedMs)} writes/s, p50 ${p50Ms.toFixed(1)} ms, p99 ${p99Ms.toFixed(1)} ms, ${(residentBytesMost / 1e6).toFixed(0)} MB at most`;
    console.log(
      [
        `commit: ${commit}, values of ${VALUE_BYTES} bytes, ${(during.bytes / 1e6).toFixed(0)} MB while a replica stood still`,
        say("before", before),
        say(`while it stood still (${slower.toFixed(2)} × the p50)`, during),
        say("afterwards", after),
        `it had made up for it ${(madeUpMs / 1000).toFixed(1)} s after it went on, under load`,
      ].join("\n"),
    );
    expect(slower).toBeLessThan(SLOWER_MAX);
    expect(during.residentBytesMost).toBeLessThan(before.residentBytesMost + MORE_BYTES_MAX);
  },
);
