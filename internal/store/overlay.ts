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

  /** How the writes in flight leave a key; undefined when none touches it. */
  look(name: string): InFlight | undefined {
    const own = this.#keys.get(name);
    if (this.#ranges.isEmpty) return own;
    const range = this.#ranges.over(name);
    // What a range removes has no value.
    return range && (!own || own.modSeq < range.modSeq) ? range : own;
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
    for (const name of this.#keys.keys()) {
      if (name >= start && (end === undefined || name < end)) yield name;
    }
  }

  /** The changes of the record that is now the newest in flight. */
  add(seq: Seq, changes: readonly Change[]): void {
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
