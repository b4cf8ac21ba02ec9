/**
 * For tests: random operations on the engine off the heap and on the map beside it: the two must be equal all along, and so
 * must an engine that was loaded from a walk of the first while operations went on, and then caught up, as a start from a
 * snapshot and the log is, and from then on goes on with the others.
 */
import { expect } from "vitest";
import { crc32 } from "../../base/crc32.js";
import { type EpochMs, epochMs, seq } from "../../base/position.js";
import { Chance } from "../chance.js";
import type { Engine, KeyedEntry, KeyValueBytes, KeyVersion, Operation, Removal } from "../engine.js";
import { entryChecksum } from "../entry-checksum.js";
import { EntryRun, RUN_ENTRIES_MAX } from "../entry-run.js";
import { MapEngine } from "../map-engine.js";
import { SlabEngine } from "../slab-engine.js";

const KEYS = 3000;

interface Step {
  readonly seq: number;
  readonly timestampMs: EpochMs;
  readonly operation: Operation;
}

/** What happens, by chance: phases of growth and of deletion, values of all sizes, deadlines soon and far, time that jumps. */
class Life {
  readonly #chance: Chance;
  #seq = 0;
  #timeMs = 1_700_000_000_000;
  #isGrowing = true;
  readonly #pattern: Buffer;

  constructor(seed: number) {
    this.#chance = new Chance(seed);
    this.#pattern = Buffer.from(Array.from({ length: 4096 }, () => this.#chance.bits() & 255));
  }

  get nowMs(): EpochMs {
    return epochMs(this.#timeMs);
  }

  get seq(): number {
    return this.#seq;
  }

  below(n: number): number {
    return (this.#chance.bits() >>> 0) % n;
  }

  next(engine: Engine): Step {
    if (this.below(4000) === 0) this.#isGrowing = !this.#isGrowing;
    this.#timeMs += this.below(2000) === 0 ? this.below(5_000_000) : this.below(5);
    // Operations of one record share its seq.
    if (this.below(4) > 0) this.#seq++;
    return { seq: Math.max(1, this.#seq), timestampMs: this.nowMs, operation: this.#operation(engine) };
  }

  /** Seldom more than a few keys are due otherwise. */
  letTimePass(): void {
    this.#timeMs += this.below(20_000_000);
  }

  /** What a record removes together: what is due, now and then twice, as another record has left it, or not there at all. */
  removals(due: readonly KeyVersion[]): Removal[] {
    const removals: Removal[] = [];
    for (const version of due) {
      removals.push({ kind: "expire", ...version });
      if (this.below(20) === 0) removals.push({ kind: "expire", ...version });
      if (this.below(20) === 0) removals.push({ kind: "evict", key: this.key(), modSeq: version.modSeq });
    }
    return removals;
  }

  key(): Buffer {
    const n = this.below(KEYS);
    // Some keys are empty, long, or alike at their beginnings or ends.
    switch (n % 50) {
      case 0:
        return Buffer.from("x".repeat(n % 5000));
      case 1:
        return Buffer.from("\0".repeat(n % 40));
      case 2:
        return Buffer.from(`${"ÿ".repeat(n % 30)}${n}`, "latin1");
      default:
        return Buffer.from(`${n % 7}/key/${n}`);
    }
  }

  #operation(engine: Engine): Operation {
    if (this.below(300) === 0) return this.#deleteRange();
    const choice = this.below(100);
    if (choice < 4) {
      const [due] = engine.due(this.nowMs, 1);
      if (due) return { kind: "expire", ...due };
    } else if (choice < 6) {
      const victim = engine.victim((["lru", "lfu", "random", "ttl"] as const)[this.below(4)]!);
      if (victim) return { kind: "evict", key: victim.key, modSeq: victim.modSeq };
    }
    const key = this.key();
    if (choice >= (this.#isGrowing ? 85 : 35)) return { kind: "delete", key };
    const put = { kind: "put", key, value: this.#value() } as const;
    return this.below(3) > 0 ? put : { ...put, expiresAtMs: epochMs(this.#timeMs + this.below(this.#deadlineRange())) };
  }

  /** Of some keys most often, of a good part of all now and then. */
  #deleteRange(): Operation {
    const start = this.key();
    const after = Buffer.concat([start, Buffer.of(0)]);
    switch (this.below(20)) {
      case 0:
        return { kind: "delete-range", start: Buffer.alloc(0) };
      case 1:
        return { kind: "delete-range", start };
      case 2:
        return { kind: "delete-range", start, end: after };
      case 3:
        return { kind: "delete-range", start, end: this.key() };
      default: {
        const prefix = `${this.below(7)}/key/${this.below(40)}`;
        return { kind: "delete-range", start: Buffer.from(prefix), end: Buffer.from(`${prefix}ÿ`, "latin1") };
      }
    }
  }

  #deadlineRange(): number {
    return [10, 5000, 20_000_000, 2 ** 40][this.below(4)]!;
  }

  #value(): Buffer {
    const range = [20, 200, 2000, 20_000][this.below(10) < 9 ? this.below(3) : 3]!;
    const length = this.below(3000) === 0 ? 200_000 + this.below(100_000) : this.below(range);
    const from = this.below(1000);
    return length <= 3000 ? this.#pattern.subarray(from, from + length) : Buffer.alloc(length, this.#pattern);
  }
}

/** As text, which is compared and shown in a moment. */
function shown({ key, value, createSeq, modSeq, expiresAtMs }: KeyedEntry): string {
  const bytes = Buffer.from(value.buffer, value.byteOffset, value.length);
  const content = value.length > 60 ? `${value.length} bytes ${crc32(bytes)}` : bytes.toString("hex");
  return `${Buffer.from(key).toString("hex")}=${content} ${createSeq} ${modSeq} ${expiresAtMs ?? "never"}`;
}

function listOf(entries: Iterator<KeyedEntry, undefined>): string[] {
  const found: string[] = [];
  for (let step = entries.next(); !step.done; step = entries.next()) found.push(shown(step.value));
  return found;
}

function numbersOf(engine: Engine): object {
  const { entryCount, dataBytes, accountedBytes, checksum } = engine;
  return { entryCount, dataBytes, accountedBytes, checksum };
}

/** Carries out what is left of deletions of ranges, in whatever portions. */
function settle(engine: Engine, life: Life): void {
  while (engine.removeHidden(1 + life.below(100)));
  expect(engine.isSettled).toBe(true);
}

/** What was hidden and what was removed look alike. */
function expectEqual(engine: Engine, oracle: Engine, life: Life): void {
  expectEqualWalks(engine, oracle, life);
  const all = { start: Buffer.alloc(0) };
  expect(listOf(engine.scan(all, epochMs(0)))).toEqual(listOf(oracle.scan(all, epochMs(0))));
  expect(engine.count(all, life.nowMs, undefined, Infinity)).toEqual(
    oracle.count(all, life.nowMs, undefined, Infinity),
  );
  for (let i = 0; i < 5; i++) {
    const [start, end] = [life.key(), life.key()];
    for (const range of [{ start }, { start, end }]) {
      for (const isReverse of [false, true]) {
        const found = listOf(engine.scan(range, life.nowMs, isReverse));
        expect(found).toEqual(listOf(oracle.scan(range, life.nowMs, isReverse)));
      }
    }
  }
}

function expectEqualWalks(engine: Engine, oracle: Engine, life: Life): void {
  if (engine.isSettled) expect(numbersOf(engine)).toEqual(numbersOf(oracle));
  expect(listOf(engine.walk(seq(life.seq))).sort()).toEqual(listOf(oracle.walk(seq(life.seq))).sort());
}

/** A key and a value in the middle of other bytes. */
function inBytes(entry: Pick<KeyedEntry, "key" | "value" | "expiresAtMs">): KeyValueBytes {
  const { key, value } = entry;
  const bytes = Buffer.concat([Buffer.from("before"), key, Buffer.from("between"), value, Buffer.from("after")]);
  const [keyEnd, valueEnd] = [6 + key.length, bytes.length - 5];
  const [keyIn, valueIn] = [bytes, bytes];
  return {
    keyIn,
    keyStart: 6,
    keyEnd,
    valueIn,
    valueStart: keyEnd + 7,
    valueEnd,
    deadlineMs: entry.expiresAtMs ?? Infinity,
  };
}

function carryOut(engine: Engine, { seq: n, timestampMs, operation }: Step, life: Life): void {
  if (operation.kind === "put" && life.below(2) === 0) engine.applyPut(seq(n), timestampMs, inBytes(operation));
  else engine.apply(seq(n), timestampMs, operation);
}

/** As one record; each engine finds as many of them. */
function removeTogether(engines: readonly Engine[], removals: readonly Removal[], life: Life): Step[] {
  const steps = removals.map((removal) => ({
    seq: Math.max(1, life.seq),
    timestampMs: life.nowMs,
    operation: removal,
  }));
  const [first, ...others] = engines.map((each) =>
    each.applyRemovals(seq(Math.max(1, life.seq)), life.nowMs, removals),
  );
  for (const other of others) expect(other).toBe(first);
  return steps;
}

/** The same with many, puts that follow on each other now and then together. */
function carryOutAll(engine: Engine, steps: readonly Step[], life: Life): void {
  for (let at = 0; at < steps.length;) {
    const puts: RunEntry[] = [];
    const most = life.below(3) === 0 ? 1 + life.below(RUN_ENTRIES_MAX) : 0;
    for (let next = steps[at]; puts.length < most && next?.operation.kind === "put"; next = steps[at + puts.length])
      puts.push({ ...next.operation, createSeq: seq(next.seq), modSeq: seq(next.seq), timestampMs: next.timestampMs });
    if (puts.length > 0) engine.applyPuts(runOf(puts));
    else carryOut(engine, steps[at]!, life);
    at += Math.max(1, puts.length);
  }
}

function restore(engine: Engine, entries: readonly KeyedEntry[], life: Life): void {
  if (life.below(2) === 0) {
    const sum = entries.reduce((sum, entry) => (sum + entryChecksum(entry.key, entry)) >>> 0, 0);
    const run = runOf(entries.map((entry) => ({ ...entry, timestampMs: epochMs(0) })));
    expect(engine.restoreAll(run)).toBe(sum);
    return;
  }
  for (const entry of entries) {
    if (life.below(2) === 0) engine.restore(entry);
    else expect(engine.restoreFrom({ ...entry, ...inBytes(entry) })).toBe(entryChecksum(entry.key, entry));
  }
}

type RunEntry = Omit<KeyedEntry, "expiresAtMs"> & {
  readonly expiresAtMs?: EpochMs | undefined;
  readonly timestampMs: EpochMs;
};

/** Entries one after another in the middle of other bytes. */
export function runOf(entries: readonly RunEntry[]): EntryRun {
  const pieces: Uint8Array[] = [Buffer.from("odd")];
  let at = 3;
  const places = entries.map(({ key, value, expiresAtMs = Infinity }) => {
    const keyStart = at;
    const keyEnd = keyStart + key.length;
    const valueStart = keyEnd + 1;
    at = valueStart + value.length;
    pieces.push(key, Buffer.from("-"), value);
    return { keyStart, keyEnd, valueStart, valueEnd: at, deadlineMs: expiresAtMs };
  });
  const bytes = Buffer.concat(pieces);
  const run = new EntryRun();
  run.begin(bytes);
  entries.forEach(({ createSeq, modSeq, timestampMs }, n) =>
    run.add({ keyIn: bytes, valueIn: bytes, ...places[n]! }, createSeq, modSeq, timestampMs),
  );
  return run;
}

/** A read of a key in the middle of other bytes. */
function readIn(engine: Engine, key: Buffer, nowMs: EpochMs): string {
  const bytes = Buffer.concat([Buffer.from("before"), key, Buffer.from("after")]);
  const entry = engine.getIn(bytes, 6, 6 + key.length, nowMs);
  return entry ? shown({ key, ...entry }) : "absent";
}

export function proveEngineModel(seed: number, operations: number): void {
  /** After so many the engines are compared entry by entry. */
  const slice = Math.max(5000, operations / 40);
  const life = new Life(seed);
  const [engine, oracle] = [new SlabEngine(), new MapEngine()];
  const unordered = new SlabEngine({ isOrdered: false });
  let unsettled = 0;
  let manyTogether = 0;
  let copy: Engine = new SlabEngine();
  let copies = 0;
  let walk: Iterator<KeyedEntry, undefined> | undefined;
  let missed: Step[] = [];
  for (let count = 1; count <= operations; count++) {
    const step = life.next(engine);
    const { operation } = step;
    // What is due, and what could go to make room, is there.
    if (operation.kind === "expire" || operation.kind === "evict")
      expect(oracle.get(operation.key, epochMs(0))?.modSeq).toBe(operation.modSeq);
    for (const each of [engine, oracle, unordered]) carryOut(each, step, life);
    if (copies > 0 && !walk) carryOut(copy, step, life);
    if (!engine.isSettled) unsettled++;
    if (life.below(20) === 0) engine.removeHidden(life.below(30));
    if (life.below(20) === 0) unordered.removeHidden(life.below(300));
    if (life.below(1000) === 0) settle(engine, life);
    if (walk) missed.push(step);
    if (life.below(400) === 0) {
      life.letTimePass();
      // Of some 64 on, neighbours are named together where more are due.
      const countMax = life.below(2) === 0 ? 64 : 1 + life.below(300);
      const due = engine.due(life.nowMs, countMax);
      const engines = [engine, oracle, unordered, ...(copies > 0 && !walk ? [copy] : [])];
      const steps = removeTogether(engines, life.removals(due), life);
      if (walk) missed.push(...steps);
      if (due.length >= 64 && due.length === countMax) manyTogether++;
    }
    if (count % 7 === 0) engine.tidy();
    const key = life.key();
    const [found, expected] = [readIn(engine, key, life.nowMs), readIn(oracle, key, life.nowMs)];
    if (found !== expected) expect(found).toBe(expected);
    if (count % 10 === 0) expect(readIn(unordered, key, life.nowMs)).toBe(expected);
    // What a snapshot does: a few entries at a time, and then what was written meanwhile.
    if (walk && count % 3 === 0) {
      const entries: KeyedEntry[] = [];
      let isOver = false;
      const most = 1 + life.below(3);
      while (entries.length < most && !isOver) {
        const step = walk.next();
        isOver = step.done === true;
        if (step.done) break;
        // What is handed out is valid until the next step.
        entries.push({ ...step.value, key: step.value.key.slice(), value: step.value.value.slice() });
      }
      restore(copy, entries, life);
      if (isOver) {
        carryOutAll(copy, missed, life);
        while (copy.endLoad());
        expectEqual(copy, oracle, life);
        if (life.below(2) === 0) settle(copy, life);
        expectEqual(copy, oracle, life);
        walk = undefined;
        copies++;
      }
    } else if (!walk && life.below(2000) === 0) {
      if (copies > 0) expectEqual(copy, oracle, life);
      copy = life.below(8) === 0 ? new MapEngine() : new SlabEngine();
      if (life.below(4) > 0) copy.beginLoad();
      missed = [];
      walk = engine.walk(seq(life.seq));
    }
    if (count % slice === 0) {
      expectEqual(engine, oracle, life);
      expectEqualWalks(unordered, oracle, life);
    }
  }
  for (const each of [engine, unordered]) settle(each, life);
  if (copies > 0 && !walk) expectEqual(copy, oracle, life);
  expectEqual(engine, oracle, life);
  expectEqualWalks(unordered, oracle, life);
  // What never came up would not have been shown.
  expect(unsettled).toBeGreaterThan(operations / 50);
  expect(manyTogether).toBeGreaterThan(0);
  expect(copies).toBeGreaterThan(operations / 100_000);
}
