/**
 * The engine off the V8 heap: entries in blocks of slabs, found by a hash index, in order by a tree of ids, with no
 * JavaScript object an entry. What it hands out are views of its blocks. DESIGN.md beside this file draws how it lies in memory.
 */
import type { EpochMs, Seq } from "../base/position.js";
import { assert, unreachable } from "../base/assert.js";
import { Chance } from "./chance.js";
import { DeadlineWheel } from "./deadline-wheel.js";
import {
  accountedBytesOf,
  type Engine,
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  type EvictionPolicy,
  type KeyedEntry,
  type KeyRange,
  type KeyVersion,
  type Operation,
} from "./engine.js";
import { EntryBlocks } from "./entry-blocks.js";
import { EntryIds } from "./entry-ids.js";
import { EntryOrder } from "./entry-order.js";
import { ABSENT, HashIndex } from "./hash-index.js";
import { type HashSeed, KeyHash, randomHashSeed } from "./hash-index-hash.js";
import { NO_ID } from "./ordered-index.js";
import { COUNT_NEW, UseClock } from "./use-clock.js";
import { type Candidates, Victims } from "./victims.js";

export interface SlabEngineOptions {
  /** Whether keys are kept in order, as `scan` needs; absent: they are. It costs memory, and time when keys come and go. */
  readonly isOrdered?: boolean;
  /** For tests; absent: by chance, as it must be where callers choose keys. */
  readonly seed?: HashSeed;
}

export class SlabEngine implements Engine {
  readonly isOrdered: boolean;
  readonly #hash: KeyHash;
  #ids!: EntryIds;
  #blocks!: EntryBlocks;
  #index!: HashIndex;
  #order: EntryOrder | undefined;
  /** There is none before the first deadline. */
  #deadlines: DeadlineWheel | undefined;
  readonly #clock: UseClock;
  readonly #victims: Victims;
  #dataBytes = 0;
  #checksum = 0;

  constructor({ isOrdered = true, seed = randomHashSeed() }: SlabEngineOptions = {}) {
    this.isOrdered = isOrdered;
    this.#hash = new KeyHash(seed);
    const chance = new Chance(seed[0] ^ seed[1]);
    this.#clock = new UseClock(chance);
    this.#victims = new Victims(this.#candidates(), chance);
    this.clear();
  }

  get entryCount(): number {
    return this.#index.count;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  get checksum(): number {
    return this.#checksum;
  }

  get accountedBytes(): number {
    return this.#dataBytes + this.entryCount * ENTRY_OVERHEAD_BYTES;
  }

  get nextDueMs(): number {
    return this.#deadlines?.nextDueMs ?? Infinity;
  }

  /** Bytes of memory that are held, whether they are in use or not. */
  get bytesTotal(): number {
    return (
      this.#blocks.bytesTotal +
      this.#index.bytesTotal +
      this.#ids.bytesTotal +
      (this.#order?.bytesTotal ?? 0) +
      (this.#deadlines?.bytesTotal ?? 0)
    );
  }

  get(key: Uint8Array, nowMs: EpochMs): Entry | undefined {
    return this.getIn(key, 0, key.length, nowMs);
  }

  getIn(bytes: Uint8Array, start: number, end: number, nowMs: EpochMs): Entry | undefined {
    const location = this.#index.find(this.#hash.of(bytes, start, end), bytes, start, end);
    if (location === ABSENT) return undefined;
    const deadlineMs = this.#blocks.deadlineAt(location);
    if (deadlineMs <= nowMs) return undefined;
    this.#use(location);
    return this.#entryAt(location, deadlineMs);
  }

  apply(seq: Seq, timestampMs: EpochMs, operation: Operation): void {
    if (operation.kind === "delete-range") {
      this.#deleteRange(seq, operation);
      return;
    }
    const { key } = operation;
    const hash = this.#hash.of(key, 0, key.length);
    const before = this.#index.find(hash, key, 0, key.length);
    if (before !== ABSENT && this.#blocks.modSeqAt(before) > seq) return;
    switch (operation.kind) {
      case "put": {
        const createSeq = this.#isPresent(before, seq, timestampMs) ? this.#blocks.createSeqAt(before) : seq;
        this.#put(hash, before, key, operation.value, createSeq, seq, operation.expiresAtMs ?? Infinity);
        break;
      }
      case "delete":
        if (before !== ABSENT) this.#remove(hash, before, key);
        break;
      case "expire":
      case "evict":
        if (before !== ABSENT && this.#blocks.modSeqAt(before) === operation.modSeq) this.#remove(hash, before, key);
        break;
      default:
        unreachable(operation);
    }
    this.#blocks.tidy();
  }

  *walk(createdUpTo: Seq): Generator<KeyedEntry, undefined> {
    const [ids, blocks] = [this.#ids, this.#blocks];
    // Entries that come later may have ids beyond, but were created later too.
    const end = ids.end;
    for (let id = ids.nextFrom(0, end); id < end; id = ids.nextFrom(id + 1, end)) {
      const location = ids.locationOf(id);
      if (blocks.createSeqAt(location) <= createdUpTo) yield this.#keyedAt(location);
    }
  }

  scan(range: KeyRange, nowMs: EpochMs, reverse = false): Iterator<KeyedEntry, undefined> {
    assert(this.#order, "an engine that is scanned keeps its keys in order");
    return reverse ? this.#scanDown(this.#order, range, nowMs) : this.#scanUp(this.#order, range, nowMs);
  }

  due(nowMs: EpochMs, countMax: number): readonly KeyVersion[] {
    const ids = this.#deadlines?.due(nowMs, countMax) ?? [];
    return ids.map((id) => this.#versionOf(this.#ids.locationOf(id)));
  }

  victim(policy: EvictionPolicy): (KeyVersion & { readonly accountedBytes: number }) | undefined {
    const id = this.#victims.next(policy);
    if (id === NO_ID) return undefined;
    const location = this.#ids.locationOf(id);
    const bytes = accountedBytesOf(this.#blocks.keyBytesAt(location), this.#blocks.valueBytesAt(location));
    return { ...this.#versionOf(location), accountedBytes: bytes };
  }

  restore(entry: KeyedEntry): void {
    const { key, value, createSeq, modSeq, expiresAtMs = Infinity } = entry;
    const hash = this.#hash.of(key, 0, key.length);
    this.#put(hash, this.#index.find(hash, key, 0, key.length), key, value, createSeq, modSeq, expiresAtMs);
  }

  clear(): void {
    this.#ids = new EntryIds();
    this.#blocks = new EntryBlocks({
      locationOf: (id) => this.#ids.locationOf(id),
      moved: (id, from, to) => this.#moved(id, from, to),
    });
    this.#index = new HashIndex(this.#blocks);
    this.#order = this.isOrdered ? new EntryOrder(this.#ids, this.#blocks) : undefined;
    this.#deadlines = undefined;
    this.#victims.clear();
    this.#dataBytes = 0;
    this.#checksum = 0;
  }

  #deleteRange(seq: Seq, { start, end }: KeyRange): void {
    const keys: Uint8Array[] = [];
    const walk = this.walk(seq);
    for (let step = walk.next(); !step.done; step = walk.next()) {
      const { key, modSeq } = step.value;
      const isWithin = Buffer.compare(key, start) >= 0 && (!end || Buffer.compare(key, end) < 0);
      if (isWithin && modSeq < seq) keys.push(new Uint8Array(key));
    }
    for (const key of keys) {
      const hash = this.#hash.of(key, 0, key.length);
      this.#remove(hash, this.#index.find(hash, key, 0, key.length), key);
    }
  }

  /** Gives back some of the memory that is not needed any more, as operations do too. Returns whether there is more to do. */
  tidy(): boolean {
    return this.#blocks.tidy();
  }

  #isPresent(location: number, seq: Seq, nowMs: EpochMs): boolean {
    if (location === ABSENT) return false;
    return this.#blocks.modSeqAt(location) === seq || this.#blocks.deadlineAt(location) > nowMs;
  }

  #put(
    hash: number,
    before: number,
    key: Uint8Array,
    value: Uint8Array,
    createSeq: number,
    modSeq: number,
    deadlineMs: number,
  ): void {
    if (before === ABSENT) this.#create(hash, key, value, createSeq, modSeq, deadlineMs);
    else this.#overwrite(hash, before, key, value, createSeq, modSeq, deadlineMs);
  }

  #create(
    hash: number,
    key: Uint8Array,
    value: Uint8Array,
    createSeq: number,
    modSeq: number,
    deadlineMs: number,
  ): void {
    const location = this.#blocks.write(ABSENT, key, value);
    const id = this.#ids.take(location);
    this.#blocks.setId(location, id);
    this.#checksum = (this.#checksum + this.#blocks.stamp(location, createSeq, modSeq, deadlineMs)) >>> 0;
    this.#dataBytes += key.length + value.length;
    this.#blocks.setUse(location, this.#clock.use(), COUNT_NEW);
    this.#index.add(hash, location);
    this.#order?.add(id, key);
    if (deadlineMs !== Infinity) this.#addDeadline(id, deadlineMs);
  }

  #overwrite(
    hash: number,
    before: number,
    key: Uint8Array,
    value: Uint8Array,
    createSeq: number,
    modSeq: number,
    deadlineMs: number,
  ): void {
    const blocks = this.#blocks;
    const id = blocks.idAt(before);
    if (blocks.deadlineAt(before) !== Infinity) this.#deadlines!.remove(id);
    this.#victims.forget(id);
    const others = this.#checksum - blocks.checksumAt(before);
    this.#dataBytes += value.length - blocks.valueBytesAt(before);
    const location = blocks.write(before, key, value);
    if (location !== before) {
      this.#ids.move(id, location);
      this.#index.move(hash, before, location);
    }
    this.#checksum = (others + blocks.stamp(location, createSeq, modSeq, deadlineMs)) >>> 0;
    this.#use(location);
    if (deadlineMs !== Infinity) this.#addDeadline(id, deadlineMs);
  }

  #remove(hash: number, location: number, key: Uint8Array): void {
    const blocks = this.#blocks;
    const id = blocks.idAt(location);
    this.#checksum = (this.#checksum - blocks.checksumAt(location)) >>> 0;
    this.#dataBytes -= key.length + blocks.valueBytesAt(location);
    if (blocks.deadlineAt(location) !== Infinity) this.#deadlines!.remove(id);
    this.#victims.forget(id);
    this.#order?.delete(id, key);
    this.#index.delete(hash, location);
    this.#ids.give(id);
    blocks.free(location);
  }

  #addDeadline(id: number, deadlineMs: number): void {
    this.#deadlines ??= new DeadlineWheel((id) => this.#blocks.deadlineAt(this.#ids.locationOf(id)));
    this.#deadlines.add(id, deadlineMs);
  }

  #use(location: number): void {
    const [blocks, clock] = [this.#blocks, this.#clock];
    const moments = clock.since(blocks.lastUseAt(location));
    const count = clock.fallen(blocks.usesAt(location), moments, this.#index.count);
    blocks.setUse(location, clock.use(), clock.raised(count));
  }

  #candidates(): Candidates {
    const idOf = (location: number): number => (location === ABSENT ? NO_ID : this.#blocks.idAt(location));
    const lastUseOf = (id: number): number => this.#blocks.lastUseAt(this.#ids.locationOf(id));
    return {
      count: () => this.#index.count,
      sample: (random) => idOf(this.#index.sample(random)),
      nextFrom: (id) => this.#ids.nextAround(id),
      isThere: (id) => this.#ids.isThere(id),
      lastUse: (id) => this.#clock.placeOf(lastUseOf(id)),
      uses: (id) => {
        const uses = this.#blocks.usesAt(this.#ids.locationOf(id));
        return this.#clock.fallen(uses, this.#clock.since(lastUseOf(id)), this.#index.count);
      },
      soonest: (isWanted) => this.#deadlines?.soonest(isWanted) ?? NO_ID,
    };
  }

  /** The block of an entry was moved, to give back memory. */
  #moved(id: number, from: number, to: number): void {
    const start = this.#blocks.keyStartAt(to);
    const hash = this.#hash.of(this.#blocks.bytesAt(to), start, start + this.#blocks.keyBytesAt(to));
    this.#index.move(hash, from, to);
    this.#ids.move(id, to);
  }

  *#scanUp(order: EntryOrder, { start, end }: KeyRange, nowMs: EpochMs): Generator<KeyedEntry, undefined> {
    for (let id = order.from(start); id !== NO_ID; id = order.next()) {
      const location = this.#ids.locationOf(id);
      if (end && this.#blocks.compareKey(location, end, 0, end.length) >= 0) return;
      if (this.#blocks.deadlineAt(location) > nowMs) yield this.#keyedAt(location);
    }
  }

  *#scanDown(order: EntryOrder, { start, end }: KeyRange, nowMs: EpochMs): Generator<KeyedEntry, undefined> {
    for (let id = order.before(end); id !== NO_ID; id = order.previous()) {
      const location = this.#ids.locationOf(id);
      if (this.#blocks.compareKey(location, start, 0, start.length) < 0) return;
      if (this.#blocks.deadlineAt(location) > nowMs) yield this.#keyedAt(location);
    }
  }

  #entryAt(location: number, deadlineMs: number): Entry {
    const blocks = this.#blocks;
    const value = blocks.valueAt(location);
    const createSeq = blocks.createSeqAt(location) as Seq;
    const modSeq = blocks.modSeqAt(location) as Seq;
    return deadlineMs === Infinity
      ? { value, createSeq, modSeq }
      : { value, createSeq, modSeq, expiresAtMs: deadlineMs as EpochMs };
  }

  #versionOf(location: number): KeyVersion {
    return { key: this.#blocks.keyAt(location).slice(), modSeq: this.#blocks.modSeqAt(location) as Seq };
  }

  #keyedAt(location: number): KeyedEntry {
    const blocks = this.#blocks;
    const key = blocks.keyAt(location);
    const value = blocks.valueAt(location);
    const createSeq = blocks.createSeqAt(location) as Seq;
    const modSeq = blocks.modSeqAt(location) as Seq;
    const deadlineMs = blocks.deadlineAt(location);
    return deadlineMs === Infinity
      ? { key, value, createSeq, modSeq }
      : { key, value, createSeq, modSeq, expiresAtMs: deadlineMs as EpochMs };
  }
}
