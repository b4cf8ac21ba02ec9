/** How fast programs get along with a node through a client library: ours, next to the stock one of Connect, in turn. */
import { type ChildProcess, fork } from "node:child_process";
import { fileURLToPath } from "node:url";
import { type ClientJob, type ClientKind, clientKinds, type ClientReport, type ClientResult } from "./client-job.js";
import { fixed, grouped, ratio } from "./format.js";
import { interleave } from "./interleave.js";
import { fill } from "./measurement.js";
import { defineSection } from "./section.js";
import type { ServerProcess } from "./server-process.js";
import { median } from "./statistics.js";

const CALLERS = 64;

interface ClientRow {
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

/** Those that goals speak of, and what writes. */
const few: readonly Case[] = [
  ...(["stock-http1", "stock-http2", "cambium"] as const).map(
    (client) => ({ client, operation: "get", callers: CALLERS }) as const,
  ),
  { client: "cambium", operation: "set", callers: CALLERS },
];

const all: readonly Case[] = [
  ...clientKinds.map((client) => ({ client, operation: "get", callers: CALLERS }) as const),
  ...(["stock-http1", "stock-http2", "cambium"] as const).map(
    (client) => ({ client, operation: "set", callers: CALLERS }) as const,
  ),
  { client: "stock-http1", operation: "get", callers: 1 },
  { client: "cambium", operation: "get", callers: 1 },
];

const names: Readonly<Record<ClientKind, string>> = {
  "stock-http1": "stock Connect client, HTTP/1.1",
  "stock-http2": "stock Connect client, HTTP/2",
  single: "cambium/client, batch: false",
  cambium: "cambium/client",
  "cambium-http2": "cambium/client, HTTP/2",
};

interface ClientSizes {
  readonly warmupMs: number;
  readonly measureMs: number;
  /** Of the round that does not count, in which the programs compile their code. */
  readonly settleMs: number;
  readonly cases: readonly Case[];
}

export const client = defineSection<ClientSizes, readonly ClientRow[]>({
  name: "client",
  description: "programs that call a node through a client library, ours next to the stock one of Connect",
  sizes: {
    quick: { cases: few, warmupMs: 30, measureMs: 100, settleMs: 250 },
    full: { cases: all, warmupMs: 500, measureMs: 2000, settleMs: 700 },
  },

  async measure(bench, { cases, warmupMs, measureMs, settleMs }, progress) {
    const master = await bench.startMaster("clients");
    await fill(bench.load(), master, "connect");
    const processes = new Map(cases.map((each) => [each, new ClientProcess()]));
    try {
      const samples = await interleave(
        cases,
        (each, isSettling) => {
          const times = isSettling ? { warmupMs: 0, measureMs: settleMs } : { warmupMs, measureMs };
          return measureOne({ ...each, ...times, address: master.address }, processes.get(each)!, master);
        },
        progress,
      );
      return [...samples].map(([each, found]) => medianRow(each, found));
    } finally {
      for (const each of processes.values()) each.close();
    }
  },

  render: (rows) => [
    "clients: programs that call a node through a client library, each caller one call after the other; medians of three interleaved rounds",
    {
      head: [
        "client",
        "",
        "callers",
        "calls/s",
        "p50 µs",
        "p99 µs",
        "client CPU µs",
        "server CPU µs",
        "× stock HTTP/1.1",
        "× stock HTTP/2",
      ],
      wordColumns: 2,
      rows: rows.map((row) => [
        names[row.client],
        row.operation,
        String(row.callers),
        grouped(row.callsPerSecond),
        grouped(row.p50Us),
        grouped(row.p99Us),
        fixed(row.clientCpuUsPerCall, 1),
        fixed(row.serverCpuUsPerCall, 1),
        ratio(ratioToStock("stock-http1", row, rows)),
        ratio(ratioToStock("stock-http2", row, rows)),
      ]),
    },
    ...(rows.length < all.length
      ? ["A quick run leaves out single callers, our client over HTTP/2, and `batch: false`."]
      : []),
  ],

  goals: (["stock-http1", "stock-http2"] as const).map((stock) => ({
    figure: `${CALLERS} concurrent gets of our client, against the ${names[stock]}`,
    unit: "×",
    atLeast: 8,
    aim: 20,
    measured: (rows) => {
      const row = rows.find(
        (each) => each.client === "cambium" && each.callers === CALLERS && each.operation === "get",
      );
      return row ? ratioToStock(stock, row, rows) : NaN;
    },
  })),
});

function medianRow(each: Case, found: readonly ClientRow[]): ClientRow {
  const of = (pick: (row: ClientRow) => number): number => median(found.map(pick));
  return {
    ...each,
    callsPerSecond: of((row) => row.callsPerSecond),
    p50Us: of((row) => row.p50Us),
    p99Us: of((row) => row.p99Us),
    clientCpuUsPerCall: of((row) => row.clientCpuUsPerCall),
    serverCpuUsPerCall: of((row) => row.serverCpuUsPerCall),
  };
}

/** How many times the rate of a stock client the row's is, at the same operation with as many callers; NaN where that was not measured. */
function ratioToStock(stock: "stock-http1" | "stock-http2", row: ClientRow, rows: readonly ClientRow[]): number {
  const { operation, callers } = row;
  const other = rows.find((each) => each.client === stock && each.operation === operation && each.callers === callers);
  return row.callsPerSecond / (other?.callsPerSecond ?? NaN);
}

async function measureOne(job: ClientJob, client: ClientProcess, master: ServerProcess): Promise<ClientRow> {
  let beganUs = NaN;
  let endedUs = NaN;
  const { calls, elapsedMs, p50Us, p99Us, cpuUs } = await client.run(job, (kind) => {
    const us = master.cpuUs() ?? NaN;
    if (kind === "measuring") beganUs = us;
    else endedUs = us;
  });
  return {
    client: job.client,
    operation: job.operation,
    callers: job.callers,
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
