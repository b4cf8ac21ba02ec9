/** What connections cost that do nothing: their memory, and what they take of the rate of those that do something. */
import { readFileSync } from "node:fs";
import type { Block } from "./blocks.js";
import { fixed, grouped } from "./format.js";
import { ROUNDS } from "./interleave.js";
import type { LoadProcess } from "./load-process.js";
import { fill, jobOf, measureLoad, type Sample, type Times, timesOf } from "./measurement.js";
import { defineSection, type Progress } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";
import type { Workbench } from "./workbench.js";

interface ConnectionSizes extends Times {
  readonly idle: number;
  readonly protocols: readonly IdleProtocol[];
  /** Whether bare servers are measured too. */
  readonly withBare: boolean;
}

interface IdleRow {
  readonly protocol: IdleProtocol;
  /** As many as were wanted, or as the system lets a process open. */
  readonly idle: number;
  readonly bytesEach: readonly number[];
  /** The same of node:http or node:http2 that answer fixed bytes; none where that was not measured. */
  readonly bareBytesEach: readonly number[];
  /** Of gets on other connections. */
  readonly without: readonly Sample[];
  readonly with: readonly Sample[];
}

interface ConnectionsResult {
  readonly wanted: number;
  readonly rows: readonly IdleRow[];
}

const KIB = 1024;
const ACTIVE = 64;
/** That those ask for. */
const KEYS = 100;
/** So many are promised to be no burden; of fewer, what each of them takes is lost in what the process takes by itself. */
const MANY = 10_000;
/** Files that a server or a load generator has open beside its connections. */
const OTHER_FILES = 200;
const names = { connect: "HTTP/1.1", grpc: "HTTP/2" } as const;
const bareServers = { connect: "http", grpc: "http2" } as const;
type IdleProtocol = keyof typeof names;

export const connections = defineSection<ConnectionSizes, ConnectionsResult>({
  name: "connections",
  description:
    "ten thousand idle connections: the memory of each, and the rate of the active ones with and without them",
  sizes: {
    quick: { idle: 300, protocols: ["connect"], withBare: false, warmupMs: 10, measureMs: 80, settleCalls: 300 },
    full: {
      idle: MANY,
      protocols: ["connect", "grpc"],
      withBare: true,
      warmupMs: 500,
      measureMs: 2000,
      settleCalls: 3000,
    },
  },

  async measure(bench, { idle: wanted, protocols, withBare, ...times }, progress) {
    const idle = Math.min(wanted, openFilesMax() - OTHER_FILES);
    const rows: IdleRow[] = [];
    for (const protocol of protocols) {
      rows.push(
        await measureIdle(bench, { protocol, idle, withBare, times }, (text) =>
          progress(`${names[protocol]}: ${text}`),
        ),
      );
    }
    return { wanted, rows };
  },

  render({ wanted, rows }): Block[] {
    return [
      `connections: idle ones, each after one get, and ${ACTIVE} active ones that get without a pause; medians of three rounds, each with a master of its own`,
      {
        head: [
          "idle over",
          "connections",
          "bytes each",
          "of a bare server",
          "gets/s without",
          "with",
          "off, %",
          "server CPU µs without",
          "with",
        ],
        rows: rows.map((row) => [
          names[row.protocol],
          grouped(row.idle),
          grouped(median(row.bytesEach)),
          row.bareBytesEach.length === 0 ? "–" : grouped(median(row.bareBytesEach)),
          grouped(rateOf(row.without)),
          grouped(rateOf(row.with)),
          fixed(100 * offOf(row), 1),
          fixed(cpuOf(row.without), 1),
          fixed(cpuOf(row.with), 1),
        ]),
      },
      "Bytes are of the server's process; what the kernel holds for a socket comes on top.",
      ...(rows.some(({ idle }) => idle < wanted)
        ? [
            `A process may open ${grouped(openFilesMax())} files here, so fewer than ${grouped(wanted)} were held: raise the hard limit (ulimit -Hn).`,
          ]
        : []),
    ];
  },

  goals: [
    ...(["connect", "grpc"] as const).map((protocol) => ({
      figure: `an idle connection, ${names[protocol]}`,
      unit: "bytes" as const,
      atMost: 10 * KIB,
      measured: ({ rows }: ConnectionsResult) =>
        median(rows.filter((row) => row.protocol === protocol && areMany(row)).flatMap(({ bytesEach }) => bytesEach)),
    })),
    {
      figure: `what ${grouped(MANY)} idle connections take of the active ones' rate`,
      unit: "%",
      atMost: 5,
      measured: ({ rows }) => 100 * Math.max(...rows.filter(areMany).map(offOf)),
    },
    {
      figure: "the same, by the server's CPU time an operation",
      unit: "%",
      atMost: 5,
      measured: ({ rows }) =>
        100 * Math.max(...rows.filter(areMany).map((row) => cpuOf(row.with) / cpuOf(row.without) - 1)),
    },
  ],
});

function areMany({ idle }: IdleRow): boolean {
  return idle >= MANY;
}

/** Each round has servers of its own: what the connections of an earlier one have left would hold the next ones. */
async function measureIdle(
  bench: Workbench,
  options: {
    readonly protocol: IdleProtocol;
    readonly idle: number;
    readonly withBare: boolean;
    readonly times: Times;
  },
  progress: Progress,
): Promise<IdleRow> {
  const { protocol, idle, withBare, times } = options;
  const limits = { max_connections: idle + 1000, max_connections_per_address: idle + 1000, idle_timeout: "1h" };
  const row = {
    bytesEach: [] as number[],
    bareBytesEach: [] as number[],
    without: [] as Sample[],
    with: [] as Sample[],
  };
  const [holder, load] = [bench.load(), bench.load()];
  for (let round = 1; round <= ROUNDS; round++) {
    progress(`round ${round} of ${ROUNDS}`);
    const sections = { wal: { durability: "os" }, limits };
    const [master, bare] = await Promise.all([
      bench.startMaster(`idle-${protocol}-${round}`, { sections }),
      withBare ? bench.startBaseline(bareServers[protocol]) : undefined,
    ]);
    await fill(load, master, "connect", KEYS);
    const job = jobOf({ protocol: "connect", operation: "get", connections: ACTIVE, streams: 1 }, master.address);
    const active = { ...job, keyCount: KEYS };
    const measure = (): Promise<Sample> => measureLoad(load, master, { ...active, ...times });
    await load.load({ ...active, ...timesOf(times, true) });
    row.without.push(await measure());
    row.bytesEach.push(await bytesOf(holder, master, { protocol, idle }));
    row.with.push(await measure());
    await holder.hold({ kind: "hold", protocol, address: master.address, connections: 0 });
    // Once more, so that neither is the first always.
    row.without.push(await measure());
    await bench.stop(master);

    if (!bare) continue;
    const bareJob = jobOf({ protocol, operation: "get", connections: ACTIVE, streams: 1 }, bare.address);
    await load.load({ ...bareJob, ...timesOf(times, true) });
    row.bareBytesEach.push(await bytesOf(holder, bare, { protocol, idle }));
    await holder.hold({ kind: "hold", protocol, address: bare.address, connections: 0 });
    await bench.stop(bare);
  }
  return { protocol, idle, ...row };
}

/** What the connections take that stand from now on. */
async function bytesOf(
  holder: LoadProcess,
  server: ServerProcess,
  { protocol, idle }: { readonly protocol: IdleProtocol; readonly idle: number },
): Promise<number> {
  const before = server.residentBytes();
  await holder.hold({ kind: "hold", protocol, address: server.address, connections: idle });
  return (server.residentBytes() - before) / idle;
}

function rateOf(samples: readonly Sample[]): number {
  return median(samples.map(({ operationsPerSecond }) => operationsPerSecond));
}

function cpuOf(samples: readonly Sample[]): number {
  return median(samples.map(({ serverCpuUsPerOperation }) => serverCpuUsPerOperation));
}

/** By which part fewer operations are made while the idle connections stand. */
function offOf(row: IdleRow): number {
  return 1 - rateOf(row.with) / rateOf(row.without);
}

/** Of a process that this one starts: Node takes as many as the system lets it, its hard limit. */
function openFilesMax(): number {
  try {
    const hard = /^Max open files\s+\S+\s+(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1];
    return hard === undefined || hard === "unlimited" ? Infinity : Number(hard);
  } catch {
    return Infinity;
  }
}
