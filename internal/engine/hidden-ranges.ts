/**
 * Ranges of keys of which all versions below a seq are hidden: what deletions of ranges have said and not yet carried out.
 * They never overlap: a later deletion hides whatever an earlier one does, so it takes its part of the range over. They are
 * kept by ascending keys, so that a key is found by halving.
 */
import { assert } from "../base/assert.js";
import { compareBytes } from "./slab-bytes.js";

export interface HiddenRange {
  readonly start: Uint8Array;
  /** Absent: to the last key. */
  readonly end?: Uint8Array;
  /** Versions of earlier records are hidden. */
  readonly seq: number;
  /** Later deletions have higher numbers, those of one record too. */
  readonly order: number;
}

export class HiddenRanges {
  #ranges: HiddenRange[] = [];
  #lastSeq = 0;
  #order = 0;

  get count(): number {
    return this.#ranges.length;
  }

  /** Of the deletion that was added last. */
  get order(): number {
    return this.#order;
  }

  /** The one with the highest keys. */
  get last(): HiddenRange | undefined {
    return this.#ranges.at(-1);
  }

  /** Hides what records before `seq` have left in a range that is not empty. The bytes are taken over. */
  add(start: Uint8Array, end: Uint8Array | undefined, seq: number): void {
    assert(seq >= this.#lastSeq, "deletions of ranges come in the order of the log");
    this.#lastSeq = seq;
    const ranges = this.#ranges;
    let from = this.#placeOf(start, 0, start.length) - 1;
    if (from < 0 || endsBefore(ranges[from]!, start)) from++;
    const to = end === undefined ? ranges.length : this.#placeBefore(end);
    const parts: HiddenRange[] = [];
    const [first, last] = [ranges[from], ranges[to - 1]];
    if (from < to && first && compare(first.start, start) < 0) parts.push({ ...first, end: start });
    parts.push({ start, ...(end && { end }), seq, order: ++this.#order });
    if (from < to && last && end && !endsBefore(last, end)) parts.push({ ...last, start: end });
    ranges.splice(from, to - from, ...parts);
  }

  /** Whether a version of the key that `bytes` has from `start` up to `end` is hidden. */
  hides(bytes: Uint8Array, start: number, end: number, modSeq: number): boolean {
    const range = this.#ranges[this.#placeOf(bytes, start, end) - 1];
    if (!range || modSeq >= range.seq) return false;
    return range.end === undefined || compareBytes(bytes, start, end, range.end, 0, range.end.length) < 0;
  }

  /** Of the last range nothing before `start` is left that could be hidden. */
  shortenLast(start: Uint8Array): void {
    this.#ranges.push({ ...this.#ranges.pop()!, start });
  }

  dropLast(): void {
    this.#ranges.pop();
  }

  /** Drops those of all deletions up to one. */
  dropUpTo(order: number): void {
    this.#ranges = this.#ranges.filter((range) => range.order > order);
  }

  /** How many of the ranges begin at or before a key. */
  #placeOf(bytes: Uint8Array, start: number, end: number): number {
    let low = 0;
    let high = this.#ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { start: other } = this.#ranges[middle]!;
      if (compareBytes(bytes, start, end, other, 0, other.length) < 0) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** How many of the ranges begin before a key. */
  #placeBefore(key: Uint8Array): number {
    const place = this.#placeOf(key, 0, key.length);
    return place > 0 && compare(this.#ranges[place - 1]!.start, key) === 0 ? place - 1 : place;
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  return compareBytes(a, 0, a.length, b, 0, b.length);
}

/** Whether all of a range lies before a key. */
function endsBefore(range: HiddenRange, key: Uint8Array): boolean {
  return range.end !== undefined && compare(range.end, key) <= 0;
}
