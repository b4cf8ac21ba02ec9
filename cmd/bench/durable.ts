/** How fast writes are that are on the disk before they are answered, next to the same without a sync, and to other stores. */
import { fixed, grouped } from "./format.js";
import type { PairResult } from "./job.js";
import {
  casesOf,
  type Clients,
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
  /** Those that are measured; without it all of them. */
  readonly contestants?: readonly string[];
  readonly callers: readonly number[];
  /** Sets of one client that a bare fdatasync follows, in each round. */
  readonly pairs: number;
}

interface DurableResult {
  /** Whether every contestant was measured. */
  readonly isWhole: boolean;
  readonly measureMs: number;
  readonly rows: readonly LoadRow[];
  /** Sets of one client, each followed by a bare fdatasync on the same disk, in every round. */
  readonly pairs: Readonly<Record<PairProtocol, readonly PairResult[]>>;
  readonly missing: readonly string[];
}

const CONNECT = "cambium set, Connect";
const GRPC = "cambium set, gRPC";
const CONNECT_OS = "the same without sync";
const GRPC_OS = "gRPC without sync";
const ETCD = "etcd put, gRPC";
const REDIS = "redis set, appendfsync always";

const every: readonly Omit<DurableCase, keyof Clients>[] = [
  { contestant: CONNECT_OS, server: "os", protocol: "connect", operation: "set" },
  { contestant: CONNECT, server: "always", protocol: "connect", operation: "set", baseline: CONNECT_OS },
  { contestant: GRPC_OS, server: "os", protocol: "grpc", operation: "set" },
  { contestant: GRPC, server: "always", protocol: "grpc", operation: "set", baseline: GRPC_OS },
  { contestant: ETCD, server: "etcd", protocol: "etcd", operation: "set" },
  { contestant: REDIS, server: "redis", protocol: "redis", operation: "set" },
];

const apart: Clients = { connections: 64, streams: 1 };
const PAIR_BYTES = 200;
const pairProtocols = ["connect", "grpc"] as const;
type PairProtocol = (typeof pairProtocols)[number];

export const durable = defineSection<DurableSizes, DurableResult>({
  name: "durable",
  description:
    "sets that are synced before they are answered, next to the same without sync, a bare fdatasync, etcd and redis",
  sizes: {
    quick: {
      contestants: [CONNECT_OS, CONNECT, GRPC, ETCD],
      callers: [64],
      pairs: 60,
      warmupMs: 10,
      measureMs: 90,
      settleCalls: 800,
    },
    full: { callers: [1, 16, 64, 256], pairs: 200, warmupMs: 300, measureMs: 1500, settleCalls: 3000 },
  },

  async measure(bench, { contestants, callers, pairs: count, ...times }, progress) {
    const load = bench.load();
    const all: readonly DurableCase[] = casesOf(
      every,
      callers.map((connections) => ({ connections, streams: 1 })),
    );
    const cases = all.filter(({ contestant }) => contestants?.includes(contestant) ?? true);
    const needed = new Set(cases.map(({ server }) => server));
    const [always, os, etcd, redis] = await Promise.all([
      bench.startMaster("durable"),
      bench.startMaster("durable-os", { sections: { wal: { durability: "os" } } }),
      bench.startPeer("etcd", "durable-etcd"),
      needed.has("redis")
        ? bench.startPeer("redis", "durable-redis", ["--appendonly", "yes", "--appendfsync", "always"])
        : undefined,
    ]);
    const servers = { always, os, etcd, redis };
    const present = cases.filter(({ server }) => servers[server] !== undefined);
    const pairs: Record<PairProtocol, PairResult[]> = { connect: [], grpc: [] };
    const pair = async (): Promise<void> => {
      for (const protocol of pairProtocols) {
        const target = { protocol, address: always.address, directory: bench.directory };
        pairs[protocol].push(await load.pair({ kind: "pair", ...target, bytes: PAIR_BYTES, count }));
      }
    };
    const rows = await measureLoads(load, present, ({ server }) => servers[server]!, times, progress, pair);
    const missing = (["etcd", "redis"] as const).filter((name) => needed.has(name) && servers[name] === undefined);
    return { measureMs: times.measureMs, isWhole: contestants === undefined, rows, pairs, missing };
  },

  render(result) {
    const { rows, missing, measureMs, isWhole } = result;
    return [
      `durable: sets of 100-byte values, each synced before it is answered; medians of three interleaved rounds of ${measureMs / 1000} s`,
      loadTable(rows),
      ...pairProtocols.map((protocol) => {
        const { setP50Us, setP99Us, syncP50Us, syncP99Us } = pairOf(result, protocol);
        return `One client over ${protocol === "connect" ? "Connect" : "gRPC"}, a set and a bare fdatasync in turn: the set p50 ${grouped(setP50Us)} µs, p99 ${grouped(setP99Us)} µs; the fdatasync p50 ${grouped(syncP50Us)} µs, p99 ${grouped(syncP99Us)} µs.`;
      }),
      loadTableNote,
      ...(isWhole ? [] : ["A quick run leaves out gRPC without sync, and redis."]),
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
      measured: (result) => Math.min(...pairProtocols.map((protocol) => setsBesideSync(result, protocol))),
    },
  ],

  wrong: answersTooEarly,
});

/** An answer that comes sooner than the disk can sync was given before the write was durable. */
export function answersTooEarly(result: Pick<DurableResult, "pairs">): string[] {
  return pairProtocols.flatMap((protocol) => {
    if (!(setsBesideSync(result, protocol) < 1)) return [];
    const { setP50Us, syncP50Us } = pairOf(result, protocol);
    return [
      `a durable set (${protocol}) has a p50 of ${fixed(setP50Us, 0)} µs and a bare fdatasync one of ${fixed(syncP50Us, 0)} µs: it was answered before it was durable`,
    ];
  });
}

/** How many times as long a set takes as a bare fdatasync, in the middle of the rounds, each of which compares its own. */
function setsBesideSync({ pairs }: Pick<DurableResult, "pairs">, protocol: PairProtocol): number {
  return median(pairs[protocol].map(({ setP50Us, syncP50Us }) => setP50Us / syncP50Us));
}

function pairOf({ pairs }: Pick<DurableResult, "pairs">, protocol: PairProtocol): PairResult {
  const of = (pick: (pair: PairResult) => number): number => median(pairs[protocol].map(pick));
  return {
    setP50Us: of(({ setP50Us }) => setP50Us),
    setP99Us: of(({ setP99Us }) => setP99Us),
    syncP50Us: of(({ syncP50Us }) => syncP50Us),
    syncP99Us: of(({ syncP99Us }) => syncP99Us),
  };
}
