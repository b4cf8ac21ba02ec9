/**
 * What replication costs and how fast it is: catching up, the round trip of an acknowledgement, what a master spends on its
 * replicas, and how far they lag behind. Every node is a process of its own; what is compared is measured in turn.
 */
import { interleave, ROUNDS } from "./interleave.js";
import type { LoadJob } from "./job.js";
import type { LoadProcess } from "./load-process.js";
import { jobOf, measureLoad, medianOf, type Sample, type Times, timesOf } from "./measurement.js";
import { askRedis } from "./peers.js";
import type { Protocol } from "./protocols.js";
import { fillDirectory } from "./recovery.js";
import { callJson } from "./json-call.js";
import { type BenchCluster, type ClusterState, startCluster, untilCluster } from "./replication-cluster.js";
import { costBesideNone, majorityBesideMaster, replicationBlocks } from "./replication-report.js";
import { defineSection, type Progress } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import { median, percentile } from "./statistics.js";
import { until, type Workbench } from "./workbench.js";

interface ReplicationSizes extends Times {
  /** Records that a replica catches up with. */
  readonly records: number;
  readonly replicaCounts: readonly number[];
  /** Whether writes that a majority must keep are measured too. */
  readonly withMajority: boolean;
  /** Of the round trips of an acknowledgement. */
  readonly durabilities: readonly RoundTripRow["durability"][];
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
  /** The same load with two replicas, and a majority of the three must keep each write; absent: a quick run leaves it out. */
  readonly majority?: CostRow;
}

const CONNECTIONS = 64;
const LAG_SHARE = 0.8;

export const replication = defineSection<ReplicationSizes, ReplicationReport>({
  name: "replication",
  description:
    "catching up, the round trip of an acknowledgement next to redis, what replicas cost a master, and their lag",
  sizes: {
    quick: {
      records: 30_000,
      replicaCounts: [0, 2],
      withMajority: false,
      durabilities: [],
      warmupMs: 25,
      measureMs: 100,
      settleCalls: 500,
    },
    full: {
      records: 2_000_000,
      replicaCounts: [0, 1, 2, 5],
      withMajority: true,
      durabilities: ["os", "always"],
      warmupMs: 500,
      measureMs: 2000,
      settleCalls: 3000,
    },
  },

  async measure(bench, sizes, progress) {
    const load = bench.load();
    const catchUp = await measureCatchUp(bench, sizes, progress);
    const roundTrips: RoundTripRow[] = [];
    for (const durability of sizes.durabilities) {
      progress(`the round trip of an acknowledgement (${durability})`);
      roundTrips.push(await measureRoundTrip(bench, load, durability, sizes));
    }
    const { followed, ...costs } = await measureCosts(bench, load, sizes, progress);
    progress("how far a replica lags behind");
    return { catchUp, roundTrips, ...costs, lag: await measureLag(load, followed, sizes) };
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
  progress(`filling a log with ${records} records`);
  await fillDirectory(bench, name, records);
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
    const matchSeqOf = ({ followers }: ClusterState): number =>
      followers.find(({ isStreaming }) => isStreaming)?.matchSeq ?? 0;
    const first = await untilCluster(master, (state) => matchSeqOf(state) > 0);
    const before = matchSeqOf(first.state);
    const kept = await untilCluster(master, (state) => matchSeqOf(state) >= lastSeq);
    // The replica knows it at once, and the master with its next acknowledgement, which may come a second later.
    const applied = await untilCluster(replica, ({ appliedSeq }) => appliedSeq >= lastSeq);
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
  times: Times,
): Promise<RoundTripRow> {
  const [cluster, pair] = await Promise.all([
    startCluster(bench, `round-trip-${durability}`, { replicas: 1, commit: "majority", durability }),
    startRedisPair(bench, durability),
  ]);
  const servers = pair ? ([cluster.master, pair[0]] as const) : ([cluster.master] as const);
  const samples = await interleave(
    servers,
    async (server, isSettling) => {
      const protocol = server === cluster.master ? "connect" : "redis-wait";
      const job = setJob(server, 1, timesOf(times, isSettling), { protocol });
      return (await load.load(job)).p50Us;
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
  times: Pick<LoadJob, "warmupMs" | "measureMs" | "operationsMin">,
  { protocol = "connect", thinkMs }: { readonly protocol?: Protocol; readonly thinkMs?: number } = {},
): LoadJob {
  const job = jobOf({ protocol, operation: "set", connections, streams: 1 }, address);
  return { ...job, ...times, ...(thinkMs !== undefined && { thinkMs }) };
}

// ---- what replicas cost ------------------------------------------------------------------------------------------------

interface CostCluster {
  readonly replicas: number;
  readonly cluster: BenchCluster;
}

/** Clusters that differ in one thing each, under the same load in turn. */
async function measureCosts(
  bench: Workbench,
  load: LoadProcess,
  sizes: ReplicationSizes,
  progress: Progress,
): Promise<Pick<ReplicationReport, "costs" | "majority"> & { readonly followed: BenchCluster }> {
  progress("starting clusters");
  const start = async (replicas: number, commit: "master" | "majority"): Promise<CostCluster> => ({
    replicas,
    cluster: await startCluster(bench, `${commit}-${replicas}`, { replicas, commit }),
  });
  const [voting, ...clusters] = await Promise.all([
    sizes.withMajority ? start(2, "majority") : undefined,
    ...sizes.replicaCounts.map((replicas) => start(replicas, "master")),
  ]);
  const all = voting ? [...clusters, voting] : clusters;
  const samples = await interleave(
    all,
    ({ cluster: { master } }, isSettling) =>
      measureLoad(load, master, setJob(master, CONNECTIONS, timesOf(sizes, isSettling))),
    (text) => progress(`writes: ${text}`),
  );
  const rowOf = (each: CostCluster): CostRow => {
    const found = samples.get(each)!;
    return { replicas: each.replicas, sample: medianOf(found), samples: found };
  };
  const followed = clusters.find(({ replicas }) => replicas === 1 || replicas === 2);
  if (!followed) throw new Error("a lag is measured with one or two replicas");
  return { costs: clusters.map(rowOf), ...(voting && { majority: rowOf(voting) }), followed: followed.cluster };
}

// ---- lag ---------------------------------------------------------------------------------------------------------------

/**
 * While a load that could be a fifth larger goes on, writes a key, and asks a replica for it, which waits until it has it. A call's
 * own time is part of what is found, so that the lag is no more.
 */
async function measureLag(load: LoadProcess, { master, replicas }: BenchCluster, times: Times): Promise<LagReport> {
  const [replica] = replicas;
  if (!replica) throw new Error("a lag needs a replica");
  const most = await load.load(setJob(master, CONNECTIONS, timesOf(times, false)));
  const mostPerSecond = (most.operations / most.elapsedMs) * 1000;
  // Callers that pause this long ask for so many operations a second, if answers come as they did.
  const thinkMs = (CONNECTIONS * 1000) / (mostPerSecond * LAG_SHARE) - most.p50Us / 1000;
  let isOver = false;
  const loading = load
    .load(setJob(master, CONNECTIONS, timesOf(times, false), { thinkMs: Math.max(0, thinkMs) }))
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
