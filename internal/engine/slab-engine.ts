/**
 * The engine off the V8 heap: entries in blocks of slabs, found by a hash index, in order by a tree of ids, with no
 * JavaScript object an entry. What it hands out are views of its blocks. DESIGN.md beside this file draws how it lies in memory.
 */
import { type EpochMs, type Seq, seq as toSeq } from "../base/position.js";
import { assert, must, unreachable } from "../base/assert.js";
import { Chance } from "./chance.js";
import { DeadlineWheel } from "./deadline-wheel.js";
import {
  accountedBytesOf,
  type Engine,
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  type EntryBytes,
  type EvictionPolicy,
  type KeyCount,
  type KeyedEntry,
  type KeyOperation,
  type KeyRange,
  type KeyValueBytes,
  type KeyVersion,
  type Operation,
  type Removal,
  type ScanBudget,
  type WalkedEntry,
} from "./engine.js";
import { EntryBlocks } from "./entry-blocks.js";
import { EntryIds } from "./entry-ids.js";
import { EntryOrder } from "./entry-order.js";
import { type EntryRun, RUN_ENTRIES_MAX } from "./entry-run.js";
import { ABSENT, HashIndex } from "./hash-index.js";
import { type HashSeed, KeyHash, randomHashSeed } from "./hash-index-hash.js";
import { HiddenEntries } from "./hidden-entries.js";
import { KeyWindows } from "./key-windows.js";
import { LocatedKeys } from "./located-keys.js";
import { NO_ID } from "./ordered-index.js";
import { compareBytes } from "./slab-bytes.js";
import { COUNT_NEW, UseClock } from "./use-clock.js";
import { type Candidates, Victims } from "./victims.js";

const NOTHING: Uint8Array = new Uint8Array(0);
const NO_SEQ = toSeq(0);
/** Entries that a deletion of a range looks at itself. */
const LOOKS_A_DELETION = 16;
/** Keys that expire together leave most of what they free to empty by itself: one in so many tidies as each operation does. */
const EXPIRIES_A_TIDY = 16;
/** Where fewer are asked for, each comes as it is due. */
const NEIGHBOURS_MIN = 64;

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
  #hashIndex!: HashIndex;
  /** What was restored since the load began, as long as the index has none of it. */
  #newcomers: LocatedKeys | undefined;
  /** While the index takes them in. */
  #indexing: Iterator<void, void> | undefined;
  /** While entries are loaded that are to be put into order. */
  #windows: KeyWindows | undefined;
  /** There is none where it is not wanted, nor while entries are loaded. */
  #order: EntryOrder | undefined;
  /** While the load ends: the order that is being made. */
  #ordering: { readonly order: EntryOrder; readonly steps: Iterator<void, void> } | undefined;
  /** There is none before the first deadline. */
  #deadlines: DeadlineWheel | undefined;
  /** There only while deletions of ranges have hidden entries that are not removed yet. */
  #hidden: HiddenEntries | undefined;
  readonly #clock: UseClock;
  readonly #victims: Victims;
  /** What the present call was given. */
  readonly #given = new GivenEntry();
  #dataBytes = 0;
  #checksum = 0;
  /** Of a run of entries. */
  readonly #hashes = new Int32Array(RUN_ENTRIES_MAX);
  /** Of the last operation. */
  #timestampMs = 0;

  constructor({ isOrdered = true, seed = randomHashSeed() }: SlabEngineOptions = {}) {
    this.isOrdered = isOrdered;
    this.#hash = new KeyHash(seed);
    const chance = new Chance(seed[0] ^ seed[1]);
    this.#clock = new UseClock(chance);
    this.#victims = new Victims(this.#candidates(), chance);
    this.clear();
  }

  get isSettled(): boolean {
    return this.#hidden === undefined;
  }

  get entryCount(): number {
    return this.#newcomers ? this.#newcomers.count : this.#hashIndex.count;
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
      this.#hashIndex.bytesTotal +
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
    if (this.#hidden?.hides(bytes, start, end, this.#blocks.modSeqAt(location))) return undefined;
    this.#use(location);
    return this.#entryAt(location, deadlineMs);
  }

  apply(seq: Seq, timestampMs: EpochMs, operation: Operation): void {
    switch (operation.kind) {
      case "delete-range":
        this.#deleteRange(seq, operation);
        break;
      case "put":
        this.applyPut(seq, timestampMs, this.#given.of(operation.key, operation.value, operation.expiresAtMs));
        break;
      default:
        this.#removeKey(seq, timestampMs, operation);
    }
  }

  applyPut(seq: Seq, timestampMs: EpochMs, put: KeyValueBytes): void {
    this.#putAt(this.#hash.of(put.keyIn, put.keyStart, put.keyEnd), seq, timestampMs, put);
  }

  applyPuts(puts: EntryRun): void {
    const hashes = this.#foresee(puts);
    for (let at = 0; at < puts.count; at++) {
      puts.moveTo(at);
      this.#putAt(hashes[at]!, puts.modSeq, puts.timestampMs, puts);
    }
  }

  applyRemovals(seq: Seq, timestampMs: EpochMs, removals: readonly Removal[]): number {
    const before = this.entryCount;
    this.#forEachHashed(removals, (removal, hash) => this.#removeAs(hash, seq, timestampMs, removal));
    for (let at = 0; at < removals.length; at++) {
      // Evictions make room that is wanted at once.
      if (removals[at]!.kind === "evict" || at % EXPIRIES_A_TIDY === 0) this.#blocks.tidy();
    }
    return before - this.entryCount;
  }

  #putAt(hash: number, seq: Seq, timestampMs: EpochMs, put: KeyValueBytes): void {
    this.#timestampMs = timestampMs;
    const { keyIn, keyStart, keyEnd } = put;
    const before = this.#index.find(hash, keyIn, keyStart, keyEnd);
    if (before === ABSENT) {
      this.#create(hash, put, seq, seq);
    } else {
      if (this.#blocks.modSeqAt(before) > seq) return;
      // What is hidden is as good as removed.
      const isPresent = !this.#isHidden(before) && this.#isPresent(before, seq, timestampMs);
      this.#overwrite(hash, before, put, isPresent ? this.#blocks.createSeqAt(before) : seq, seq);
    }
    this.#blocks.tidy();
  }

  removeHidden(looksMax: number): boolean {
    if (this.#ordering) return this.#hidden !== undefined;
    this.#hidden?.removeSome(looksMax);
    if (this.#hidden?.isEmpty) this.#hidden = undefined;
    return this.#hidden !== undefined;
  }

  #removeKey(seq: Seq, timestampMs: EpochMs, operation: Exclude<KeyOperation, { kind: "put" }>): void {
    const { key } = operation;
    this.#removeAs(this.#hash.of(key, 0, key.length), seq, timestampMs, operation);
    this.#blocks.tidy();
  }

  #removeAs(hash: number, seq: Seq, timestampMs: EpochMs, operation: Exclude<KeyOperation, { kind: "put" }>): void {
    this.#timestampMs = timestampMs;
    const { key } = operation;
    const before = this.#index.find(hash, key, 0, key.length);
    if (before === ABSENT || this.#blocks.modSeqAt(before) > seq || this.#isHidden(before)) return;
    switch (operation.kind) {
      case "delete":
        this.#remove(hash, before, key);
        break;
      case "expire":
      case "evict":
        if (this.#blocks.modSeqAt(before) === operation.modSeq) this.#remove(hash, before, key);
        break;
      default:
        unreachable(operation);
    }
  }

  *walk(createdUpTo: Seq): Generator<WalkedEntry, undefined> {
    const [ids, blocks] = [this.#ids, this.#blocks];
    // Entries that come later may have ids beyond, but were created later too.
    const end = ids.end;
    for (let id = ids.nextFrom(0, end); id < end; id = ids.nextFrom(id + 1, end)) {
      const location = ids.locationOf(id);
      if (blocks.createSeqAt(location) <= createdUpTo && !this.#isHidden(location)) yield this.#walkedAt(location);
    }
  }

  scan(
    range: KeyRange,
    nowMs: EpochMs,
    reverse = false,
    budget: ScanBudget = { looks: Infinity },
  ): Iterator<KeyedEntry, undefined> {
    assert(this.#order, "an engine that is scanned keeps its keys in order");
    return reverse
      ? this.#scanDown(this.#order, range, nowMs, budget)
      : this.#scanUp(this.#order, range, nowMs, budget);
  }

  count(range: KeyRange, nowMs: EpochMs, from: Uint8Array | undefined, looksMax: number): KeyCount {
    const order = this.#order;
    assert(order, "an engine that counts keeps its keys in order");
    // Found once, so that no key is compared on the way.
    const end = range.end ? order.from(range.end) : NO_ID;
    let count = 0;
    let looks = looksMax;
    let id = order.from(from ?? range.start);
    if (range.end && id !== NO_ID && this.#isAtOrAfter(this.#ids.locationOf(id), range.end)) return { count };
    for (; id !== end && id !== NO_ID; id = order.next()) {
      if (looks-- <= 0) return { count, next: this.#blocks.keyAt(this.#ids.locationOf(id)).slice() };
      if (this.#isShown(id, nowMs)) count++;
    }
    return { count };
  }

  due(nowMs: EpochMs, countMax: number, bytesMax = Infinity): readonly KeyVersion[] {
    const due = this.#deadlines?.due(nowMs, countMax) ?? [];
    const areMany = due.length >= NEIGHBOURS_MIN && due.length === countMax;
    const ids = this.#order && areMany ? this.#withNeighbours(this.#order, due, nowMs) : due;
    const versions: KeyVersion[] = [];
    let bytes = 0;
    for (let at = 0; at < ids.length && bytes < bytesMax; at++) {
      const location = this.#ids.locationOf(ids[at]!);
      if (this.#isHidden(location)) continue;
      const version = this.#versionOf(location);
      versions.push(version);
      bytes += version.key.length;
    }
    return versions;
  }

  bytesOfVersions(versions: readonly KeyVersion[]): readonly (number | undefined)[] {
    const bytes: (number | undefined)[] = [];
    this.#forEachHashed(versions, ({ key, modSeq }, hash) => {
      const location = this.#index.find(hash, key, 0, key.length);
      const isThere = location !== ABSENT && this.#blocks.modSeqAt(location) === modSeq && !this.#isHidden(location);
      bytes.push(isThere ? accountedBytesOf(key.length, this.#blocks.valueBytesAt(location)) : undefined);
    });
    return bytes;
  }

  victim(policy: EvictionPolicy): (KeyVersion & { readonly accountedBytes: number }) | undefined {
    const id = this.#victims.next(policy);
    if (id === NO_ID) return undefined;
    const location = this.#ids.locationOf(id);
    const bytes = accountedBytesOf(this.#blocks.keyBytesAt(location), this.#blocks.valueBytesAt(location));
    return { ...this.#versionOf(location), accountedBytes: bytes };
  }

  beginLoad(): void {
    assert(this.entryCount === 0, "only an empty engine is loaded");
    this.#order = undefined;
    this.#newcomers = new LocatedKeys();
    if (this.isOrdered) this.#windows = new KeyWindows();
  }

  indexRestored(): boolean {
    if (!this.#newcomers) return false;
    this.#indexing ??= this.#hashIndex.take(this.#newcomers, (before, location) => this.#replaces(before, location));
    if (!this.#indexing.next().done) return true;
    this.#newcomers = undefined;
    this.#indexing = undefined;
    return false;
  }

  /** The index, with everything in it that is there. */
  get #index(): HashIndex {
    // Asked at each read: no call where there is nothing to do.
    if (this.#newcomers) while (this.indexRestored());
    return this.#hashIndex;
  }

  /** Whether two entries have one key; the one that was there before is gone then. */
  #replaces(before: number, location: number): boolean {
    const start = this.#blocks.keyStartAt(location);
    const bytes = this.#blocks.bytesAt(location);
    if (!this.#blocks.isKey(before, bytes, start, start + this.#blocks.keyBytesAt(location))) return false;
    this.#forget(before);
    return true;
  }

  endLoad(): boolean {
    if (this.indexRestored()) return true;
    if (!this.isOrdered || this.#order) return false;
    if (!this.#ordering) {
      const order = new EntryOrder(this.#ids, this.#blocks);
      this.#ordering = { order, steps: order.take(this.#index.count, must(this.#windows, "a load has begun")) };
    }
    const { order, steps } = this.#ordering;
    if (!steps.next().done) return true;
    this.#order = order;
    this.#ordering = undefined;
    this.#windows = undefined;
    return false;
  }

  restore({ key, value, createSeq, modSeq, expiresAtMs }: KeyedEntry): void {
    this.restoreFrom(this.#given.of(key, value, expiresAtMs, createSeq, modSeq));
  }

  restoreFrom(entry: EntryBytes): number {
    return this.#restoreAt(this.#hash.of(entry.keyIn, entry.keyStart, entry.keyEnd), entry) >>> 0;
  }

  restoreAll(entries: EntryRun): number {
    if (this.#newcomers && !this.#indexing) return this.#gather(entries, this.#newcomers);
    const hashes = this.#foresee(entries);
    let sum = 0;
    for (let at = 0; at < entries.count; at++) {
      entries.moveTo(at);
      sum = (sum + this.#restoreAt(hashes[at]!, entries)) | 0;
    }
    return sum >>> 0;
  }

  /** Makes entries of which none is looked up before all are there. */
  #gather(entries: EntryRun, newcomers: LocatedKeys): number {
    let sum = 0;
    for (let at = 0; at < entries.count; at++) {
      entries.moveTo(at);
      const location = this.#make(entries, entries.createSeq, entries.modSeq);
      newcomers.add(this.#hash.of(entries.keyIn, entries.keyStart, entries.keyEnd), location);
      sum = (sum + this.#blocks.checksumAt(location)) | 0;
    }
    return sum >>> 0;
  }

  /** Returns the entry's checksum, as a signed number. */
  #restoreAt(hash: number, entry: EntryBytes): number {
    assert(!this.#hidden, "entries are put into an engine before the log is carried out over them");
    const { keyIn, keyStart, keyEnd, createSeq, modSeq } = entry;
    const before = this.#index.find(hash, keyIn, keyStart, keyEnd);
    if (before === ABSENT) return this.#create(hash, entry, createSeq, modSeq);
    return this.#overwrite(hash, before, entry, createSeq, modSeq);
  }

  clear(): void {
    this.#ids = new EntryIds();
    this.#blocks = new EntryBlocks({
      locationOf: (id) => this.#ids.locationOf(id),
      moved: (id, from, to) => this.#moved(id, from, to),
    });
    this.#hashIndex = new HashIndex(this.#blocks);
    this.#newcomers = undefined;
    this.#indexing = undefined;
    this.#windows = undefined;
    this.#order = this.isOrdered ? new EntryOrder(this.#ids, this.#blocks) : undefined;
    this.#ordering = undefined;
    this.#deadlines = undefined;
    this.#hidden = undefined;
    this.#victims.clear();
    this.#dataBytes = 0;
    this.#checksum = 0;
  }

  tidy(): boolean {
    return this.#blocks.tidy();
  }

  #deleteRange(seq: Seq, { start, end }: KeyRange): void {
    if (end && compareBytes(start, 0, start.length, end, 0, end.length) >= 0) return;
    if (this.#order) {
      const first = this.#order.from(start);
      if (first === NO_ID || (end && this.#isAtOrAfter(this.#ids.locationOf(first), end))) return;
    }
    this.#hidden ??= new HiddenEntries({
      ids: this.#ids,
      blocks: this.#blocks,
      order: this.#order,
      remove: (location) => this.#removeAt(location),
    });
    this.#hidden.add(start, end, seq);
    // Small ranges are done with, and many that come one after another do not pile up.
    this.removeHidden(LOOKS_A_DELETION);
  }

  /** Hidden by a deletion of a range, and not removed yet. */
  #isHidden(location: number): boolean {
    return this.#hidden !== undefined && this.#hidden.isHidden(location);
  }

  #isShown(id: number, nowMs: EpochMs): boolean {
    if (!this.#deadlines && !this.#hidden) return true;
    const location = this.#ids.locationOf(id);
    return this.#blocks.deadlineAt(location) > nowMs && !this.#isHidden(location);
  }

  /**
   * Of ids that are due, the first, with those before it in the order of keys that are due too, as long as they are half of what
   * is there; then the others, until they are as many. Neighbours lie in the same leaves of the order, on this node and on all
   * others, so that it takes no search for each to remove them.
   */
  #withNeighbours(order: EntryOrder, due: readonly number[], nowMs: number): number[] {
    const found: number[] = [];
    let left = NEIGHBOURS_MIN;
    let id = order.from(this.#blocks.keyAt(this.#ids.locationOf(due[0]!)));
    for (; id !== NO_ID && left > 0 && found.length < due.length; id = order.previous()) {
      const isDue = this.#blocks.deadlineAt(this.#ids.locationOf(id)) <= nowMs;
      if (isDue) found.push(id);
      left += isDue ? 1 : -1;
    }
    const taken = new Set(found.length < due.length ? found : undefined);
    for (const id of due) {
      if (found.length === due.length) break;
      if (!taken.has(id)) found.push(id);
    }
    return found;
  }

  #isAtOrAfter(location: number, key: Uint8Array): boolean {
    return this.#blocks.compareKey(location, key, 0, key.length) >= 0;
  }

  #isPresent(location: number, seq: Seq, nowMs: EpochMs): boolean {
    if (location === ABSENT) return false;
    return this.#blocks.modSeqAt(location) === seq || this.#blocks.deadlineAt(location) > nowMs;
  }

  /**
   * The hashes of the keys of a run. Their places in the index are looked at, which are anywhere in memory: the processor waits
   * for many of them at once, where it would for one after another while entries are written.
   */
  #foresee(run: EntryRun): Int32Array {
    const [hashes, bytes] = [this.#hashes, run.keyIn];
    for (let at = 0; at < run.count; at++) hashes[at] = this.#hash.of(bytes, run.keyStartOf(at), run.keyEndOf(at));
    this.#index.foresee(hashes, run.count);
    return hashes;
  }

  /** Does something for each of many keys, by its hash, whose places in the index were looked at before; see `#foresee`. */
  #forEachHashed<Keyed extends { readonly key: Uint8Array }>(
    all: readonly Keyed[],
    act: (each: Keyed, hash: number) => void,
  ): void {
    const hashes = this.#hashes;
    for (let from = 0; from < all.length; from += RUN_ENTRIES_MAX) {
      const count = Math.min(RUN_ENTRIES_MAX, all.length - from);
      for (let at = 0; at < count; at++) {
        const { key } = all[from + at]!;
        hashes[at] = this.#hash.of(key, 0, key.length);
      }
      this.#index.foresee(hashes, count);
      for (let at = 0; at < count; at++) act(all[from + at]!, hashes[at]!);
    }
  }

  /** Returns the entry's checksum, as a signed number. */
  #create(hash: number, entry: KeyValueBytes, createSeq: number, modSeq: number): number {
    const { keyIn, keyStart, keyEnd } = entry;
    const location = this.#make(entry, createSeq, modSeq);
    this.#index.add(hash, location);
    if (this.#order) {
      const isWhole = keyStart === 0 && keyEnd === keyIn.length;
      this.#order.add(this.#blocks.idAt(location), isWhole ? keyIn : keyIn.subarray(keyStart, keyEnd));
    }
    return this.#blocks.checksumAt(location);
  }

  /** Makes an entry, which the caller puts into the index and the order. Returns where it is. */
  #make(entry: KeyValueBytes, createSeq: number, modSeq: number): number {
    assert(!this.#ordering, "no entry comes while the order of all is made");
    const { keyIn, keyStart, keyEnd, deadlineMs } = entry;
    const blocks = this.#blocks;
    const options = { ids: this.#ids, lastUse: this.#clock.use(), uses: COUNT_NEW };
    const location = blocks.create(entry, createSeq, modSeq, options);
    this.#checksum = (this.#checksum + blocks.checksumAt(location)) >>> 0;
    this.#dataBytes += keyEnd - keyStart + entry.valueEnd - entry.valueStart;
    this.#windows?.note(blocks.idAt(location), keyIn, keyStart, keyEnd);
    if (deadlineMs !== Infinity) this.#addDeadline(blocks.idAt(location), deadlineMs);
    return location;
  }

  /** Returns the entry's checksum, as a signed number. */
  #overwrite(hash: number, before: number, entry: KeyValueBytes, createSeq: number, modSeq: number): number {
    const blocks = this.#blocks;
    const { deadlineMs } = entry;
    const id = blocks.idAt(before);
    if (blocks.deadlineAt(before) !== Infinity) this.#deadlines!.remove(id);
    this.#victims.forget(id);
    const others = this.#checksum - blocks.checksumAt(before);
    this.#dataBytes += entry.valueEnd - entry.valueStart - blocks.valueBytesAt(before);
    const location = blocks.write(before, entry, createSeq, modSeq);
    if (location !== before) {
      this.#ids.move(id, location);
      this.#index.move(hash, before, location);
    }
    const checksum = blocks.checksumAt(location);
    this.#checksum = (others + checksum) >>> 0;
    this.#use(location);
    if (deadlineMs !== Infinity) this.#addDeadline(id, deadlineMs);
    return checksum;
  }

  #remove(hash: number, location: number, key: Uint8Array): void {
    assert(!this.#ordering, "no entry goes while the order of all is made");
    this.#order?.delete(this.#blocks.idAt(location), key);
    this.#index.delete(hash, location);
    this.#forget(location);
  }

  /** The opposite of `#make`. */
  #forget(location: number): void {
    const blocks = this.#blocks;
    const id = blocks.idAt(location);
    this.#checksum = (this.#checksum - blocks.checksumAt(location)) >>> 0;
    this.#dataBytes -= blocks.keyBytesAt(location) + blocks.valueBytesAt(location);
    if (blocks.deadlineAt(location) !== Infinity) this.#deadlines!.remove(id);
    this.#victims.forget(id);
    this.#ids.give(id);
    blocks.free(location);
  }

  #removeAt(location: number): void {
    const key = this.#blocks.keyAt(location);
    this.#remove(this.#hash.of(key, 0, key.length), location, key);
    this.#blocks.tidy();
  }

  #addDeadline(id: number, deadlineMs: number): void {
    this.#deadlines ??= new DeadlineWheel((id) => this.#blocks.deadlineAt(this.#ids.locationOf(id)), this.#timestampMs);
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
      sampleFew: (random, ids) => {
        const count = this.#index.sampleFew(random, ids);
        for (let at = 0; at < count; at++) ids[at] = this.#blocks.idAt(ids[at]!);
        return count;
      },
      nextFrom: (id) => this.#ids.nextAround(id),
      isThere: (id) => this.#ids.isThere(id),
      isHidden: (id) => this.#hidden !== undefined && this.#hidden.isHidden(this.#ids.locationOf(id)),
      lastUse: (id) => this.#clock.placeOf(lastUseOf(id)),
      uses: (id) => {
        const uses = this.#blocks.usesAt(this.#ids.locationOf(id));
        return this.#clock.fallen(uses, this.#clock.since(lastUseOf(id)), this.#index.count);
      },
      soonest: (isWanted) => this.#deadlines?.soonest(this.#timestampMs, isWanted) ?? NO_ID,
    };
  }

  /** The block of an entry was moved, to give back memory. */
  #moved(id: number, from: number, to: number): void {
    const start = this.#blocks.keyStartAt(to);
    const hash = this.#hash.of(this.#blocks.bytesAt(to), start, start + this.#blocks.keyBytesAt(to));
    this.#index.move(hash, from, to);
    this.#ids.move(id, to);
  }

  *#scanUp(
    order: EntryOrder,
    { start, end }: KeyRange,
    nowMs: EpochMs,
    budget: ScanBudget,
  ): Generator<KeyedEntry, undefined> {
    for (let id = order.from(start); id !== NO_ID; id = order.next()) {
      const location = this.#ids.locationOf(id);
      if (end && this.#isAtOrAfter(location, end)) return;
      if (budget.looks-- <= 0) {
        budget.stoppedAt = this.#blocks.keyAt(location);
        return;
      }
      if (this.#blocks.deadlineAt(location) > nowMs && !this.#isHidden(location)) yield this.#keyedAt(location);
    }
  }

  *#scanDown(
    order: EntryOrder,
    { start, end }: KeyRange,
    nowMs: EpochMs,
    budget: ScanBudget,
  ): Generator<KeyedEntry, undefined> {
    let last = ABSENT;
    for (let id = order.before(end); id !== NO_ID; id = order.previous()) {
      const location = this.#ids.locationOf(id);
      if (!this.#isAtOrAfter(location, start)) return;
      if (budget.looks-- <= 0) {
        budget.stoppedAt = last === ABSENT ? must(end, "a scan looks at one at least") : this.#blocks.keyAt(last);
        return;
      }
      last = location;
      if (this.#blocks.deadlineAt(location) > nowMs && !this.#isHidden(location)) yield this.#keyedAt(location);
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
    return { key: this.#blocks.copyKey(location), modSeq: this.#blocks.modSeqAt(location) as Seq };
  }

  #walkedAt(location: number): WalkedEntry {
    const { key, value, createSeq, modSeq, expiresAtMs } = this.#keyedAt(location);
    const checksum = this.#blocks.checksumAt(location) >>> 0;
    return expiresAtMs === undefined
      ? { key, value, createSeq, modSeq, checksum }
      : { key, value, createSeq, modSeq, expiresAtMs, checksum };
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

/** A key and a value that are by themselves, in the form of such as are not; one for all calls, and of use only during one. */
class GivenEntry implements EntryBytes {
  keyIn = NOTHING;
  readonly keyStart = 0;
  keyEnd = 0;
  valueIn = NOTHING;
  readonly valueStart = 0;
  valueEnd = 0;
  deadlineMs = Infinity;
  createSeq = NO_SEQ;
  modSeq = NO_SEQ;

  of(key: Uint8Array, value: Uint8Array, deadlineMs: number = Infinity, createSeq = NO_SEQ, modSeq = NO_SEQ): this {
    this.keyIn = key;
    this.keyEnd = key.length;
    this.valueIn = value;
    this.valueEnd = value.length;
    this.deadlineMs = deadlineMs;
    this.createSeq = createSeq;
    this.modSeq = modSeq;
    return this;
  }
}
