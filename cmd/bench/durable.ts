/** How fast writes are that are on the disk before they are answered, next to the same without a sync, and to other stores. */
import { fixed, grouped } from "./format.js";
import type { SyncResult } from "./job.js";
import {
  casesOf,
  type Clients,
  fill,
  findRow,
  type LoadCase,
  type LoadRow,
  loadTable,
  loadTableNote,
  measureLoads,
  rateRatio,
  type Times,
} from "./measurement.js";
import { defineSection } from "./section.js";
import { median } from "./statistics.js";

type ServerName = "always" | "os" | "etcd" | "redis";

interface DurableCase extends LoadCase {
  readonly server: ServerName;
}

interface DurableSizes extends Times {
  readonly callers: readonly number[];
}

interface DurableResult {
  readonly measureMs: number;
  readonly rows: readonly LoadRow[];
  /** A small write's fdatasync, with nothing around it, on the same disk, before and after the loads. */
  readonly syncs: readonly SyncResult[];
  readonly missing: readonly string[];
}

const CONNECT = "cambium set, Connect";
const GRPC = "cambium set, gRPC";
const CONNECT_OS = "the same without sync";
const GRPC_OS = "gRPC without sync";
const ETCD = "etcd put, gRPC";
const REDIS = "redis set, appendfsync always";

const contestants: readonly Omit<DurableCase, keyof Clients>[] = [
  { contestant: CONNECT_OS, server: "os", protocol: "connect", operation: "set" },
  { contestant: CONNECT, server: "always", protocol: "connect", operation: "set", baseline: CONNECT_OS },
  { contestant: GRPC_OS, server: "os", protocol: "grpc", operation: "set" },
  { contestant: GRPC, server: "always", protocol: "grpc", operation: "set", baseline: GRPC_OS },
  { contestant: ETCD, server: "etcd", protocol: "etcd", operation: "set" },
  { contestant: REDIS, server: "redis", protocol: "redis", operation: "set" },
];

const apart: Clients = { connections: 64, streams: 1 };
const alone: Clients = { connections: 1, streams: 1 };
const SYNCS = { bytes: 200, count: 200 };

export const durable = defineSection<DurableSizes, DurableResult>({
  name: "durable",
  description:
    "sets that are synced before they are answered, next to the same without sync, a bare fdatasync, etcd and redis",
  sizes: {
    quick: { callers: [1, 64], warmupMs: 20, measureMs: 110 },
    full: { callers: [1, 16, 64, 256], warmupMs: 300, measureMs: 1500 },
  },

  async measure(bench, { callers, ...times }, progress) {
    const load = bench.load();
    const [always, os, etcd, redis] = await Promise.all([
      bench.startMaster("durable"),
      bench.startMaster("durable-os", { sections: { wal: { durability: "os" } } }),
      bench.startPeer("etcd", "durable-etcd"),
      bench.startPeer("redis", "durable-redis", ["--appendonly", "yes", "--appendfsync", "always"]),
    ]);
    const servers = { always, os, etcd, redis };
    const clients = callers.map((connections) => ({ connections, streams: 1 }));
    const cases: readonly DurableCase[] = casesOf(contestants, clients);
    const present = cases.filter(({ server }) => servers[server] !== undefined);
    await Promise.all([fill(load, always, "connect"), fill(bench.load(), os, "connect")]);
    const syncs: SyncResult[] = [];
    const sync = async (): Promise<void> => {
      syncs.push(await load.sync({ kind: "sync", directory: bench.directory, ...SYNCS }));
    };
    const rows = await measureLoads(load, present, ({ server }) => servers[server]!, times, progress, sync);
    const missing = (["etcd", "redis"] as const).filter((name) => servers[name] === undefined);
    return { measureMs: times.measureMs, rows, syncs, missing };
  },

  render(result) {
    const { rows, missing, measureMs } = result;
    return [
      `durable: sets of 100-byte values, each synced before it is answered; medians of three interleaved rounds of ${measureMs / 1000} s`,
      loadTable(rows),
      `A bare fdatasync in the same rounds: p50 ${grouped(syncP50Us(result))} µs, p99 ${grouped(syncP99Us(result))} µs; a durable set of one client: p50 ${grouped(setP50Us(result, CONNECT))} µs over Connect, ${grouped(setP50Us(result, GRPC))} µs over gRPC.`,
      loadTableNote,
      ...missing.map((name) => `${name} is not installed, so nothing is compared with it.`),
    ];
  },

  goals: [
    {
      figure: "durable set / the same without sync, Connect, 64 callers",
      unit: "×",
      atLeast: 0.6,
      measured: ({ rows }) => rateRatio(rows, CONNECT, CONNECT_OS, apart),
    },
    {
      figure: "durable set over Connect / etcd put, 64 callers",
      unit: "×",
      atLeast: 2,
      measured: ({ rows }) => rateRatio(rows, CONNECT, ETCD, apart),
    },
    {
      figure: "durable set over gRPC / etcd put, 64 callers",
      unit: "×",
      atLeast: 2.5,
      measured: ({ rows }) => rateRatio(rows, GRPC, ETCD, apart),
    },
    {
      figure: "durable set of one client / bare fdatasync, p50",
      unit: "×",
      atLeast: 1,
      measured: (result) => fastestSetP50Us(result) / syncP50Us(result),
    },
  ],

  wrong: answersTooEarly,
});

/** An answer that comes sooner than the disk can sync was given before the write was durable. */
export function answersTooEarly(result: Pick<DurableResult, "rows" | "syncs">): string[] {
  const [setUs, syncUs] = [fastestSetP50Us(result), syncP50Us(result)];
  if (!(setUs < syncUs)) return [];
  return [
    `a durable set has a p50 of ${fixed(setUs, 0)} µs and a bare fdatasync one of ${fixed(syncUs, 0)} µs: it was answered before it was durable`,
  ];
}

function setP50Us({ rows }: Pick<DurableResult, "rows">, contestant: string): number {
  return findRow(rows, contestant, alone)?.median.p50Us ?? NaN;
}

function fastestSetP50Us(result: Pick<DurableResult, "rows">): number {
  return Math.min(setP50Us(result, CONNECT), setP50Us(result, GRPC));
}

function syncP50Us({ syncs }: Pick<DurableResult, "syncs">): number {
  return median(syncs.map(({ p50Us }) => p50Us));
}

function syncP99Us({ syncs }: Pick<DurableResult, "syncs">): number {
  return median(syncs.map(({ p99Us }) => p99Us));
}
