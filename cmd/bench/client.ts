/** How fast programs get along with a node through a client library: ours, next to the stock one of Connect, in turn. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type ClientJob, type ClientKind, clientKinds, type ClientReport, type ClientResult } from "./client-job.js";
import { jobOf } from "./measurement.js";
import type { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";
import type { Workbench } from "./workbench.js";

const rounds = 3;
/** Of a round that does not count, in which the code of the programs is compiled. */
const settle = { warmupMs: 0, measureMs: 700 };

export interface ClientRow {
  readonly client: ClientKind;
  readonly operation: "get" | "set";
  readonly callers: number;
  readonly callsPerSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
  /** CPU time of the process that calls. */
  readonly clientCpuUsPerCall: number;
  /** NaN where the system does not tell. */
  readonly serverCpuUsPerCall: number;
}

type Case = Pick<ClientRow, "client" | "operation" | "callers">;

const cases: readonly Case[] = [
  ...clientKinds.map((client) => ({ client, operation: "get", callers: 64 }) as const),
  ...(["stock-http1", "stock-http2", "cambium"] as const).map(
    (client) => ({ client, operation: "set", callers: 64 }) as const,
  ),
  { client: "stock-http1", operation: "get", callers: 1 },
  { client: "cambium", operation: "get", callers: 1 },
];

export async function measureClients(
  bench: Workbench,
  times: { readonly warmupMs: number; readonly measureMs: number },
  progress: (text: string) => void,
): Promise<readonly ClientRow[]> {
  const master = await bench.startMaster("clients");
  const filling = {
    contestant: "cambium",
    protocol: "connect",
    operation: "set",
    connections: 16,
    streams: 1,
  } as const;
  await bench.load().load(jobOf(filling, master.address, { warmupMs: 0, measureMs: 0 }));
  const samples = new Map<Case, ClientRow[]>(cases.map((each) => [each, []]));
  const processes = new Map(cases.map((each) => [each, new ClientProcess()]));
  try {
    let step = 0;
    for (let round = 0; round <= rounds; round++) {
      for (const [each, found] of samples) {
        progress(`measuring clients, ${++step} of ${cases.length * (rounds + 1)}`);
        const row = await measureOne(each, processes.get(each)!, master, round === 0 ? settle : times);
        if (round > 0) found.push(row);
      }
    }
  } finally {
    for (const each of processes.values()) each.close();
  }
  await bench.stopServers();
  return Array.from(samples, ([{ client, operation, callers }, found]) => {
    const of = (pick: (row: ClientRow) => number): number => median(found.map(pick));
    return {
      client,
      operation,
      callers,
      callsPerSecond: of((row) => row.callsPerSecond),
      p50Us: of((row) => row.p50Us),
      p99Us: of((row) => row.p99Us),
      clientCpuUsPerCall: of((row) => row.clientCpuUsPerCall),
      serverCpuUsPerCall: of((row) => row.serverCpuUsPerCall),
    };
  });
}

/** How many times the rate of a stock client the row's is, at the same operation with as many callers; NaN where that was not measured. */
export function ratioToStock(stock: "stock-http1" | "stock-http2", row: ClientRow, rows: readonly ClientRow[]): number {
  const { operation, callers } = row;
  const other = rows.find((each) => each.client === stock && each.operation === operation && each.callers === callers);
  return row.callsPerSecond / (other?.callsPerSecond ?? NaN);
}

async function measureOne(
  each: Case,
  client: ClientProcess,
  master: ServerProcess,
  times: { readonly warmupMs: number; readonly measureMs: number },
): Promise<ClientRow> {
  let beganUs = NaN;
  let endedUs = NaN;
  const job: ClientJob = { ...each, ...times, address: master.address };
  const { calls, elapsedMs, p50Us, p99Us, cpuUs } = await client.run(job, (kind) => {
    const us = master.cpuUs() ?? NaN;
    if (kind === "measuring") beganUs = us;
    else endedUs = us;
  });
  return {
    ...each,
    callsPerSecond: (calls / elapsedMs) * 1000,
    p50Us,
    p99Us,
    clientCpuUsPerCall: cpuUs / calls,
    serverCpuUsPerCall: (endedUs - beganUs) / calls,
  };
}

/** The bench's end of a program that calls. */
class ClientProcess {
  readonly #child: ChildProcess;
  #listener: (report: ClientReport) => void = () => undefined;

  constructor() {
    this.#child = fork(fileURLToPath(new URL("./client-process.js", import.meta.url)));
    this.#child.on("message", (report: ClientReport) => this.#listener(report));
    this.#child.on("exit", (code, signal) => {
      this.#listener({ kind: "failed", message: `the process ended (${code ?? signal})` });
    });
  }

  /** `told`: of the beginning and of the end of the measurement, as soon as this process hears of it. */
  run(job: ClientJob, told: (kind: "measuring" | "measured") => void): Promise<ClientResult> {
    return new Promise((resolve, reject) => {
      this.#listener = (report) => {
        if (report.kind === "failed") reject(new Error(`${job.client}: ${report.message}`));
        else told(report.kind);
        if (report.kind === "measured") resolve(report.result);
      };
      this.#child.send(job);
    });
  }

  close(): void {
    this.#listener = () => undefined;
    this.#child.kill("SIGKILL");
  }
}
