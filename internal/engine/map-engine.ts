/**
 * The engine as a plain `Map`: short enough to be seen correct, and so the oracle that every other engine is tested
 * against. Costs about three times the memory of its data.
 */
import type { EpochMs, Seq } from "../base/position.js";
import { must, unreachable } from "../base/assert.js";
import type { Engine, Entry, KeyedEntry, KeyRange, Operation } from "./engine.js";
import { entryChecksum } from "./entry-checksum.js";
import { SortedKeys } from "./sorted-keys.js";

export class MapEngine implements Engine {
  /** By the key's bytes, one character a byte: cheaper to make than a string from UTF-8, and equal exactly when the bytes are. */
  readonly #entries = new Map<string, StoredEntry>();
  /** The map's keys, which itself is in the order of creation. */
  readonly #sorted = new SortedKeys();
  #dataBytes = 0;
  #checksum = 0;

  get entryCount(): number {
    return this.#entries.size;
  }

  get dataBytes(): number {
    return this.#dataBytes;
  }

  get checksum(): number {
    return this.#checksum;
  }

  get(key: Uint8Array, nowMs: EpochMs): Entry | undefined {
    const entry = this.#entries.get(nameOf(key));
    return entry && isOverdue(entry, nowMs) ? undefined : entry;
  }

  apply(seq: Seq, timestampMs: EpochMs, operation: Operation): void {
    const name = nameOf(operation.key);
    const before = this.#entries.get(name);
    if (before && before.modSeq > seq) return;
    switch (operation.kind) {
      case "put": {
        const present = before && !isOverdue(before, timestampMs);
        // A key that is created anew goes to the end of the map, so that the map stays in the order of creation.
        if (before && !present) this.#remove(name, before);
        const createSeq = present ? before.createSeq : seq;
        this.#put(name, new StoredEntry(operation.key, operation, createSeq, seq));
        return;
      }
      case "delete":
        if (before) this.#remove(name, before);
        return;
      default:
        unreachable(operation);
    }
  }

  *walk(createdUpTo: Seq): Generator<KeyedEntry, undefined> {
    // A Map's iterator goes on over changes, and meets what was added meanwhile at the end: there it stops.
    for (const [name, entry] of this.#entries) {
      if (entry.createSeq > createdUpTo) return;
      yield keyed(name, entry);
    }
  }

  *scan({ start, end }: KeyRange, nowMs: EpochMs): Generator<KeyedEntry, undefined> {
    const endName = end && nameOf(end);
    for (const name of this.#sorted.from(nameOf(start))) {
      if (endName !== undefined && name >= endName) return;
      const entry = must(this.#entries.get(name), "a sorted key has an entry");
      if (!isOverdue(entry, nowMs)) yield keyed(name, entry);
    }
  }

  restore(entry: KeyedEntry): void {
    this.#put(nameOf(entry.key), new StoredEntry(entry.key, entry, entry.createSeq, entry.modSeq));
  }

  clear(): void {
    this.#entries.clear();
    this.#sorted.clear();
    this.#dataBytes = 0;
    this.#checksum = 0;
  }

  #put(name: string, entry: StoredEntry): void {
    const before = this.#entries.get(name);
    this.#checksum = (this.#checksum - (before?.checksum ?? 0) + entry.checksum) >>> 0;
    this.#dataBytes += entry.value.length - (before ? before.value.length : -name.length);
    this.#entries.set(name, entry);
    if (!before) this.#sorted.add(name);
  }

  #remove(name: string, entry: StoredEntry): void {
    this.#checksum = (this.#checksum - entry.checksum) >>> 0;
    this.#dataBytes -= name.length + entry.value.length;
    this.#entries.delete(name);
    this.#sorted.delete(name);
  }
}

/** An entry together with its checksum, so that an overwrite need not sum what it replaces. */
class StoredEntry implements Entry {
  readonly value: Uint8Array;
  readonly createSeq: Seq;
  readonly modSeq: Seq;
  declare readonly expiresAtMs?: EpochMs;
  readonly #checksum: number;

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
}

function keyed(name: string, { value, createSeq, modSeq, expiresAtMs }: Entry): KeyedEntry {
  const entry = { key: Buffer.from(name, "latin1"), value, createSeq, modSeq };
  return expiresAtMs === undefined ? entry : { ...entry, expiresAtMs };
}

function nameOf(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function isOverdue(entry: Entry, nowMs: EpochMs): boolean {
  return entry.expiresAtMs !== undefined && entry.expiresAtMs <= nowMs;
}
