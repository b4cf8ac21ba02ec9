/** How fast a master answers, next to servers that do nothing, and to other stores; nothing is synced. */
import type { BaselineKind } from "./baseline-kinds.js";
import type { Block } from "./blocks.js";
import {
  casesOf,
  type Clients,
  cpuRatio,
  fill,
  type LoadCase,
  type LoadRow,
  loadTable,
  loadTableNote,
  measureLoads,
  rateRatio,
  type Times,
} from "./measurement.js";
import { defineSection } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import type { Workbench } from "./workbench.js";

type ServerName = "cambium" | BaselineKind | "etcd" | "redis";

interface RpcCase extends LoadCase {
  readonly server: ServerName;
}

interface RpcSizes extends Times {
  /** Those that are measured; without it all of them. */
  readonly contestants?: readonly string[];
  /** Callers, each with a connection of its own. */
  readonly callers: readonly number[];
  /** Callers that share one connection, where the protocol lets them. */
  readonly sharing: readonly number[];
}

interface RpcResult {
  /** Whether every contestant was measured. */
  readonly isWhole: boolean;
  readonly measureMs: number;
  readonly rows: readonly LoadRow[];
  /** Other stores that are not installed. */
  readonly missing: readonly string[];
}

const HTTP = "node:http, fixed bytes";
const HTTP2 = "node:http2, fixed bytes and trailers";
const CONNECT_GET = "cambium get, Connect";
const GRPC_GET = "cambium get, gRPC";
const STOCK = "connect-node get, Connect";
const ETCD_GET = "etcd get, gRPC";

type Contestant = Omit<RpcCase, keyof Clients>;

const http1: readonly Contestant[] = [
  { contestant: HTTP, server: "http", protocol: "connect", operation: "get" },
  { contestant: STOCK, server: "connect-http", protocol: "connect", operation: "get", baseline: HTTP },
  { contestant: CONNECT_GET, server: "cambium", protocol: "connect", operation: "get", baseline: HTTP },
  {
    contestant: "cambium get, Connect JSON",
    server: "cambium",
    protocol: "connect-json",
    operation: "get",
    baseline: HTTP,
  },
  { contestant: "cambium set, Connect", server: "cambium", protocol: "connect", operation: "set", baseline: HTTP },
  {
    contestant: "cambium set, Connect JSON",
    server: "cambium",
    protocol: "connect-json",
    operation: "set",
    baseline: HTTP,
  },
  { contestant: "redis get", server: "redis", protocol: "redis", operation: "get", baseline: HTTP },
];

const http2: readonly Contestant[] = [
  { contestant: HTTP2, server: "http2", protocol: "grpc", operation: "get" },
  {
    contestant: "connect-node get, gRPC",
    server: "connect-http2",
    protocol: "grpc",
    operation: "get",
    baseline: HTTP2,
  },
  { contestant: GRPC_GET, server: "cambium", protocol: "grpc", operation: "get", baseline: HTTP2 },
  {
    contestant: "cambium get, Connect over HTTP/2",
    server: "cambium",
    protocol: "connect-http2",
    operation: "get",
    baseline: HTTP2,
  },
  { contestant: "cambium set, gRPC", server: "cambium", protocol: "grpc", operation: "set", baseline: HTTP2 },
  { contestant: ETCD_GET, server: "etcd", protocol: "etcd", operation: "get", baseline: HTTP2 },
];

const apart: Clients = { connections: 64, streams: 1 };
const together: Clients = { connections: 1, streams: 64 };

export const rpc = defineSection<RpcSizes, RpcResult>({
  name: "rpc",
  description: "get and set without sync over every protocol, next to bare servers, the stock library, etcd and redis",
  sizes: {
    quick: {
      contestants: [HTTP, STOCK, CONNECT_GET, HTTP2, GRPC_GET, ETCD_GET],
      callers: [64],
      sharing: [],
      warmupMs: 10,
      measureMs: 90,
      settleCalls: 800,
    },
    full: { callers: [1, 16, 64, 256], sharing: [64], warmupMs: 300, measureMs: 1500, settleCalls: 3000 },
  },

  async measure(bench, { contestants, callers, sharing, ...times }, progress) {
    const load = bench.load();
    const one = callers.map((connections) => ({ connections, streams: 1 }));
    const many = sharing.map((streams) => ({ connections: 1, streams }));
    const all: readonly RpcCase[] = [...casesOf(http1, one), ...casesOf(http2, [...one, ...many])];
    const cases = all.filter(({ contestant }) => contestants?.includes(contestant) ?? true);
    const needed = new Set(cases.map(({ server }) => server));
    const servers = await startServers(bench, needed);
    for (const [name, server] of servers) {
      if (name === "cambium") await fill(load, server, "connect");
      if (name === "redis" || name === "etcd") await fill(load, server, name);
    }
    const present = cases.filter(({ server }) => servers.has(server));
    const rows = await measureLoads(load, present, ({ server }) => servers.get(server)!, times, progress);
    const missing = (["etcd", "redis"] as const).filter((name) => needed.has(name) && !servers.has(name));
    return { measureMs: times.measureMs, isWhole: contestants === undefined, rows, missing };
  },

  render({ rows, missing, measureMs, isWhole }): Block[] {
    return [
      `rpc: 100-byte values, 16-byte keys, durability os; medians of three interleaved rounds of ${measureMs / 1000} s`,
      loadTable(rows),
      loadTableNote,
      ...(isWhole ? [] : ["A quick run leaves out sets, JSON, and Connect over HTTP/2."]),
      ...missing.map((name) => `${name} is not installed, so nothing is compared with it.`),
    ];
  },

  goals: [
    {
      figure: "Connect get / node:http, 64 callers",
      unit: "×",
      atLeast: 1,
      aim: 1.1,
      measured: ({ rows }) => rateRatio(rows, CONNECT_GET, HTTP, apart),
    },
    {
      figure: "the same, by the server's CPU time",
      unit: "×",
      atLeast: 1,
      aim: 1.1,
      measured: ({ rows }) => cpuRatio(rows, CONNECT_GET, HTTP, apart),
    },
    {
      figure: "Connect get / connect-node, 64 callers",
      unit: "×",
      atLeast: 6,
      measured: ({ rows }) => rateRatio(rows, CONNECT_GET, STOCK, apart),
    },
    {
      figure: "gRPC get / node:http2, 64 connections",
      unit: "×",
      atLeast: 0.85,
      aim: 1,
      measured: ({ rows }) => rateRatio(rows, GRPC_GET, HTTP2, apart),
    },
    {
      figure: "gRPC get / node:http2, 64 on one connection",
      unit: "×",
      atLeast: 0.85,
      aim: 1,
      measured: ({ rows }) => rateRatio(rows, GRPC_GET, HTTP2, together),
    },
    {
      figure: "gRPC get / etcd get, 64 connections",
      unit: "×",
      atLeast: 2,
      measured: ({ rows }) => rateRatio(rows, GRPC_GET, ETCD_GET, apart),
    },
    {
      figure: "gRPC get / etcd get, 64 on one connection",
      unit: "×",
      atLeast: 2,
      measured: ({ rows }) => rateRatio(rows, GRPC_GET, ETCD_GET, together),
    },
  ],
});

async function startServers(bench: Workbench, names: ReadonlySet<ServerName>): Promise<Map<ServerName, ServerProcess>> {
  const start = (name: ServerName): Promise<ServerProcess | undefined> => {
    if (name === "cambium") return bench.startMaster("rpc", { sections: { wal: { durability: "os" } } });
    if (name === "etcd" || name === "redis") return bench.startPeer(name, `rpc-${name}`);
    return bench.startBaseline(name);
  };
  const started = await Promise.all(Array.from(names, async (name) => [name, await start(name)] as const));
  return new Map(started.flatMap(([name, server]) => (server ? [[name, server] as const] : [])));
}
