/**
 * What replication costs and how fast it is: catching up, the round trip of an acknowledgement, what a master spends on its
 * replicas, and how far they lag behind. Every node is a process of its own; what is compared is measured in turn.
 */
import path from "node:path";
import type { LoadProcess } from "./load-process.js";
import { measure, medianOf, type Sample } from "./measurement.js";
import { RedisServer } from "./redis-server.js";
import { redisCommand } from "./redis-wire.js";
import { ask, type BenchCluster, type ClusterState, startCluster, untilCluster } from "./replication-cluster.js";
import type { ServerProcess } from "./server-process.js";
import { median, percentile } from "./statistics.js";
import type { Workbench } from "./workbench.js";
import { expectedOf, messagesOf, pathOf } from "./workload.js";

export interface ReplicationSizes {
  /** Records that a replica catches up with. */
  readonly records: number;
  readonly measureMs: number;
  readonly rounds: number;
  readonly replicaCounts: readonly number[];
  /** Whether the round trips are also measured with every copy synced. */
  readonly withSyncs: boolean;
}

export interface CatchUpRow {
  readonly records: number;
  readonly bytes: number;
  /** Medians: until the replica had kept, and had applied all of it; from the first acknowledgement on. */
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
  /** SET and WAIT 1, sent together; NaN where Redis is not installed. */
  readonly redisP50Us: number;
}

export interface CostRow {
  readonly replicas: number;
  readonly sample: Sample;
}

export interface LagReport {
  /** Writes a second, and what share of the most that is possible that is. */
  readonly operationsPerSecond: number;
  readonly share: number;
  /** From the answer to a write until the replica gives it to a reader, minus nothing: a call's own time is in it. */
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
  readonly majority: Sample;
}

const CONNECTIONS = 64;
const LAG_SHARE = 0.8;

export async function measureReplication(
  bench: Workbench,
  sizes: ReplicationSizes,
  progress: (text: string) => void,
): Promise<ReplicationReport> {
  const load = bench.load();
  const catchUp = await measureCatchUp(bench, sizes, progress);
  await bench.stopServers();
  const roundTrips: RoundTripRow[] = [];
  for (const durability of sizes.withSyncs ? (["os", "always"] as const) : (["os"] as const)) {
    progress(`measuring the round trip of an acknowledgement (${durability})`);
    roundTrips.push(await measureRoundTrip(bench, load, durability, sizes));
    await bench.stopServers();
  }
  const { costs, majority, followed } = await measureCosts(bench, load, sizes, progress);
  progress("measuring how far a replica lags behind");
  const lag = await measureLag(load, followed, sizes.measureMs);
  await bench.stopServers();
  return { catchUp, roundTrips, costs, lag, majority };
}

// ---- catching up -------------------------------------------------------------------------------------------------------

async function measureCatchUp(
  bench: Workbench,
  { records, rounds }: ReplicationSizes,
  progress: (text: string) => void,
): Promise<CatchUpRow> {
  const name = "catch-up";
  const directory = path.join(bench.directory, name);
  progress(`filling a log with ${records} records`);
  await bench.run({ kind: "fill", directory, entries: records });
  const quiet = { snapshots: { interval: "0s", log_bytes: "1000GB" } };
  const master = await bench.startMaster(name, { sections: { wal: { directory }, ...quiet } });
  const bytes = Number(((await ask(master, "Cluster/Status", {})) as { node: { walBytes: string } }).node.walBytes);
  const rows: Omit<CatchUpRow, "records" | "bytes">[] = [];
  for (let round = 1; round <= rounds; round++) {
    progress(`catching up with ${records} records, ${round} of ${rounds}`);
    const { lastSeq } = (await untilCluster(master, () => true)).state;
    const masterCpuUs = master.cpuUs() ?? NaN;
    const replica = await bench.startReplica(`${name}-${round}`, {
      sections: {
        wal: { directory: path.join(bench.directory, `${name}-${round}`) },
        master: { address: master.address },
        ...quiet,
      },
    });
    const replicaCpuUs = replica.cpuUs() ?? NaN;
    // Those of the rounds before are members still, and gone.
    const seqOf = ({ followers }: ClusterState, which: "matchSeq" | "appliedSeq"): number =>
      followers.find(({ isStreaming }) => isStreaming)?.[which] ?? 0;
    const first = await untilCluster(master, (state) => seqOf(state, "matchSeq") > 0);
    const before = seqOf(first.state, "matchSeq");
    const kept = await untilCluster(master, (state) => seqOf(state, "matchSeq") >= lastSeq);
    const applied = await untilCluster(master, (state) => seqOf(state, "appliedSeq") >= lastSeq);
    const perSecond = (atMs: number): number => ((lastSeq - before) / (atMs - first.atMs)) * 1000;
    rows.push({
      keptPerSecond: perSecond(kept.atMs),
      appliedPerSecond: perSecond(applied.atMs),
      masterCpuUs: ((master.cpuUs() ?? NaN) - masterCpuUs) / lastSeq,
      replicaCpuUs: ((replica.cpuUs() ?? NaN) - replicaCpuUs) / lastSeq,
    });
    await replica.stop();
    await untilCluster(master, ({ followers }) => followers.every(({ isStreaming }) => !isStreaming));
  }
  const of = (pick: (row: (typeof rows)[number]) => number): number => median(rows.map(pick));
  return {
    records,
    bytes,
    keptPerSecond: of((row) => row.keptPerSecond),
    appliedPerSecond: of((row) => row.appliedPerSecond),
    masterCpuUs: of((row) => row.masterCpuUs),
    replicaCpuUs: of((row) => row.replicaCpuUs),
  };
}

// ---- one acknowledgement -----------------------------------------------------------------------------------------------

async function measureRoundTrip(
  bench: Workbench,
  load: LoadProcess,
  durability: "os" | "always",
  { measureMs, rounds }: ReplicationSizes,
): Promise<RoundTripRow> {
  const { master } = await startCluster(bench, `round-trip-${durability}`, {
    replicas: 1,
    commit: "majority",
    durability,
  });
  const redis = await startRedisPair(bench, durability);
  const cambiumP50Us: number[] = [];
  const redisP50Us: number[] = [];
  // The first round is for the code to be compiled.
  for (let round = 0; round <= rounds; round++) {
    const set = await load.load(setJob(master, 1, measureMs));
    const wait = redis && (await load.load(redisJob(redis, measureMs)));
    if (round === 0) continue;
    cambiumP50Us.push(set.p50Us);
    redisP50Us.push(wait?.p50Us ?? NaN);
  }
  return { durability, cambiumP50Us: median(cambiumP50Us), redisP50Us: median(redisP50Us) };
}

/** A Redis and one replica of it, which has everything. */
async function startRedisPair(bench: Workbench, durability: "os" | "always"): Promise<RedisServer | undefined> {
  const log = durability === "always" ? ["--appendonly", "yes", "--appendfsync", "always"] : [];
  const start = async (name: string, options: readonly string[]): Promise<RedisServer | undefined> => {
    const server = await RedisServer.start(path.join(bench.directory, `redis-${durability}-${name}`), options);
    if (server) bench.onLeave(() => server.kill());
    return server;
  };
  const master = await start("master", [...log, "--repl-diskless-sync-delay", "0"]);
  if (!master) return undefined;
  const port = master.address.slice(master.address.lastIndexOf(":") + 1);
  const replica = await start("replica", [...log, "--replicaof", `127.0.0.1 ${port}`]);
  await replica?.until(["INFO", "replication"], (answer) => answer.includes("master_link_status:up"));
  return master;
}

function setJob(
  { address }: ServerProcess,
  connections: number,
  measureMs: number,
  thinkMs?: number,
): Parameters<LoadProcess["load"]>[0] {
  return {
    kind: "load",
    protocol: "connect",
    address,
    path: pathOf.set,
    messages: messagesOf.set,
    expected: expectedOf.set,
    connections,
    streams: 1,
    warmupMs: measureMs / 4,
    measureMs,
    ...(thinkMs !== undefined && { thinkMs }),
  };
}

function redisJob({ address }: RedisServer, measureMs: number): Parameters<LoadProcess["load"]>[0] {
  const value = Buffer.alloc(100, "x");
  const messages = Array.from({ length: 1000 }, (_, key) =>
    Buffer.concat([redisCommand("SET", `bench/key/${key}`, value), redisCommand("WAIT", "1", "0")]).toString("base64"),
  );
  return {
    kind: "load",
    protocol: "redis",
    address,
    path: "",
    messages,
    expected: Buffer.from("+OK\r\n:1\r\n").toString("base64"),
    connections: 1,
    streams: 1,
    warmupMs: measureMs / 4,
    measureMs,
  };
}

// ---- what replicas cost ------------------------------------------------------------------------------------------------

/** Clusters that differ in one thing each, under the same load in turn. */
async function measureCosts(
  bench: Workbench,
  load: LoadProcess,
  { replicaCounts, measureMs, rounds }: ReplicationSizes,
  progress: (text: string) => void,
): Promise<{ readonly costs: CostRow[]; readonly majority: Sample; readonly followed: BenchCluster }> {
  progress("starting clusters");
  const clusters = new Map<number | "majority", BenchCluster>();
  for (const replicas of replicaCounts) {
    clusters.set(replicas, await startCluster(bench, `cost-${replicas}`, { replicas, commit: "master" }));
  }
  clusters.set("majority", await startCluster(bench, "cost-majority", { replicas: 2, commit: "majority" }));
  const samples = new Map([...clusters.keys()].map((key) => [key, [] as Sample[]]));
  for (let round = 0; round <= rounds; round++) {
    for (const [key, { master }] of clusters) {
      progress(`measuring writes with ${key === "majority" ? "a majority" : `${key} replicas`}, round ${round}`);
      const sample = await measure(load, master, setJob(master, CONNECTIONS, measureMs));
      if (round > 0) samples.get(key)?.push(sample);
    }
  }
  const sampleOf = (key: number | "majority"): Sample => medianOf(samples.get(key) ?? []);
  const followed = clusters.get(Math.max(1, ...replicaCounts.filter((count) => count <= 2)));
  if (!followed) throw new Error("a lag is measured with one or two replicas");
  const costs = replicaCounts.map((replicas) => ({ replicas, sample: sampleOf(replicas) }));
  return { costs, majority: sampleOf("majority"), followed };
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
    .load(setJob(master, CONNECTIONS, measureMs, Math.max(0, thinkMs)))
    .finally(() => (isOver = true));
  const lagsMs: number[] = [];
  while (!isOver) {
    const { token } = (await ask(master, "KVStore/Set", { key: "bench/lag", value: "MQ==" })) as { token: string };
    const startMs = performance.now();
    await ask(replica, "KVStore/Get", { key: "bench/lag", consistency: { atLeast: token } });
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
