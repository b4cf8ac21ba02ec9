/** The load generator: a process of its own that takes jobs from the bench and measures from the caller's side. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import type { Caller, Connection, Wire } from "./caller.js";
import { connectWire } from "./connect-wire.js";
import { grpcWire } from "./grpc-wire.js";
import { redisWire } from "./redis-wire.js";
import type { Job, LoadJob, LoadResult, Protocol, Report, SyncJob, SyncResult } from "./job.js";
import { percentile } from "./statistics.js";

const wires: Readonly<Record<Protocol, Wire>> = { connect: connectWire, grpc: grpcWire, redis: redisWire };

function report(message: Report): void {
  process.send?.(message);
}

async function runLoad(job: LoadJob): Promise<void> {
  const loop = new ClosedLoop(job);
  try {
    await loop.open();
    const result = await loop.run(() => report({ kind: "measuring" }));
    report({ kind: "measured", result });
  } finally {
    loop.close();
  }
}

/** Several callers that each send the next request as soon as they have their answer. */
class ClosedLoop {
  readonly #job: LoadJob;
  readonly #wire: Wire;
  readonly #requests: readonly Buffer[];
  readonly #connections: Connection[] = [];
  readonly #startedMs = new Map<Caller, number>();
  /** Of the answers within the measurement, in µs. */
  #latencies: number[] = [];
  #next = 0;
  #measuring = false;
  #stopped = false;
  readonly #thinking = new Set<NodeJS.Timeout>();
  #finish: (error?: Error) => void = () => undefined;

  constructor(job: LoadJob) {
    this.#job = job;
    this.#wire = wires[job.protocol];
    this.#requests = job.messages.map((message) => this.#wire.encode(Buffer.from(message, "base64"), job));
  }

  async open(): Promise<void> {
    const { address, connections, streams } = this.#job;
    const expected = Buffer.from(this.#job.expected, "base64");
    const answered = (caller: Caller): void => this.#answered(caller);
    const failed = (error: Error): void => this.#finish(error);
    while (this.#connections.length < connections) {
      this.#connections.push(await this.#wire.open({ address, streams, expected, answered, failed }));
    }
  }

  /** Calls `measuring` when the warm-up is over. */
  async run(measuring: () => void): Promise<LoadResult> {
    const { measureMs, warmupMs } = this.#job;
    const finished = new Promise<void>((resolve, reject) => {
      this.#finish = (error) => (error ? reject(error) : resolve());
    });
    let startMs = performance.now();
    let startCpu = process.cpuUsage();
    const begin = (): void => {
      this.#measuring = true;
      startMs = performance.now();
      startCpu = process.cpuUsage();
      measuring();
    };
    const timers: NodeJS.Timeout[] = [];
    if (measureMs === 0) begin();
    else
      timers.push(
        setTimeout(begin, warmupMs),
        setTimeout(() => this.#finish(), warmupMs + measureMs),
      );
    try {
      for (const { callers } of this.#connections) for (const caller of callers) this.#sendLater(caller);
      await finished;
    } finally {
      this.#stopped = true;
      for (const timer of [...timers, ...this.#thinking]) clearTimeout(timer);
    }
    const elapsedMs = performance.now() - startMs;
    const { user, system } = process.cpuUsage(startCpu);
    const sorted = Float64Array.from(this.#latencies).sort();
    return {
      operations: sorted.length,
      elapsedMs,
      p50Us: percentile(sorted, 0.5),
      p99Us: percentile(sorted, 0.99),
      loaderCpuUs: user + system,
    };
  }

  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  #sendLater(caller: Caller): void {
    const { thinkMs } = this.#job;
    if (thinkMs === undefined) return this.#send(caller);
    const timer = setTimeout(
      () => {
        this.#thinking.delete(timer);
        this.#send(caller);
      },
      // Callers that all think equally long would come in one crowd.
      thinkMs * (0.5 + Math.random()),
    );
    this.#thinking.add(timer);
  }

  #send(caller: Caller): void {
    if (this.#job.measureMs === 0 && this.#next >= this.#requests.length) return;
    const request = this.#requests[this.#next++ % this.#requests.length]!;
    this.#startedMs.set(caller, performance.now());
    caller.call(request);
  }

  #answered(caller: Caller): void {
    if (this.#stopped) return;
    if (this.#measuring) this.#latencies.push((performance.now() - this.#startedMs.get(caller)!) * 1000);
    if (this.#job.measureMs === 0 && this.#latencies.length === this.#requests.length) this.#finish();
    else this.#sendLater(caller);
  }
}

/** How long the disk takes to make a small write durable, with nothing else around it. */
function measureSync(job: SyncJob): SyncResult {
  const directory = mkdtempSync(path.join(job.directory, "sync-"));
  const file = openSync(path.join(directory, "probe"), "w");
  try {
    // As long as it will be from the start, as the log does it, so that no sync has a new length to record.
    writeSync(file, Buffer.alloc(job.bytes * job.count));
    fdatasyncSync(file);
    const record = Buffer.alloc(job.bytes, 1);
    const latencies = new Float64Array(job.count);
    for (let index = 0; index < job.count; index++) {
      writeSync(file, record, 0, record.length, index * record.length);
      const startMs = performance.now();
      fdatasyncSync(file);
      latencies[index] = (performance.now() - startMs) * 1000;
    }
    latencies.sort();
    return { p50Us: percentile(latencies, 0.5), p99Us: percentile(latencies, 0.99) };
  } finally {
    closeSync(file);
    rmSync(directory, { recursive: true });
  }
}

process.on("message", (job: Job) => {
  const done =
    job.kind === "load"
      ? runLoad(job)
      : Promise.resolve().then(() => report({ kind: "synced", result: measureSync(job) }));
  done.catch((error: unknown) => {
    report({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  });
});
// The bench is gone: nobody is left to measure for.
process.on("disconnect", () => process.exit(1));
