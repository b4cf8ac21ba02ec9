/** One run of a load against one server, and many runs as one row of a table. */
import type { Table } from "./blocks.js";
import { grouped, ratio } from "./format.js";
import { interleave } from "./interleave.js";
import type { LoadJob, TellJob } from "./job.js";
import type { LoadProcess } from "./load-process.js";
import type { Operation, Protocol } from "./protocols.js";
import type { Progress } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";
import { KEY_COUNT } from "./workload.js";

/** How many callers there are, as connections and as calls in flight on each. */
export interface Clients {
  readonly connections: number;
  readonly streams: number;
}

export interface Times {
  readonly warmupMs: number;
  readonly measureMs: number;
  /** Calls of the round that does not count, in which the programs compile their code; after 3,000 they have. */
  readonly settleCalls: number;
}

export interface LoadCase extends Clients {
  /** What the table calls it. Together with the clients it is one case only. */
  readonly contestant: string;
  readonly protocol: Protocol;
  readonly operation: Operation;
  /** Of which it is compared with the row of as many clients. */
  readonly baseline?: string;
}

export interface Sample {
  readonly operationsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of the server, all threads; NaN where the system does not tell. */
  readonly serverCpuUsPerOperation: number;
  readonly loaderCpuUsPerOperation: number;
  /** CPU time for each of the time that passed: 1 is one processor, always. */
  readonly serverBusy: number;
  readonly loaderBusy: number;
}

export interface LoadRow extends LoadCase {
  /** The median of each number by itself. */
  readonly median: Sample;
  readonly samples: readonly Sample[];
}

/** At least, of the round that does not count. */
const SETTLE_MS = 50;
/** A process is what limited a load when it had so much of a processor. */
const BUSY = 0.9;

/** Each contestant with each of the clients. */
export function casesOf<Contestant extends object>(
  contestants: readonly Contestant[],
  clients: readonly Clients[],
): (Contestant & Clients)[] {
  return contestants.flatMap((contestant) =>
    clients.map(({ connections, streams }) => ({ ...contestant, connections, streams })),
  );
}

/** Measures all the cases in turn. `serverOf` tells which server a case is for. */
export async function measureLoads<Case extends LoadCase>(
  load: LoadProcess,
  cases: readonly Case[],
  serverOf: (each: Case) => ServerProcess,
  times: Times,
  progress: Progress,
  afterRound?: () => Promise<void>,
): Promise<LoadRow[]> {
  const measure = (each: Case, isSettling: boolean): Promise<Sample> => {
    const server = serverOf(each);
    return measureLoad(load, server, { ...jobOf(each, server.address), ...timesOf(times, isSettling) });
  };
  const samples = await interleave(cases, measure, progress, afterRound);
  return [...samples].map(([each, found]) => rowOf(each, found));
}

/** How long a load is to last, in a round that counts or in the one that does not. */
export function timesOf(
  { warmupMs, measureMs, settleCalls }: Times,
  isSettling: boolean,
): Pick<LoadJob, "warmupMs" | "measureMs" | "operationsMin"> {
  return isSettling ? { warmupMs: 0, measureMs: SETTLE_MS, operationsMin: settleCalls } : { warmupMs, measureMs };
}

/** With the keys that are there where nothing else is said. */
export function jobOf(
  { protocol, operation, connections, streams }: Omit<LoadCase, "contestant">,
  address: string,
): Omit<LoadJob, "warmupMs" | "measureMs"> {
  return { kind: "load", protocol, operation, address, keyCount: KEY_COUNT, connections, streams };
}

/** Sets every key once. */
export async function fill(
  load: LoadProcess,
  server: ServerProcess,
  protocol: Protocol,
  keyCount = KEY_COUNT,
): Promise<void> {
  const job = jobOf({ protocol, operation: "set", connections: 16, streams: 1 }, server.address);
  await load.load({ ...job, keyCount, warmupMs: 0, measureMs: 0 });
}

/** Runs one case once. Where nothing was answered in time, the rate is 0 and other numbers are NaN. */
export async function measureLoad(load: LoadProcess, server: ServerProcess, job: LoadJob | TellJob): Promise<Sample> {
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
    serverBusy: cpuUs / 1000 / result.elapsedMs,
    loaderBusy: result.loaderCpuUs / 1000 / result.elapsedMs,
  };
}

export function rowOf(each: LoadCase, samples: readonly Sample[]): LoadRow {
  return { ...each, median: medianOf(samples), samples };
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
    serverBusy: of((sample) => sample.serverBusy),
    loaderBusy: of((sample) => sample.loaderBusy),
  };
}

export function findRow(rows: readonly LoadRow[], contestant: string, clients: Clients): LoadRow | undefined {
  return rows.find(
    (row) =>
      row.contestant === contestant && row.connections === clients.connections && row.streams === clients.streams,
  );
}

/** How many times as many operations a second `contestant` makes as `other`; NaN where one was not measured. */
export function rateRatio(rows: readonly LoadRow[], contestant: string, other: string, clients: Clients): number {
  const rateOf = (name: string): number => findRow(rows, name, clients)?.median.operationsPerSecond ?? NaN;
  return rateOf(contestant) / rateOf(other);
}

/** How many times as many operations the server of `contestant` makes of the same CPU time. */
export function cpuRatio(rows: readonly LoadRow[], contestant: string, other: string, clients: Clients): number {
  const costOf = (name: string): number => findRow(rows, name, clients)?.median.serverCpuUsPerOperation ?? NaN;
  return costOf(other) / costOf(contestant);
}

export function loadTable(rows: readonly LoadRow[]): Table {
  return {
    head: [
      "",
      "clients",
      "per s",
      "spread %",
      "p50 µs",
      "p99 µs",
      "server CPU µs",
      "load CPU µs",
      "limited by",
      "× baseline",
      "by CPU",
      "the baseline",
    ],
    rows: rows.map((row) => {
      const { contestant, median, baseline } = row;
      return [
        contestant,
        clientsText(row),
        grouped(median.operationsPerSecond),
        grouped(100 * spreadOf(row.samples)),
        grouped(median.p50Us),
        grouped(median.p99Us),
        grouped(median.serverCpuUsPerOperation),
        grouped(median.loaderCpuUsPerOperation),
        limitOf(median),
        baseline === undefined ? "" : ratio(rateRatio(rows, contestant, baseline, row)),
        baseline === undefined ? "" : ratio(cpuRatio(rows, contestant, baseline, row)),
        baseline ?? "",
      ];
    }),
  };
}

/** By how much the rates of the rounds differ, as a part of their median: where it is large, others had the machine. */
export function spreadOf(samples: readonly Sample[]): number {
  const rates = samples.map(({ operationsPerSecond }) => operationsPerSecond);
  return (Math.max(...rates) - Math.min(...rates)) / median(rates);
}

/** What stands below such a table. */
export const loadTableNote =
  "Spread: between the fastest and the slowest round, of the median; where it is large others used the machine, and ratios say little. CPU µs: of the server's and the load generator's process, an operation; limited by: which of them had a processor for itself (load: the server could do more). By CPU: operations for the same CPU time of the server, which others on the machine disturb least.";

export function clientsText({ connections, streams }: Clients): string {
  return streams === 1 ? String(connections) : `${streams} on ${connections}`;
}

/** The server, the load generator, or neither: then calls waited for the disk or for each other, or others had the machine. */
export function limitOf({ serverBusy, loaderBusy }: Sample): "server" | "load" | "–" {
  if (serverBusy >= BUSY) return "server";
  return loaderBusy >= BUSY ? "load" : "–";
}
