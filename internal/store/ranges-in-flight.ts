/**
 * The ranges that writes in flight remove: for every key, the newest of those that cover it. They are kept as pieces that do
 * not overlap, in order, so that a look costs a binary search however many there are. Keys are names of one character a byte.
 */
import { assert } from "../base/assert.js";
import type { Seq } from "../base/position.js";

/** A piece of the key space, and the newest record in flight that removes it. */
export interface RangeInFlight {
  readonly start: string;
  /** The first name behind it; absent: it has no end. */
  readonly end: string | undefined;
  readonly modSeq: Seq;
}

export class RangesInFlight {
  /** Ascending, none overlaps another, none is empty. Those below `#liveSeq` are of no account any more. */
  #pieces: RangeInFlight[] = [];
  #live = 0;
  #liveSeq = 0;
  #dead = 0;

  get isEmpty(): boolean {
    return this.#live === 0;
  }

  /** Of the newest record in flight that removes a key; undefined when none does. */
  over(name: string): RangeInFlight | undefined {
    if (this.#live === 0) return undefined;
    const piece = this.#pieces[this.#firstBehind(name)];
    return piece && piece.start <= name && piece.modSeq >= this.#liveSeq ? piece : undefined;
  }

  /** The record removes the range; it is the newest in flight. */
  add(modSeq: Seq, start: string, end: string | undefined): void {
    assert(end === undefined || start < end, "a range that is removed is not empty");
    const from = this.#firstBehind(start);
    let to = from;
    while (to < this.#pieces.length && (end === undefined || this.#pieces[to]!.start < end)) to++;
    const put: RangeInFlight[] = [];
    const [first, last] = [this.#pieces[from], this.#pieces[to - 1]];
    if (to > from && first && first.start < start) put.push({ ...first, end: start });
    put.push({ start, end, modSeq });
    if (to > from && last && end !== undefined && (last.end === undefined || last.end > end)) {
      put.push({ ...last, start: end });
    }
    this.#pieces.splice(from, to - from, ...put);
    this.#live++;
  }

  /** The oldest record in flight that removes a range is in flight no more. */
  forget(modSeq: Seq): void {
    this.#live--;
    this.#dead++;
    this.#liveSeq = modSeq + 1;
    if (this.#live === 0) {
      this.clear();
    } else if (this.#dead * 2 > this.#pieces.length) {
      this.#pieces = this.#pieces.filter((piece) => piece.modSeq >= this.#liveSeq);
      this.#dead = 0;
    }
  }

  clear(): void {
    this.#pieces = [];
    this.#live = 0;
    this.#liveSeq = 0;
    this.#dead = 0;
  }

  /** The index of the first piece that does not end before or at a name. */
  #firstBehind(name: string): number {
    let [low, high] = [0, this.#pieces.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const { end } = this.#pieces[middle]!;
      if (end !== undefined && end <= name) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
