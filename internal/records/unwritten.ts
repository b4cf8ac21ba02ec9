/**
 * The records that are appended and not yet written, in memory: read from here meanwhile, and given to the log again when the
 * disk had no room for them.
 */
import { assert } from "../base/assert.js";
import type { Epoch, EpochMs } from "../base/position.js";

export interface UnwrittenRecord {
  readonly offset: number;
  readonly epoch: Epoch;
  readonly timestampMs: EpochMs;
  readonly payload: Uint8Array;
}

export class Unwritten {
  #records: UnwrittenRecord[] = [];
  /** Those before it in `#records` are written. */
  #head = 0;
  #bytes = 0;

  /** Of their payloads. */
  get byteLength(): number {
    return this.#bytes;
  }

  /** Of the oldest; undefined when there is none. */
  get firstOffset(): number | undefined {
    return this.#records[this.#head]?.offset;
  }

  add(record: UnwrittenRecord): void {
    const last = this.#records.at(-1);
    assert(!last || record.offset === last.offset + 1, `record ${record.offset} follows ${last?.offset}`);
    this.#records.push(record);
    this.#bytes += record.payload.length;
  }

  /** From `offset` on, which must not lie before the first. */
  from(offset: number): UnwrittenRecord[] {
    const first = this.firstOffset;
    if (first === undefined) return [];
    return this.#records.slice(this.#head + (offset - first));
  }

  /** Forgets the records before `offset`: they are written. */
  forgetBelow(offset: number): void {
    for (let record = this.#records[this.#head]; record && record.offset < offset;) {
      this.#bytes -= record.payload.length;
      record = this.#records[++this.#head];
    }
    // Shifting one by one would move the whole array each time.
    if (this.#head * 2 >= this.#records.length) {
      this.#records = this.#records.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Forgets the records from `offset` on. */
  cutFrom(offset: number): void {
    while (this.#records.length > this.#head && this.#records.at(-1)!.offset >= offset) {
      this.#bytes -= this.#records.pop()!.payload.length;
    }
    if (this.#records.length > this.#head) return;
    // What is left is written, and may lie beyond the cut as well.
    this.#records = [];
    this.#head = 0;
  }
}
