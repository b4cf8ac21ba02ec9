/**
 * The engine as a plain `Map`: short enough to be seen correct, and so the oracle that every other engine is tested
 * against. Costs about three times the memory of its data.
 */
import { type EpochMs, epochMs, type Seq } from "../base/position.js";
import { assert, must, unreachable } from "../base/assert.js";
import { Chance } from "./chance.js";
import {
  accountedBytesOf,
  type Engine,
  ENTRY_OVERHEAD_BYTES,
  type Entry,
  type EntryBytes,
  type EvictionPolicy,
  type KeyCount,
  type KeyedEntry,
  type KeyRange,
  type KeyValueBytes,
  type KeyVersion,
  type Operation,
  type Removal,
  type ScanBudget,
  type WalkedEntry,
} from "./engine.js";
import { entryChecksum } from "./entry-checksum.js";
import type { EntryRun } from "./entry-run.js";
import { SortedKeys } from "./sorted-keys.js";

export class MapEngine implements Engine {
  readonly isOrdered = true;
  /** What a deletion of a range removes goes at once. */
  readonly isSettled = true;
  /** By the key's bytes, one character a byte: cheaper to make than a string from UTF-8, and equal exactly when the bytes are. */
  readonly #entries = new Map<string, StoredEntry>();
  /** The map's keys, which itself is in the order of creation. */
  readonly #sorted = new SortedKeys();
  /** Of the keys with a deadline: that, and the key. */
  readonly #deadlines = new SortedKeys();
  /** Always the same: what it chooses is to be seen again. */
  readonly #chance = new Chance(1);
  #dataBytes = 0;
  #checksum = 0;
  #uses = 0;
  #isLoading = false;

  get entryCount(): number {
    return this.#entries.size;
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
    const first = this.#deadlines.from("").next().value;
    return first === undefined ? Infinity : dueOf(first);
  }

  get(key: Uint8Array, nowMs: EpochMs): Entry | undefined {
    const entry = this.#entries.get(nameOf(key));
    if (!entry || isOverdue(entry, nowMs)) return undefined;
    entry.noteUse(++this.#uses);
    return entry;
  }

  getIn(bytes: Uint8Array, start: number, end: number, nowMs: EpochMs): Entry | undefined {
    return this.get(bytes.subarray(start, end), nowMs);
  }

  apply(seq: Seq, timestampMs: EpochMs, operation: Operation): void {
    if (operation.kind === "delete-range") {
      this.#deleteRange(seq, operation);
      return;
    }
    const name = nameOf(operation.key);
    const before = this.#entries.get(name);
    if (before && before.modSeq > seq) return;
    switch (operation.kind) {
      case "put": {
        const present = before && (before.modSeq === seq || !isOverdue(before, timestampMs));
        // A key that is created anew goes to the end of the map, so that the map stays in the order of creation.
        if (before && !present) this.#remove(name, before);
        const createSeq = present ? before.createSeq : seq;
        this.#put(name, new StoredEntry(operation.key, operation, createSeq, seq));
        return;
      }
      case "delete":
        if (before) this.#remove(name, before);
        return;
      case "expire":
      case "evict":
        if (before?.modSeq === operation.modSeq) this.#remove(name, before);
        return;
      default:
        unreachable(operation);
    }
  }

  applyPut(seq: Seq, timestampMs: EpochMs, put: KeyValueBytes): void {
    this.apply(seq, timestampMs, { kind: "put", ...plain(put) });
  }

  applyPuts(puts: EntryRun): void {
    for (let at = 0; at < puts.count; at++) {
      puts.moveTo(at);
      this.applyPut(puts.modSeq, puts.timestampMs, puts);
    }
  }

  applyRemovals(seq: Seq, timestampMs: EpochMs, removals: readonly Removal[]): number {
    const before = this.entryCount;
    for (const removal of removals) this.apply(seq, timestampMs, removal);
    return before - this.entryCount;
  }

  removeHidden(): boolean {
    return false;
  }

  *walk(createdUpTo: Seq): Generator<WalkedEntry, undefined> {
    // A Map's iterator goes on over changes, and meets what was added meanwhile at the end: there it stops.
    for (const [name, entry] of this.#entries) {
      if (entry.createSeq > createdUpTo) return;
      yield { ...keyed(name, entry), checksum: entry.checksum };
    }
  }

  *scan(
    range: KeyRange,
    nowMs: EpochMs,
    reverse = false,
    budget: ScanBudget = { looks: Infinity },
  ): Generator<KeyedEntry, undefined> {
    assert(!this.#isLoading, "nobody scans while an engine is loaded");
    let last = range.end;
    for (const name of this.#namesOf(range, reverse)) {
      const key = bytesOf(name);
      if (budget.looks-- <= 0) {
        budget.stoppedAt = reverse ? must(last, "one was looked at, or there is an end") : key;
        return;
      }
      const entry = must(this.#entries.get(name), "a sorted key has an entry");
      if (!isOverdue(entry, nowMs)) yield keyed(name, entry);
      last = key;
    }
  }

  count({ start, end }: KeyRange, nowMs: EpochMs, from: Uint8Array | undefined, looksMax: number): KeyCount {
    const budget: ScanBudget = { looks: looksMax };
    const scan = this.scan({ start: from ?? start, ...(end && { end }) }, nowMs, false, budget);
    let count = 0;
    while (!scan.next().done) count++;
    return { count, ...(budget.stoppedAt && { next: budget.stoppedAt }) };
  }

  due(nowMs: EpochMs, countMax: number, bytesMax = Infinity): readonly KeyVersion[] {
    const due: KeyVersion[] = [];
    let bytes = 0;
    for (const deadline of this.#deadlines.from("")) {
      if (due.length === countMax || bytes >= bytesMax || dueOf(deadline) > nowMs) break;
      const version = this.#version(deadline.slice(DEADLINE_CHARACTERS));
      due.push(version);
      bytes += version.key.length;
    }
    return due;
  }

  bytesOfVersions(versions: readonly KeyVersion[]): readonly (number | undefined)[] {
    return versions.map(({ key, modSeq }) => {
      const entry = this.#entries.get(nameOf(key));
      return entry?.modSeq === modSeq ? accountedBytesOf(key.length, entry.value.length) : undefined;
    });
  }

  victim(policy: EvictionPolicy): (KeyVersion & { readonly accountedBytes: number }) | undefined {
    let found: { readonly name: string; readonly entry: StoredEntry } | undefined;
    for (const [name, entry] of this.#entries) {
      if (policy === "ttl" && entry.expiresAtMs === undefined) continue;
      if (!found || goesBefore(policy, entry, found.entry, this.#chance)) found = { name, entry };
    }
    if (!found) return undefined;
    const { name, entry } = found;
    // Were it not used now, the next call would name it again.
    entry.notePassed(++this.#uses);
    return { ...this.#version(name), accountedBytes: accountedBytesOf(name.length, entry.value.length) };
  }

  beginLoad(): void {
    assert(this.#entries.size === 0, "only an empty engine is loaded");
    this.#isLoading = true;
  }

  indexRestored(): boolean {
    return false;
  }

  endLoad(): boolean {
    this.#isLoading = false;
    return false;
  }

  restoreFrom(entry: EntryBytes): number {
    const { key, ...content } = plain(entry);
    const stored = new StoredEntry(key, content, entry.createSeq, entry.modSeq);
    this.#put(nameOf(key), stored);
    return stored.checksum;
  }

  restoreAll(entries: EntryRun): number {
    let sum = 0;
    for (let at = 0; at < entries.count; at++) {
      entries.moveTo(at);
      sum = (sum + this.restoreFrom(entries)) >>> 0;
    }
    return sum;
  }

  restore(entry: KeyedEntry): void {
    this.#put(nameOf(entry.key), new StoredEntry(entry.key, entry, entry.createSeq, entry.modSeq));
  }

  clear(): void {
    this.#isLoading = false;
    this.#entries.clear();
    this.#sorted.clear();
    this.#deadlines.clear();
    this.#dataBytes = 0;
    this.#checksum = 0;
  }

  tidy(): boolean {
    return false;
  }

  #put(name: string, entry: StoredEntry): void {
    const before = this.#entries.get(name);
    this.#checksum = (this.#checksum - (before?.checksum ?? 0) + entry.checksum) >>> 0;
    this.#dataBytes += entry.value.length - (before ? before.value.length : -name.length);
    this.#entries.set(name, entry);
    entry.noteUse(++this.#uses);
    if (!before) this.#sorted.add(name);
    if (before?.expiresAtMs !== undefined) this.#deadlines.delete(deadlineName(before.expiresAtMs, name));
    if (entry.expiresAtMs !== undefined) this.#deadlines.add(deadlineName(entry.expiresAtMs, name));
  }

  #deleteRange(seq: Seq, range: KeyRange): void {
    // All of them before the first goes: the keys in their order are valid until the next change only.
    const names = Array.from(this.#namesOf(range, false));
    for (const name of names) {
      const entry = must(this.#entries.get(name), "a sorted key has an entry");
      if (entry.modSeq < seq) this.#remove(name, entry);
    }
  }

  *#namesOf({ start, end }: KeyRange, reverse: boolean): Generator<string, undefined> {
    const startName = nameOf(start);
    const endName = end && nameOf(end);
    for (const name of reverse ? this.#sorted.downFrom(endName) : this.#sorted.from(startName)) {
      if (reverse ? name < startName : endName !== undefined && name >= endName) return;
      yield name;
    }
  }

  #version(name: string): KeyVersion {
    const { modSeq } = must(this.#entries.get(name), "the key is there");
    return { key: bytesOf(name), modSeq };
  }

  #remove(name: string, entry: StoredEntry): void {
    this.#checksum = (this.#checksum - entry.checksum) >>> 0;
    this.#dataBytes -= name.length + entry.value.length;
    this.#entries.delete(name);
    this.#sorted.delete(name);
    if (entry.expiresAtMs !== undefined) this.#deadlines.delete(deadlineName(entry.expiresAtMs, name));
  }
}

/** An entry together with its checksum, so that an overwrite need not sum what it replaces. */
class StoredEntry implements Entry {
  readonly value: Uint8Array;
  readonly createSeq: Seq;
  readonly modSeq: Seq;
  declare readonly expiresAtMs?: EpochMs;
  readonly #checksum: number;
  /** When it was used last, and how often: a number that only rises. */
  #usedAt = 0;
  #uses = 0;
  /** When it was named as one that could go. */
  #passedAt = 0;

  constructor(
    key: Uint8Array,
    { value, expiresAtMs }: Pick<Entry, "value" | "expiresAtMs">,
    createSeq: Seq,
    modSeq: Seq,
  ) {
    this.value = new Uint8Array(value);
    this.createSeq = createSeq;
    this.modSeq = modSeq;
    if (expiresAtMs !== undefined) this.expiresAtMs = expiresAtMs;
    this.#checksum = entryChecksum(key, this);
  }

  get checksum(): number {
    return this.#checksum;
  }

  get usedAt(): number {
    return this.#usedAt;
  }

  get uses(): number {
    return this.#uses;
  }

  get passedAt(): number {
    return this.#passedAt;
  }

  noteUse(at: number): void {
    this.#usedAt = at;
    this.#uses++;
  }

  notePassed(at: number): void {
    this.#passedAt = at;
  }
}

/** Whether `a` is the one of two that goes; who was named before and then not removed comes last. */
function goesBefore(policy: EvictionPolicy, a: StoredEntry, b: StoredEntry, chance: Chance): boolean {
  if (a.passedAt !== b.passedAt) return a.passedAt < b.passedAt;
  switch (policy) {
    case "lru":
      return a.usedAt < b.usedAt;
    case "lfu":
      return a.uses !== b.uses ? a.uses < b.uses : a.usedAt < b.usedAt;
    case "random":
      return chance.isOneIn(2);
    case "ttl":
      return must(a.expiresAtMs, "it has a deadline") < must(b.expiresAtMs, "it has a deadline");
    default:
      return unreachable(policy);
  }
}

/** As if it had been given by itself. */
function plain(bytes: KeyValueBytes): { key: Uint8Array; value: Uint8Array; expiresAtMs?: EpochMs } {
  const { keyIn, keyStart, keyEnd, valueIn, valueStart, valueEnd, deadlineMs } = bytes;
  const [key, value] = [keyIn.subarray(keyStart, keyEnd), valueIn.subarray(valueStart, valueEnd)];
  return deadlineMs === Infinity ? { key, value } : { key, value, expiresAtMs: epochMs(deadlineMs) };
}

const DEADLINE_CHARACTERS = 14;

/** Deadlines and keys, so that their order as text is the order in which they fall due. */
function deadlineName(expiresAtMs: EpochMs, name: string): string {
  return expiresAtMs.toString(16).padStart(DEADLINE_CHARACTERS, "0") + name;
}

function dueOf(deadline: string): number {
  return Number.parseInt(deadline.slice(0, DEADLINE_CHARACTERS), 16);
}

function keyed(name: string, { value, createSeq, modSeq, expiresAtMs }: Entry): KeyedEntry {
  const entry = { key: Buffer.from(name, "latin1"), value, createSeq, modSeq };
  return expiresAtMs === undefined ? entry : { ...entry, expiresAtMs };
}

function bytesOf(name: string): Uint8Array {
  return new Uint8Array(Buffer.from(name, "latin1"));
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function isOverdue(entry: Entry, nowMs: EpochMs): boolean {
  return entry.expiresAtMs !== undefined && entry.expiresAtMs <= nowMs;
}
