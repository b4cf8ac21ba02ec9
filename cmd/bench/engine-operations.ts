/** Every operation of one engine: how long it takes, and how long it makes others wait; and what memory the entries take. */
import { PerformanceObserver } from "node:perf_hooks";
import { setImmediate } from "node:timers/promises";
import { must } from "../../internal/base/assert.js";
import { type EpochMs, epochMs, type Seq, seq } from "../../internal/base/position.js";
import type { Engine } from "../../internal/engine/engine.js";
import { MapEngine } from "../../internal/engine/map-engine.js";
import { SlabEngine } from "../../internal/engine/slab-engine.js";
import type { EngineKind, Job, OperationsResult } from "./engine-job.js";
import { collect, KEY_BYTES, makeKeys, makeOrder, ranMs } from "./engine-workload.js";
import { median } from "./statistics.js";

const VALUE_BYTES = 100;
const OPERATIONS_A_TURN = 256;
/** Of gets and sets; the median counts. */
const ROUNDS = 3;
const SCANS = 2000;
/** Of a first measurement that does not count, in which the code is compiled. */
const WARM_UP = { entries: 5000, operations: 20_000 };
const SCAN_ENTRIES = 100;
/** So many keys at most fall due, all in one second. */
const EXPIRIES_MAX = 1_000_000;
const DUE_AT_ONCE = 256;
const NOW = epochMs(1_700_000_000_000);
const HOUR_MS = 3_600_000;
const SECOND_MS = 1000;

function create(kind: EngineKind): Engine {
  return kind === "map" ? new MapEngine() : new SlabEngine({ isOrdered: kind === "slab" });
}

/** A turn of the event loop: when it was, and how long the thread ran in it. */
interface Turn {
  readonly name: string;
  readonly startMs: number;
  readonly endMs: number;
  readonly ranMs: number;
}

/** Of the last turns so many are kept, to tell how long the thread ran while it collected. */
const TURNS_KEPT = 10_000;

class Measurement {
  readonly turns: Turn[] = [];
  /** What it finds is not looked at, memory least of all. */
  readonly #isWarmUp: boolean;
  readonly #engine: Engine;
  readonly #count: number;
  readonly #keys: Buffer;
  readonly #order: Uint32Array;
  readonly #value = Buffer.alloc(VALUE_BYTES, "v");
  #seq = 0;
  #longest: Turn | undefined;
  #residentBytes = 0;
  /** Keeps the optimiser from leaving out what nobody looks at. */
  #sum = 0;

  constructor({ engine, entries, operations }: Job<"operations">, isWarmUp = false) {
    this.#isWarmUp = isWarmUp;
    this.#count = entries;
    this.#keys = makeKeys(entries);
    this.#order = makeOrder(entries, operations);
    this.#engine = create(engine);
  }

  async run(): Promise<Omit<OperationsResult, "longestCollectionMs">> {
    if (!this.#isWarmUp) await collect(this.#count);
    this.#residentBytes = process.memoryUsage.rss();
    const count = this.#count;
    const fillNs = await this.#turns("fill", count, (n) => this.#put(n));
    const residentBytes = await this.#resident();
    const getNs = await this.#rounds("get", (n) => this.#get(this.#order[n]!));
    const setNs = await this.#rounds("set", (n) => this.#put(this.#order[n]!));
    const scanNs = this.#engine.isOrdered
      ? (await this.#turns("scan", SCANS, (n) => this.#scan(this.#order[n]!), 2)) / SCAN_ENTRIES
      : undefined;
    const walkNs = await this.#walk();
    const expiries = Math.min(EXPIRIES_MAX, Math.ceil(count / 2));
    const armNs = await this.#turns("arm", expiries, (n) => this.#put(n, epochMs(NOW + HOUR_MS + (n % SECOND_MS))));
    const expireNs = await this.#expire(expiries);
    const tenth = Math.max(expiries, Math.floor(count * 0.9));
    const deleteNs = await this.#turns("delete", tenth - expiries, (n) => this.#delete(n + expiries));
    const left = count - tenth;
    const residentBytesOfTenth = (await this.#resident()) * (count / left);
    await this.#turns("delete", left, (n) => this.#delete(n + tenth));
    if (Number.isNaN(this.#sum)) throw new Error("a byte that was read was none");
    if (this.#engine.entryCount !== 0) throw new Error(`${this.#engine.entryCount} entries are left of none`);
    return {
      fillNs,
      getNs,
      setNs,
      ...(scanNs !== undefined && { scanNs }),
      walkNs,
      armNs,
      expireNs,
      deleteNs,
      residentBytes,
      residentBytesOfTenth,
      residentBytesAfter: await this.#resident(),
      longestTurnMs: this.#longest?.ranMs ?? NaN,
      longestTurnIn: this.#longest?.name ?? "",
    };
  }

  #put(n: number, expiresAtMs?: EpochMs): void {
    const key = this.#keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES);
    const put = { kind: "put", key, value: this.#value } as const;
    this.#engine.apply(this.#nextSeq(), NOW, expiresAtMs === undefined ? put : { ...put, expiresAtMs });
  }

  #get(n: number): void {
    const entry = this.#engine.getIn(this.#keys, n * KEY_BYTES, (n + 1) * KEY_BYTES, NOW);
    this.#sum += must(entry, "every key is there").value[VALUE_BYTES - 1]!;
  }

  #delete(n: number): void {
    const key = this.#keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES);
    this.#engine.apply(this.#nextSeq(), NOW, { kind: "delete", key });
  }

  #scan(n: number): void {
    const scan = this.#engine.scan({ start: this.#keys.subarray(n * KEY_BYTES, (n + 1) * KEY_BYTES) }, NOW);
    for (let left = SCAN_ENTRIES; left > 0; left--) {
      const step = scan.next();
      if (step.done) return;
      this.#sum += step.value.value[0]!;
    }
  }

  async #walk(): Promise<number> {
    const walk = this.#engine.walk(seq(this.#seq));
    return this.#turns("walk", this.#count, () => {
      const step = walk.next();
      if (step.done) throw new Error("the walk ended before it had met every entry");
      this.#sum += step.value.value[0]!;
    });
  }

  async #expire(count: number): Promise<number> {
    const now = epochMs(NOW + HOUR_MS + SECOND_MS);
    return this.#turns(
      "expire",
      Math.ceil(count / DUE_AT_ONCE),
      () => {
        const due = this.#engine.due(now, DUE_AT_ONCE);
        for (const { key, modSeq } of due) this.#engine.apply(this.#nextSeq(), now, { kind: "expire", key, modSeq });
      },
      1,
    ).then((ns) => ns / Math.min(count, DUE_AT_ONCE));
  }

  #nextSeq(): Seq {
    return ++this.#seq as Seq;
  }

  async #rounds(name: string, operation: (n: number) => void): Promise<number> {
    const rounds: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      rounds.push(await this.#turns(name, this.#order.length, operation));
    }
    return median(rounds);
  }

  /** Does an operation so often, few in each turn of the event loop; how many nanoseconds each took. */
  async #turns(
    name: string,
    count: number,
    operation: (n: number) => void,
    operationsATurn = OPERATIONS_A_TURN,
  ): Promise<number> {
    let totalMs = 0;
    for (let n = 0; n < count;) {
      const startMs = performance.now();
      const startRanMs = ranMs();
      for (const end = Math.min(count, n + operationsATurn); n < end; n++) operation(n);
      totalMs += ranMs() - startRanMs;
      // The loop's own work belongs to the turn: collections may come in it.
      await setImmediate();
      this.#note({ name, startMs, endMs: performance.now(), ranMs: ranMs() - startRanMs });
    }
    return (totalMs * 1e6) / count;
  }

  #note(turn: Turn): void {
    if (this.#longest === undefined || turn.ranMs > this.#longest.ranMs) this.#longest = turn;
    this.turns.push(turn);
    if (this.turns.length > 2 * TURNS_KEPT) this.turns.splice(0, TURNS_KEPT);
  }

  /** What came with the entries. */
  async #resident(): Promise<number> {
    if (!this.#isWarmUp) await collect(this.#count);
    return (process.memoryUsage.rss() - this.#residentBytes) / this.#count;
  }
}

export async function measureOperations(job: Job<"operations">): Promise<OperationsResult> {
  await new Measurement({ ...job, ...WARM_UP }, true).run();
  const measurement = new Measurement(job);
  let longestCollectionMs = 0;
  const collections = new PerformanceObserver((list) => {
    for (const { duration, startTime } of list.getEntries()) {
      const turn = measurement.turns.findLast(({ startMs, endMs }) => startMs <= startTime && startTime <= endMs);
      // Between the turns this program asks for collections itself, to know what is resident. Within, the collector may have
      // waited for a processor; it ran no longer than its thread.
      if (turn) longestCollectionMs = Math.max(longestCollectionMs, Math.min(duration, turn.ranMs));
    }
  });
  collections.observe({ entryTypes: ["gc"] });
  const result = await measurement.run();
  return { ...result, longestCollectionMs };
}
