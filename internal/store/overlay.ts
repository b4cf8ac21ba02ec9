/** The keys as the writes in flight leave them, over the engine, which holds committed state only. */
import type { EpochMs, Seq } from "../base/position.js";
import type { Change, DeleteChange, Removal } from "./change.js";
import { RangesInFlight, type RangeInFlight } from "./ranges-in-flight.js";

/** A key as the writes in flight leave it. */
export interface InFlight {
  /** The record in flight that changed it last. */
  readonly modSeq: Seq;
  /** As it stands in the change; absent: there is no such key. */
  readonly value?: Uint8Array | undefined;
  /** Absent: it was there before all that is in flight, and the engine knows since when. */
  readonly createSeq?: Seq | undefined;
  readonly expiresAtMs?: EpochMs | undefined;
}

export class Overlay {
  readonly #keys = new Map<string, InFlight>();
  readonly #ranges = new RangesInFlight();
  /**
   * The newest records, as long as they only say what expires, and nobody has looked: most are applied before anybody does, and to
   * name all their keys would cost half as much as to remove them.
   */
  #unnamed: { readonly seq: Seq; readonly changes: readonly Change[] }[] = [];

  /** How the writes in flight leave a key; undefined when none touches it. */
  look(name: string): InFlight | undefined {
    if (this.#unnamed.length > 0) this.#nameAll();
    const own = this.#keys.get(name);
    if (this.#ranges.isEmpty) return own;
    const range = this.#ranges.over(name);
    // What a range removes has no value.
    return range && (!own || own.modSeq < range.modSeq) ? range : own;
  }

  /** Whether any write in flight touches a key. */
  touches(key: Uint8Array): boolean {
    // Names cost more than all else where there are many keys, and nothing in flight.
    const isEmpty = this.#keys.size === 0 && this.#unnamed.length === 0 && this.#ranges.isEmpty;
    return !isEmpty && this.look(keyName(key)) !== undefined;
  }

  /** The range in flight that covers a key, whether the key was written after it or not. */
  rangeOver(name: string): RangeInFlight | undefined {
    return this.#ranges.over(name);
  }

  get hasRanges(): boolean {
    return !this.#ranges.isEmpty;
  }

  /** The names from `start` on and before `end` that single changes in flight touch, in no order. */
  *namesWithin(start: string, end: string | undefined): Generator<string, undefined> {
    this.#nameAll();
    for (const name of this.#keys.keys()) {
      if (name >= start && (end === undefined || name < end)) yield name;
    }
  }

  /** The changes of the record that is now the newest in flight. */
  add(seq: Seq, changes: readonly Change[]): void {
    if (changes.every(({ kind }) => kind === "expire")) {
      this.#unnamed.push({ seq, changes });
      return;
    }
    if (this.#unnamed.length > 0) this.#nameAll();
    this.#name(seq, changes);
  }

  #nameAll(): void {
    for (const { seq, changes } of this.#unnamed) this.#name(seq, changes);
    this.#unnamed = [];
  }

  #name(seq: Seq, changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === "put") {
        const name = keyName(change.key);
        const { value, expiresAtMs, previousSeq } = change;
        const createSeq = previousSeq === 0 ? seq : this.#createSeqOf(name, previousSeq);
        this.#keys.set(name, { modSeq: seq, value, createSeq, expiresAtMs });
      } else if (change.kind === "delete-range") {
        this.#ranges.add(seq, keyName(change.start), change.end && keyName(change.end));
      } else if (isRemoval(change)) {
        const name = keyName(change.key);
        // What comes before an expiry or eviction in the log leaves another version of the key than the one that it removes.
        if (change.kind !== "delete" && this.#keys.has(name)) continue;
        this.#keys.set(name, { modSeq: seq });
      }
    }
  }

  /** The record that was the oldest in flight is applied. */
  forget(seq: Seq, changes: readonly Change[]): void {
    if (this.#unnamed[0]?.seq === seq) {
      this.#unnamed.shift();
      return;
    }
    for (const change of changes) {
      if (change.kind === "delete-range") {
        this.#ranges.forget(seq);
      } else if (change.kind === "put" || isRemoval(change)) {
        const name = keyName(change.key);
        if (this.#keys.get(name)?.modSeq === seq) this.#keys.delete(name);
      }
    }
  }

  clear(): void {
    this.#keys.clear();
    this.#unnamed = [];
    this.#ranges.clear();
  }

  #createSeqOf(name: string, modSeq: Seq): Seq | undefined {
    const before = this.#keys.get(name);
    return before?.modSeq === modSeq ? before.createSeq : undefined;
  }
}

function isRemoval(change: Change): change is DeleteChange | Removal {
  return change.kind === "delete" || change.kind === "expire" || change.kind === "evict";
}

/** A key's bytes as a string, one character a byte: equal exactly when the bytes are, and in the same order. */
export function keyName(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}
