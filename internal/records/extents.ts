/**
 * How old and how large the record log is, along its offsets: a table of extents, runs of records of about the same number of
 * bytes. Retention decides by it, without reading a record.
 */
import { assert } from "../base/assert.js";
import type { EpochMs } from "../base/position.js";

/** A run of records. */
export interface Extent {
  readonly start: number;
  /** The offset after its last record. */
  readonly end: number;
  /** Of its records in the log, headers included. */
  readonly bytes: number;
  readonly oldestMs: EpochMs;
  readonly newestMs: EpochMs;
}

export class Extents {
  readonly #extentBytes: number;
  #list: Extent[] = [];
  /** Of the last one, which still grows. */
  #last: { -readonly [K in keyof Extent]: Extent[K] } | undefined;

  /** An extent ends with the record that brings it to `extentBytes`. */
  constructor(extentBytes: number) {
    this.#extentBytes = extentBytes;
  }

  /** Oldest first, without gaps. The first may begin before the record log's start, and its bytes count in whole. */
  get all(): readonly Extent[] {
    return this.#last ? [...this.#list, { ...this.#last }] : this.#list;
  }

  get oldestMs(): EpochMs | undefined {
    return (this.#list[0] ?? this.#last)?.oldestMs;
  }

  /** Adds the next record. */
  add(offset: number, bytes: number, timestampMs: EpochMs): void {
    const last = this.#last;
    if (last) {
      assert(offset === last.end, `record ${offset} follows ${last.end - 1}`);
      last.end++;
      last.bytes += bytes;
      last.newestMs = timestampMs;
    } else {
      this.#last = { start: offset, end: offset + 1, bytes, oldestMs: timestampMs, newestMs: timestampMs };
    }
    this.#closeLast();
  }

  /** Forgets the extents that lie before `start` as a whole. */
  truncateBelow(start: number): void {
    let gone = 0;
    while (gone < this.#list.length && this.#list[gone]!.end <= start) gone++;
    if (gone > 0) this.#list = this.#list.slice(gone);
    if (this.#last && this.#last.end <= start) this.#last = undefined;
  }

  /**
   * Forgets the records from `end` on. Where an extent is cut inside, its bytes are reckoned as if its records were all of
   * one size.
   */
  cutFrom(end: number): void {
    if (this.#last) this.#list.push(this.#last);
    this.#last = undefined;
    while (this.#list.length > 0 && this.#list.at(-1)!.start >= end) this.#list.pop();
    const cut = this.#list.pop();
    if (!cut) return;
    const left = (Math.min(end, cut.end) - cut.start) / (cut.end - cut.start);
    this.#last = { ...cut, end: Math.min(end, cut.end), bytes: Math.ceil(cut.bytes * left) };
    this.#closeLast();
  }

  #closeLast(): void {
    if (!this.#last || this.#last.bytes < this.#extentBytes) return;
    this.#list.push(this.#last);
    this.#last = undefined;
  }
}
