/** What an operation costs as the store grows: with more entries, with more connections, with more replicas. */
import type { Table } from "./blocks.js";
import { fixed, grouped, ratio } from "./format.js";
import { interleave } from "./interleave.js";
import type { LoadProcess } from "./load-process.js";
import { fill, jobOf, measureLoad, medianOf, type Sample, type Times, timesOf } from "./measurement.js";
import type { Operation } from "./protocols.js";
import { fillDirectory } from "./recovery.js";
import { hasAll, untilCluster } from "./replication-cluster.js";
import { defineSection, type Progress } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import type { Workbench } from "./workbench.js";
import { KEY_COUNT } from "./workload.js";

interface GrowthSizes extends Times {
  readonly entryCounts: readonly number[];
  readonly connectionCounts: readonly number[];
  readonly replicaCounts: readonly number[];
}

interface GrowthRow {
  /** So many entries, connections, or replicas. */
  readonly count: number;
  readonly gets: readonly Sample[];
  readonly sets: readonly Sample[];
  /** Of the master's process, before the load. */
  readonly residentBytes: number;
}

/** With the sets of a master without replicas, in the same rounds. */
interface ReplicaRow extends GrowthRow {
  readonly setsAlone: readonly Sample[];
}

interface GrowthResult {
  /** Of a master without entries. */
  readonly emptyBytes: number;
  readonly entries: readonly GrowthRow[];
  readonly connections: readonly GrowthRow[];
  readonly replicas: readonly ReplicaRow[];
}

/** What is measured, and on which master. */
interface Growing {
  readonly count: number;
  readonly server: ServerProcess;
  readonly keyCount: number;
  readonly connections: number;
}

/** What measures, and how. */
interface Means {
  readonly bench: Workbench;
  readonly load: LoadProcess;
  readonly times: Times;
  readonly progress: Progress;
}

/** Where it is not connections that grow. */
const CONNECTIONS = 64;
/** What is measured is no sync. */
const sections = { wal: { durability: "os" } };

export const growth = defineSection<GrowthSizes, GrowthResult>({
  name: "growth",
  description:
    "CPU time an operation, and memory, with 10^3 to 5·10^6 entries, 1 to 1,000 connections, 0 to 5 replicas",
  sizes: {
    quick: {
      entryCounts: [30_000],
      connectionCounts: [],
      replicaCounts: [],
      warmupMs: 10,
      measureMs: 80,
      settleCalls: 800,
    },
    full: {
      entryCounts: [10_000, 100_000, 1_000_000, 5_000_000],
      connectionCounts: [1, 10, 100, 1000],
      replicaCounts: [0, 1, 2, 3, 4, 5],
      warmupMs: 300,
      measureMs: 1500,
      settleCalls: 3000,
    },
  },

  async measure(bench, { entryCounts, connectionCounts, replicaCounts, ...times }, progress) {
    const means = { bench, load: bench.load(), times, progress };
    progress("starting a master, and filling logs for others");
    // Both are done before anything is measured.
    const [alone] = await Promise.all([
      bench.startMaster("growth-alone", { sections }),
      ...entryCounts.map((entries) => fillDirectory(bench, nameOf(entries), entries)),
    ]);
    const emptyBytes = alone.residentBytes();
    await fill(means.load, alone, "connect");
    return {
      emptyBytes,
      entries: await measureEntries(means, alone, entryCounts),
      connections: await measureConnections(means, alone, connectionCounts),
      replicas: await measureReplicas(means, alone, replicaCounts),
    };
  },

  render: ({ emptyBytes, entries, connections, replicas }) => [
    `growth: Connect over HTTP/1.1, durability os, ${CONNECTIONS} connections where nothing else is said; medians of three interleaved rounds`,
    tableOf("entries", entries, {
      name: "bytes an entry",
      // Of few entries it is lost in what a process takes one time more and another less.
      of: ({ count, residentBytes }) => grouped(count < 30_000 ? NaN : (residentBytes - emptyBytes) / count),
    }),
    ...(connections.length === 0 ? [] : [tableOf("connections", connections)]),
    replicas.length === 0
      ? "A quick run leaves out connections and replicas."
      : tableOf("replicas", replicas, { name: "set CPU, × without", of: (row) => ratio(costBesideAlone(row)) }),
    "CPU µs: of the master's process, an operation. Replicas on the same machine take their share of its processors: with several of them rates tell of the machine, and CPU time of the master. No snapshots are taken meanwhile.",
  ],

  goals: [],
});

/** The master's CPU time a write, next to that of a master without replicas. */
function costBesideAlone(row: ReplicaRow | undefined): number {
  if (row === undefined) return NaN;
  return medianOf(row.sets).serverCpuUsPerOperation / medianOf(row.setsAlone).serverCpuUsPerOperation;
}

/** Few entries are those of the master that is there already. */
async function measureEntries(means: Means, alone: ServerProcess, counts: readonly number[]): Promise<GrowthRow[]> {
  const { bench } = means;
  means.progress("starting masters with entries");
  const few: Growing = { count: KEY_COUNT, server: alone, keyCount: KEY_COUNT, connections: CONNECTIONS };
  const filled = await Promise.all(
    counts.map(async (count): Promise<Growing> => {
      const server = await bench.startMaster(nameOf(count), { sections });
      return { count, server, keyCount: count, connections: CONNECTIONS };
    }),
  );
  const rows = await measureRows(means, "entries", [few, ...filled]);
  await Promise.all(filled.map(({ server }) => bench.stop(server)));
  return rows;
}

/** Of a master with so many entries, and of the folder of its log. */
function nameOf(entries: number): string {
  return `growth-${entries}`;
}

async function measureConnections(
  means: Means,
  server: ServerProcess,
  counts: readonly number[],
): Promise<GrowthRow[]> {
  const cases = counts.map((count) => ({ count, server, keyCount: KEY_COUNT, connections: count }));
  return measureRows(means, "connections", cases);
}

/** A master with replicas is measured in turn with one that never has any. */
async function measureReplicas(means: Means, alone: ServerProcess, counts: readonly number[]): Promise<ReplicaRow[]> {
  if (counts.length === 0) return [];
  const { bench, load } = means;
  const master = await bench.startMaster("growth-master", { sections });
  await fill(load, master, "connect");
  const rows: ReplicaRow[] = [];
  let started = 0;
  for (const count of counts) {
    means.progress(`starting replicas, ${count} in all`);
    for (; started < count; started++) {
      await bench.startReplica(`growth-replica-${started}`, {
        sections: { ...sections, master: { address: master.address } },
      });
    }
    await untilCluster(master, hasAll(count));
    const what = { count, keyCount: KEY_COUNT, connections: CONNECTIONS };
    const cases = [
      { ...what, server: alone },
      { ...what, server: master },
    ];
    const [beside, row] = await measureRows(means, `${count} replicas`, cases);
    rows.push({ ...row!, setsAlone: beside!.sets });
  }
  return rows;
}

async function measureRows(means: Means, what: string, cases: readonly Growing[]): Promise<GrowthRow[]> {
  const { load, times, progress } = means;
  const residentBytes = new Map(cases.map((each) => [each, each.server.residentBytes()]));
  const samples = await interleave(
    cases,
    async ({ server, keyCount, connections }, isSettling) => {
      const measure = (operation: Operation): Promise<Sample> => {
        const job = jobOf({ protocol: "connect", operation, connections, streams: 1 }, server.address);
        return measureLoad(load, server, { ...job, keyCount, ...timesOf(times, isSettling) });
      };
      return { get: await measure("get"), set: await measure("set") };
    },
    (text) => progress(`${what}: ${text}`),
  );
  return [...samples].map(([each, found]) => ({
    count: each.count,
    gets: found.map(({ get }) => get),
    sets: found.map(({ set }) => set),
    residentBytes: residentBytes.get(each)!,
  }));
}

/** `more` is one more column: its name, and what it says of a row. */
function tableOf<Row extends GrowthRow>(
  what: string,
  rows: readonly Row[],
  more?: { readonly name: string; readonly of: (row: Row) => string },
): Table {
  const head = [what, "get CPU µs", "gets/s", "get p99 µs", "set CPU µs", "sets/s", "set p99 µs"];
  return {
    head: [...head, ...(more ? [more.name] : [])],
    wordColumns: 0,
    rows: rows.map((row) => {
      const cells = [row.gets, row.sets]
        .map(medianOf)
        .flatMap((sample) => [
          fixed(sample.serverCpuUsPerOperation, 1),
          grouped(sample.operationsPerSecond),
          grouped(sample.p99Us),
        ]);
      return [grouped(row.count), ...cells, ...(more ? [more.of(row)] : [])];
    }),
  };
}
