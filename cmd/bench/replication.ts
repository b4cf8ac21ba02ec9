/**
 * What replication costs and how fast it is: catching up, the round trip of an acknowledgement, what a master spends on its
 * replicas, and how far they lag behind. Every node is a process of its own; what is compared is measured in turn.
 */
import path from "node:path";
import { interleave, ROUNDS } from "./interleave.js";
import type { LoadJob } from "./job.js";
import type { LoadProcess } from "./load-process.js";
import { fill, jobOf, measureLoad, medianOf, type Sample, SETTLE } from "./measurement.js";
import { askRedis } from "./peers.js";
import type { Protocol } from "./protocols.js";
import { runRecovery } from "./recovery.js";
import { callJson } from "./json-call.js";
import { type BenchCluster, type ClusterState, startCluster, untilCluster } from "./replication-cluster.js";
import { costBesideNone, majorityBesideMaster, replicationBlocks } from "./replication-report.js";
import { defineSection, type Progress } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import { median, percentile } from "./statistics.js";
import { until, type Workbench } from "./workbench.js";

interface ReplicationSizes {
  /** Records that a replica catches up with. */
  readonly records: number;
  readonly measureMs: number;
  readonly replicaCounts: readonly number[];
  /** Whether the round trips are also measured with every copy synced. */
  readonly withSyncs: boolean;
}

/** Medians. */
export interface CatchUpRow extends CatchUp {
  readonly records: number;
  readonly bytes: number;
  readonly samples: readonly CatchUp[];
}

interface CatchUp {
  /** Until the replica had kept, and had applied all of it; from the first acknowledgement on. */
  readonly keptPerSecond: number;
  readonly appliedPerSecond: number;
  /** CPU time a record. */
  readonly masterCpuUs: number;
  readonly replicaCpuUs: number;
}

/** One write after another, each acknowledged by one replica. */
export interface RoundTripRow {
  /** `os`: nobody syncs; `always`: every copy is synced. */
  readonly durability: "os" | "always";
  readonly cambiumP50Us: number;
  readonly cambiumSamplesUs: readonly number[];
  /** SET and WAIT 1, sent together; NaN where Redis is not installed. */
  readonly redisP50Us: number;
  readonly redisSamplesUs: readonly number[];
}

export interface CostRow {
  readonly replicas: number;
  /** The median. */
  readonly sample: Sample;
  readonly samples: readonly Sample[];
}

export interface LagReport {
  /** Writes a second, and what share of the most that is possible that is. */
  readonly operationsPerSecond: number;
  readonly share: number;
  /** From the answer to a write until a replica has given it to a reader; a call's own time is part of it. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly samples: number;
}

export interface ReplicationReport {
  readonly catchUp: CatchUpRow;
  readonly roundTrips: readonly RoundTripRow[];
  /** The master's copy commits. */
  readonly costs: readonly CostRow[];
  readonly lag: LagReport;
  /** The same load with two replicas, and a majority of the three must keep each write. */
  readonly majority: CostRow;
}

const CONNECTIONS = 64;
const LAG_SHARE = 0.8;

export const replication = defineSection<ReplicationSizes, ReplicationReport>({
  name: "replication",
  description:
    "catching up, the round trip of an acknowledgement next to redis, what replicas cost a master, and their lag",
  sizes: {
    quick: { records: 200_000, measureMs: 100, replicaCounts: [0, 2], withSyncs: false },
    full: { records: 2_000_000, measureMs: 2000, replicaCounts: [0, 1, 2, 5], withSyncs: true },
  },

  async measure(bench, sizes, progress) {
    const load = bench.load();
    const catchUp = await measureCatchUp(bench, sizes, progress);
    const roundTrips: RoundTripRow[] = [];
    for (const durability of sizes.withSyncs ? (["os", "always"] as const) : (["os"] as const)) {
      progress(`the round trip of an acknowledgement (${durability})`);
      roundTrips.push(await measureRoundTrip(bench, load, durability, sizes));
    }
    const { costs, majority, followed } = await measureCosts(bench, load, sizes, progress);
    progress("how far a replica lags behind");
    return { catchUp, roundTrips, costs, majority, lag: await measureLag(load, followed, sizes.measureMs) };
  },

  render: replicationBlocks,

  goals: [
    {
      figure: "records of log that a replica takes by the stream",
      unit: "per s",
      atLeast: 1_500_000,
      measured: ({ catchUp }) => catchUp.keptPerSecond,
    },
    {
      figure: "a write that one replica acknowledges / redis SET + WAIT, p50",
      unit: "×",
      atMost: 1.5,
      measured: ({ roundTrips }) => {
        const trip = roundTrips.find(({ durability }) => durability === "os");
        return trip ? trip.cambiumP50Us / trip.redisP50Us : NaN;
      },
    },
    { figure: "the master's CPU time a write, two replicas / none", unit: "×", atMost: 1.3, measured: costBesideNone },
    {
      figure: "lag of a replica at four fifths of the load, p99",
      unit: "ms",
      atMost: 50,
      measured: ({ lag }) => lag.p99Ms,
    },
    {
      figure: "commit majority / commit master, 64 callers",
      unit: "×",
      atLeast: 0.5,
      measured: majorityBesideMaster,
    },
  ],
});

// ---- catching up -------------------------------------------------------------------------------------------------------

async function measureCatchUp(
  bench: Workbench,
  { records }: ReplicationSizes,
  progress: Progress,
): Promise<CatchUpRow> {
  const name = "catch-up";
  const directory = path.join(bench.directory, name);
  progress(`filling a log with ${records} records`);
  await runRecovery(bench, { kind: "fill", directory, entries: records });
  const master = await bench.startMaster(name);
  const bytes = Number(
    ((await callJson(master, "Cluster/Status", {})) as { node: { walBytes: string } }).node.walBytes,
  );
  const rows: CatchUp[] = [];
  for (let round = 1; round <= ROUNDS; round++) {
    progress(`catching up with ${records} records, ${round} of ${ROUNDS}`);
    const { lastSeq } = (await untilCluster(master, () => true)).state;
    const masterCpuUs = master.cpuUs() ?? NaN;
    const sections = { master: { address: master.address } };
    const replica = await bench.startReplica(`${name}-${round}`, { sections });
    const replicaCpuUs = replica.cpuUs() ?? NaN;
    // Those of the rounds before are members still, and gone.
    const seqOf = ({ followers }: ClusterState, which: "matchSeq" | "appliedSeq"): number =>
      followers.find(({ isStreaming }) => isStreaming)?.[which] ?? 0;
    const first = await untilCluster(master, (state) => seqOf(state, "matchSeq") > 0);
    const before = seqOf(first.state, "matchSeq");
    const kept = await untilCluster(master, (state) => seqOf(state, "matchSeq") >= lastSeq);
    const applied = await untilCluster(master, (state) => seqOf(state, "appliedSeq") >= lastSeq);
    // Of records most of which were there when the first of them was seen, no rate is known.
    const perSecond = (atMs: number): number =>
      lastSeq - before > records / 2 ? ((lastSeq - before) / (atMs - first.atMs)) * 1000 : NaN;
    rows.push({
      keptPerSecond: perSecond(kept.atMs),
      appliedPerSecond: perSecond(applied.atMs),
      masterCpuUs: ((master.cpuUs() ?? NaN) - masterCpuUs) / lastSeq,
      replicaCpuUs: ((replica.cpuUs() ?? NaN) - replicaCpuUs) / lastSeq,
    });
    await bench.stop(replica);
    await untilCluster(master, ({ followers }) => followers.every(({ isStreaming }) => !isStreaming));
  }
  await bench.stop(master);
  const of = (pick: (row: CatchUp) => number): number => median(rows.map(pick));
  return {
    records,
    bytes,
    keptPerSecond: of((row) => row.keptPerSecond),
    appliedPerSecond: of((row) => row.appliedPerSecond),
    masterCpuUs: of((row) => row.masterCpuUs),
    replicaCpuUs: of((row) => row.replicaCpuUs),
    samples: rows,
  };
}

// ---- one acknowledgement -----------------------------------------------------------------------------------------------

async function measureRoundTrip(
  bench: Workbench,
  load: LoadProcess,
  durability: "os" | "always",
  { measureMs }: ReplicationSizes,
): Promise<RoundTripRow> {
  const cluster = await startCluster(bench, `round-trip-${durability}`, {
    replicas: 1,
    commit: "majority",
    durability,
  });
  const pair = await startRedisPair(bench, durability);
  const servers = pair ? ([cluster.master, pair[0]] as const) : ([cluster.master] as const);
  const samples = await interleave(
    servers,
    async (server, isSettling) => {
      const protocol = server === cluster.master ? "connect" : "redis-wait";
      const job = setJob(server, 1, measureMs, { protocol });
      return (await load.load({ ...job, ...(isSettling && SETTLE) })).p50Us;
    },
    () => undefined,
  );
  const [cambiumSamplesUs = [], redisSamplesUs = []] = samples.values();
  await Promise.all([...servers, ...cluster.replicas, ...(pair?.slice(1) ?? [])].map((server) => bench.stop(server)));
  return {
    durability,
    cambiumP50Us: median(cambiumSamplesUs),
    redisP50Us: median(redisSamplesUs),
    cambiumSamplesUs,
    redisSamplesUs,
  };
}

/** A redis and one replica of it, which has everything; undefined when it is not installed. */
async function startRedisPair(
  bench: Workbench,
  durability: "os" | "always",
): Promise<readonly [master: ServerProcess, replica: ServerProcess] | undefined> {
  const log = durability === "always" ? ["--appendonly", "yes", "--appendfsync", "always"] : [];
  const name = `redis-${durability}`;
  const master = await bench.startPeer("redis", `${name}-master`, [...log, "--repl-diskless-sync-delay", "0"]);
  if (!master) return undefined;
  const port = master.address.slice(master.address.lastIndexOf(":") + 1);
  const replica = await bench.startPeer("redis", `${name}-replica`, [...log, "--replicaof", `127.0.0.1 ${port}`]);
  if (!replica) return undefined;
  await until("redis' replica follows", async () =>
    (await askRedis(replica.address, "INFO", "replication")).includes("master_link_status:up"),
  );
  return [master, replica];
}

function setJob(
  { address }: ServerProcess,
  connections: number,
  measureMs: number,
  { protocol = "connect", thinkMs }: { readonly protocol?: Protocol; readonly thinkMs?: number } = {},
): LoadJob {
  const job = jobOf({ protocol, operation: "set", connections, streams: 1 }, address);
  return { ...job, warmupMs: measureMs / 4, measureMs, ...(thinkMs !== undefined && { thinkMs }) };
}

// ---- what replicas cost ------------------------------------------------------------------------------------------------

/** Clusters that differ in one thing each, under the same load in turn. */
async function measureCosts(
  bench: Workbench,
  load: LoadProcess,
  { replicaCounts, measureMs }: ReplicationSizes,
  progress: Progress,
): Promise<{ readonly costs: CostRow[]; readonly majority: CostRow; readonly followed: BenchCluster }> {
  progress("starting clusters");
  const clusters: { readonly replicas: number; readonly cluster: BenchCluster }[] = [];
  for (const replicas of replicaCounts) {
    clusters.push({
      replicas,
      cluster: await startCluster(bench, `cost-${replicas}`, { replicas, commit: "master" }),
    });
  }
  const voting = { replicas: 2, cluster: await startCluster(bench, "majority", { replicas: 2, commit: "majority" }) };
  for (const { cluster } of [...clusters, voting]) await fill(load, cluster.master, "connect");
  const samples = await interleave(
    [...clusters, voting],
    ({ cluster: { master } }, isSettling) =>
      measureLoad(load, master, { ...setJob(master, CONNECTIONS, measureMs), ...(isSettling && SETTLE) }),
    (text) => progress(`writes: ${text}`),
  );
  const rows = Array.from(samples, ([{ replicas }, found]) => ({ replicas, sample: medianOf(found), samples: found }));
  const followed = clusters.find(({ replicas }) => replicas === 1 || replicas === 2);
  if (!followed) throw new Error("a lag is measured with one or two replicas");
  return { costs: rows.slice(0, -1), majority: rows.at(-1)!, followed: followed.cluster };
}

// ---- lag ---------------------------------------------------------------------------------------------------------------

/**
 * While a load that could be a fifth larger goes on, writes a key, and asks a replica for it, which waits until it has it. A call's
 * own time is part of what is found, so that the lag is no more.
 */
async function measureLag(
  load: LoadProcess,
  { master, replicas }: BenchCluster,
  measureMs: number,
): Promise<LagReport> {
  const [replica] = replicas;
  if (!replica) throw new Error("a lag needs a replica");
  const most = await load.load(setJob(master, CONNECTIONS, measureMs));
  const mostPerSecond = (most.operations / most.elapsedMs) * 1000;
  // Callers that pause this long ask for so many operations a second, if answers come as they did.
  const thinkMs = (CONNECTIONS * 1000) / (mostPerSecond * LAG_SHARE) - most.p50Us / 1000;
  let isOver = false;
  const loading = load
    .load(setJob(master, CONNECTIONS, measureMs, { thinkMs: Math.max(0, thinkMs) }))
    .finally(() => (isOver = true));
  const lagsMs: number[] = [];
  while (!isOver) {
    const { token } = (await callJson(master, "KVStore/Set", { key: "bench/lag", value: "MQ==" })) as { token: string };
    const startMs = performance.now();
    await callJson(replica, "KVStore/Get", { key: "bench/lag", consistency: { atLeast: token } });
    lagsMs.push(performance.now() - startMs);
  }
  const { operations, elapsedMs } = await loading;
  const operationsPerSecond = (operations / elapsedMs) * 1000;
  lagsMs.sort((a, b) => a - b);
  return {
    operationsPerSecond,
    share: operationsPerSecond / mostPerSecond,
    p50Ms: percentile(lagsMs, 0.5),
    p99Ms: percentile(lagsMs, 0.99),
    samples: lagsMs.length,
  };
}
