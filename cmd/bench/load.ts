/** The load generator: a process of its own that takes jobs from the bench and measures from the caller's side. */
import { closeSync, fdatasyncSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import type { Caller, Connection, Wire } from "./caller.js";
import type { HoldJob, Job, LoadJob, LoadResult, PairJob, PairResult, Report } from "./job.js";
import { protocols } from "./protocols.js";
import { percentile } from "./statistics.js";
import { WatchLoad } from "./watch-load.js";
import { keyOf } from "./workload.js";

/** Of more keys, so many have requests, which are made before the measurement. */
const REQUESTS_MAX = 100_000;
/** Where a job says nothing of it, so many answers for each caller are enough, and so many of all. */
const ANSWERS_MIN = 3;
const OPERATIONS_MIN = 100;
const LATE_MS_MAX = 5000;
/** Connections that are opened at the same time; a server takes so many waiting ones at least. */
const OPENING_MAX = 100;

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
  /** Of the answers within the measurement, in µs. */
  #latencies: number[] = [];
  #next = 0;
  #measuring = false;
  /** The time for the measurement is over. */
  #isDue = false;
  #stopped = false;
  readonly #thinking = new Set<NodeJS.Timeout>();
  /** Of a connection, before or while it was measured. */
  #failure: Error | undefined;
  #finish: (error?: Error) => void = () => undefined;

  constructor(job: LoadJob) {
    this.#job = job;
    const { wire, path, message } = protocols[job.protocol];
    this.#wire = wire;
    const target = { address: job.address, path: path[job.operation] };
    const encode = (n: number): Buffer => wire.encode(message[job.operation](keyOf(n)), target);
    const byChance = (): number => Math.floor(Math.random() * job.keyCount);
    const isEach = job.measureMs === 0 || job.keyCount <= REQUESTS_MAX;
    this.#requests = Array.from({ length: isEach ? job.keyCount : REQUESTS_MAX }, (_, n) =>
      encode(isEach ? n : byChance()),
    );
  }

  async open(): Promise<void> {
    const { protocol, operation, address, connections, streams } = this.#job;
    const expected = protocols[protocol].expected[operation];
    const answered = (caller: Caller): void => this.#answered(caller);
    const failed = (error: Error): void => {
      this.#failure ??= error;
      this.#finish(error);
    };
    while (this.#connections.length < connections) {
      const opening = Math.min(OPENING_MAX, connections - this.#connections.length);
      const open = (): Promise<Connection> => this.#wire.open({ address, streams, expected, answered, failed });
      this.#connections.push(...(await Promise.all(Array.from({ length: opening }, open))));
    }
  }

  /** Calls `measuring` when the warm-up is over. */
  async run(measuring: () => void): Promise<LoadResult> {
    const { measureMs, warmupMs } = this.#job;
    if (this.#failure) throw this.#failure;
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
        setTimeout(() => {
          this.#isDue = true;
          this.#finishIfEnough();
        }, warmupMs + measureMs),
        setTimeout(() => this.#finish(), warmupMs + measureMs + LATE_MS_MAX),
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

  /** On a machine that others have, few answers may have come by now, and a rate of few is none. */
  #finishIfEnough(): void {
    const { connections, streams, operationsMin } = this.#job;
    const enough = operationsMin ?? Math.max(OPERATIONS_MIN, connections * streams * ANSWERS_MIN);
    if (this.#latencies.length >= enough) this.#finish();
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
    caller.startedMs = performance.now();
    caller.call(request);
  }

  #answered(caller: Caller): void {
    if (this.#stopped) return;
    if (this.#measuring) this.#latencies.push((performance.now() - caller.startedMs) * 1000);
    if (this.#job.measureMs === 0 && this.#latencies.length === this.#requests.length) return this.#finish();
    if (this.#isDue) this.#finishIfEnough();
    this.#sendLater(caller);
  }
}

/**
 * How long a set takes, and how long the disk takes to make a small write durable with nothing else around it: one of each in turn,
 * so that both meet the same disk, whatever else goes on there.
 */
async function measurePairs({ protocol, address, directory, bytes, count }: PairJob): Promise<PairResult> {
  const folder = mkdtempSync(path.join(directory, "sync-"));
  const file = openSync(path.join(folder, "probe"), "w");
  let connection: Connection | undefined;
  try {
    // As long as it will be from the start, as the log does it, so that no sync has a new length to record.
    writeSync(file, Buffer.alloc(bytes * count));
    fdatasyncSync(file);
    const record = Buffer.alloc(bytes, 1);
    const { wire, path: paths, message } = protocols[protocol];
    const request = wire.encode(message.set(keyOf(0)), { address, path: paths.set });
    let answered: () => void = () => undefined;
    let failed: (error: Error) => void = () => undefined;
    connection = await wire.open({
      address,
      streams: 1,
      expected: Buffer.alloc(0),
      answered: () => answered(),
      failed: (error) => failed(error),
    });
    const [caller] = connection.callers;
    const [setsUs, syncsUs] = [new Float64Array(count), new Float64Array(count)];
    for (let index = 0; index < count; index++) {
      const setMs = performance.now();
      await new Promise<void>((resolve, reject) => {
        [answered, failed] = [resolve, reject];
        caller!.call(request);
      });
      setsUs[index] = (performance.now() - setMs) * 1000;
      writeSync(file, record, 0, bytes, index * bytes);
      const syncMs = performance.now();
      fdatasyncSync(file);
      syncsUs[index] = (performance.now() - syncMs) * 1000;
    }
    setsUs.sort();
    syncsUs.sort();
    return {
      setP50Us: percentile(setsUs, 0.5),
      setP99Us: percentile(setsUs, 0.99),
      syncP50Us: percentile(syncsUs, 0.5),
      syncP99Us: percentile(syncsUs, 0.99),
    };
  } finally {
    connection?.close();
    closeSync(file);
    rmSync(folder, { recursive: true });
  }
}

/** Those that are held, and what became of one that is not any more. */
let held: readonly Connection[] = [];
let lost: Error | undefined;

async function hold({ protocol, address, connections }: HoldJob): Promise<void> {
  for (const connection of held) connection.close();
  held = [];
  if (lost) throw new Error(`a connection that was held is gone: ${lost.message}`);
  const { wire, path, message, expected } = protocols[protocol];
  const request = wire.encode(message.get(keyOf(0)), { address, path: path.get });
  const openOne = (): Promise<Connection> =>
    new Promise((resolve, reject) => {
      const opened = wire.open({
        address,
        streams: 1,
        expected: expected.get,
        answered: () => void opened.then(resolve),
        failed: (error) => {
          // Once it stands nobody hears that it is rejected.
          lost = error;
          reject(error);
        },
      });
      opened.then(({ callers }) => callers[0]!.call(request), reject);
    });
  const fresh: Connection[] = [];
  while (fresh.length < connections) {
    const opening = Math.min(OPENING_MAX, connections - fresh.length);
    fresh.push(...(await Promise.all(Array.from({ length: opening }, openOne))));
  }
  held = fresh;
}

let watches: WatchLoad | undefined;

async function run(job: Job): Promise<void> {
  switch (job.kind) {
    case "load":
      return runLoad(job);
    case "pair":
      return report({ kind: "paired", result: await measurePairs(job) });
    case "hold":
      await hold(job);
      return report({ kind: "standing" });
    case "watch":
      watches = new WatchLoad(job);
      await watches.open();
      return report({ kind: "standing" });
    case "tell": {
      if (watches === undefined) throw new Error("nothing is watched");
      const result = await watches.tell(job, () => report({ kind: "measuring" }));
      return report({ kind: "measured", result });
    }
  }
}

process.on("message", (job: Job) => {
  run(job).catch((error: unknown) => {
    report({ kind: "failed", message: error instanceof Error ? error.message : String(error) });
  });
});
// The bench is gone: nobody is left to measure for.
process.on("disconnect", () => process.exit(1));
