/** What is measured, and one run of it. */
import type { LoadJob, Protocol } from "./job.js";
import type { LoadProcess } from "./load-process.js";
import type { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";
import { expectedOf, messagesOf, type Operation, pathOf } from "./workload.js";

/** The servers by what a table calls them. */
export type Contestant = "cambium" | "connect-node" | "node:http" | "node:http2";

export interface Case {
  readonly contestant: Contestant;
  readonly protocol: Protocol;
  readonly operation: Operation;
  readonly connections: number;
  /** Calls in flight on each connection. */
  readonly streams: number;
}

export interface Sample {
  readonly operationsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of the server, all threads; NaN where the system does not tell. */
  readonly serverCpuUsPerOperation: number;
  /** CPU time of the load generator. Near 1,000,000 divided by the rate, it was the limit, and not the server. */
  readonly loaderCpuUsPerOperation: number;
}

/** HTTP/2 can have all its calls on one connection too, and most gRPC clients do. */
const clients = {
  connect: [
    { connections: 1, streams: 1 },
    { connections: 16, streams: 1 },
    { connections: 64, streams: 1 },
  ],
  grpc: [
    { connections: 1, streams: 1 },
    { connections: 16, streams: 1 },
    { connections: 64, streams: 1 },
    { connections: 1, streams: 64 },
  ],
} as const;

/** In the order of the table. The bare servers answer anything the same; a get is what they are sent. */
export const cases: readonly Case[] = (["connect", "grpc"] as const).flatMap((protocol) => {
  const bare: Contestant = protocol === "connect" ? "node:http" : "node:http2";
  const rows: [Contestant, Operation][] = [
    [bare, "get"],
    ["connect-node", "get"],
    ["cambium", "get"],
    ["cambium", "set"],
  ];
  return rows.flatMap(([contestant, operation]) =>
    clients[protocol].map(({ connections, streams }) => ({ contestant, protocol, operation, connections, streams })),
  );
});

export function jobOf(
  { protocol, operation, connections, streams }: Case,
  address: string,
  times: { warmupMs: number; measureMs: number },
): LoadJob {
  return {
    kind: "load",
    protocol,
    address,
    path: pathOf[operation],
    messages: messagesOf[operation],
    expected: expectedOf[operation],
    connections,
    streams,
    ...times,
  };
}

/** Runs one case once. Where nothing was answered in time, the rate is 0 and the other numbers are NaN. */
export async function measure(load: LoadProcess, server: ServerProcess, job: LoadJob): Promise<Sample> {
  let startUs: number | undefined;
  const result = await load.load(job, () => (startUs = server.cpuUs()));
  const cpuUs = (server.cpuUs() ?? NaN) - (startUs ?? NaN);
  const perOperation = (us: number): number => (result.operations === 0 ? NaN : us / result.operations);
  return {
    operationsPerSecond: (result.operations / result.elapsedMs) * 1000,
    p50Us: result.p50Us,
    p99Us: result.p99Us,
    serverCpuUsPerOperation: perOperation(cpuUs),
    loaderCpuUsPerOperation: perOperation(result.loaderCpuUs),
  };
}

/** The median of each number by itself. */
export function medianOf(samples: readonly Sample[]): Sample {
  const of = (pick: (sample: Sample) => number): number => median(samples.map(pick));
  return {
    operationsPerSecond: of((sample) => sample.operationsPerSecond),
    p50Us: of((sample) => sample.p50Us),
    p99Us: of((sample) => sample.p99Us),
    serverCpuUsPerOperation: of((sample) => sample.serverCpuUsPerOperation),
    loaderCpuUsPerOperation: of((sample) => sample.loaderCpuUsPerOperation),
  };
}
