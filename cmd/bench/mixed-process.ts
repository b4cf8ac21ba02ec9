/**
 * Loads a master with gets and sets at a given rate, in a process of its own: `mixed-process.js JOB`, the job as JSON. It ends
 * with an error at the first call that fails.
 */
import { createHistogram, type RecordableHistogram } from "node:perf_hooks";
import { create, toBinary } from "@bufbuild/protobuf";
import { must } from "../../internal/base/assert.js";
import { GetRequestSchema, SetRequestSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import type { Caller, Connection } from "./caller.js";
import { connectWire } from "./connect-wire.js";
import type { CallTimes, MixedJob, MixedResult } from "./mixed-job.js";
import { mixedKey, mixedValue } from "./mixed-values.js";
import { work } from "./worker.js";

const GET = "/cambium.v1.KVStore/Get";
const SET = "/cambium.v1.KVStore/Set";
/** How often the clock is looked at for calls whose time has come while callers are free. */
const TICK_MS = 1;

/** A call that is on its way. */
interface Call {
  /** When it was to be made. */
  readonly dueMs: number;
  /** Of a set: the key that stays, or undefined for one that expires, and its version. */
  readonly set?: { readonly key: number | undefined; readonly version: number };
}

class MixedLoad {
  readonly #job: MixedJob;
  readonly #connections: Connection[] = [];
  /** Whose turn it is first stands first. */
  readonly #free: Caller[] = [];
  /** Which keys a caller sets. */
  readonly #indexes = new Map<Caller, number>();
  readonly #calls = new Map<Caller, Call>();
  /** In microseconds. */
  readonly #gets = createHistogram();
  readonly #sets = createHistogram();
  readonly #versions: Float64Array;
  #expiring = 0;
  #version: number;
  #made = 0;
  #startMs = 0;
  #isOver = false;
  #end: (error?: Error) => void = () => undefined;

  constructor(job: MixedJob) {
    this.#job = job;
    this.#versions = new Float64Array(job.keyCount);
    this.#version = job.firstVersion;
  }

  async run(): Promise<MixedResult> {
    const { address, callers, measureMs } = this.#job;
    const ended = new Promise<void>((resolve, reject) => {
      this.#end = (error) => (error ? reject(error) : resolve());
    });
    for (let n = 0; n < callers; n++) {
      const connection = await connectWire.open({
        address,
        streams: 1,
        expected: Buffer.alloc(0),
        answered: (caller) => this.#answered(caller),
        failed: (error) => this.#end(error),
      });
      this.#connections.push(connection);
      this.#free.push(...connection.callers);
      for (const caller of connection.callers) this.#indexes.set(caller, n);
    }
    this.#startMs = performance.now();
    const startCpu = process.cpuUsage();
    const timer = setInterval(() => this.#makeDue(), TICK_MS);
    this.#makeDue();
    await ended;
    clearInterval(timer);
    const elapsedMs = performance.now() - this.#startMs;
    const { user, system } = process.cpuUsage(startCpu);
    for (const connection of this.#connections) connection.close();
    return {
      elapsedMs,
      callsPerSecond: (this.#made * 1000) / Math.max(measureMs, elapsedMs),
      gets: timesOf(this.#gets),
      sets: timesOf(this.#sets),
      versions: [...this.#versions],
      expiring: this.#expiring,
      nextVersion: this.#version,
      loaderCpuUs: user + system,
    };
  }

  /** Makes the calls whose time has come, as far as callers are free. */
  #makeDue(): void {
    const { ratePerSecond, measureMs } = this.#job;
    const nowMs = performance.now();
    // A call whose time came before the end is made, however late.
    for (;;) {
      const dueMs = ratePerSecond === undefined ? nowMs : this.#startMs + (this.#made * 1000) / ratePerSecond;
      if (dueMs >= this.#startMs + measureMs) {
        this.#isOver = true;
        if (this.#calls.size === 0) this.#end();
        return;
      }
      if (dueMs > nowMs) return;
      const caller = this.#free.shift();
      if (caller === undefined) return;
      this.#made++;
      this.#make(caller, dueMs);
    }
  }

  #make(caller: Caller, dueMs: number): void {
    const { address, callers, keyCount, setShare, expiringShare, ttlMs } = this.#job;
    if (Math.random() >= setShare) {
      this.#calls.set(caller, { dueMs });
      const key = mixedKey(Math.floor(Math.random() * keyCount));
      const message = toBinary(GetRequestSchema, create(GetRequestSchema, { key }));
      return caller.call(connectWire.encode(message, { address, path: GET }));
    }
    const version = this.#version++;
    const isExpiring = Math.random() < expiringShare;
    const first = must(this.#indexes.get(caller), "every caller is counted");
    const own = Math.floor((keyCount - first - 1) / callers) + 1;
    const n = isExpiring ? undefined : first + callers * Math.floor(Math.random() * own);
    this.#calls.set(caller, { dueMs, set: { key: n, version } });
    const key = n === undefined ? `expiring/${version}` : mixedKey(n);
    const value = mixedValue(key, version);
    const set = create(SetRequestSchema, { key, value, ...(isExpiring && { ttlMs: BigInt(ttlMs) }) });
    caller.call(connectWire.encode(toBinary(SetRequestSchema, set), { address, path: SET }));
  }

  #answered(caller: Caller): void {
    const { dueMs, set } = this.#calls.get(caller)!;
    this.#calls.delete(caller);
    const tookUs = Math.max(1, Math.round((performance.now() - dueMs) * 1000));
    (set ? this.#sets : this.#gets).record(tookUs);
    if (set?.key !== undefined) this.#versions[set.key] = set.version;
    else if (set) this.#expiring++;
    this.#free.push(caller);
    if (!this.#isOver) this.#makeDue();
    else if (this.#calls.size === 0) this.#end();
  }
}

function timesOf(histogram: RecordableHistogram): CallTimes {
  const ms = (us: number): number => us / 1000;
  return {
    calls: histogram.count,
    p50Ms: ms(histogram.percentile(50)),
    p99Ms: ms(histogram.percentile(99)),
    p999Ms: ms(histogram.percentile(99.9)),
    longestMs: ms(histogram.max),
  };
}

work((job) => new MixedLoad(job as MixedJob).run());
