/**
 * Hash and location of each of many keys, as they come one after another: an index that takes in all of them at once writes
 * each of its segments but once, from beginning to end, where keys by themselves would each wait for a place anywhere in memory.
 */
const CHUNK_BITS = 16;
const CHUNK_KEYS = 1 << CHUNK_BITS;
const HASH_BITS = 32;

export class LocatedKeys {
  /** Hash and location, in turns. */
  readonly #chunks: Int32Array[] = [];
  #count = 0;

  get count(): number {
    return this.#count;
  }

  add(hash: number, location: number): void {
    const at = (this.#count++ & (CHUNK_KEYS - 1)) << 1;
    if (at === 0) this.#chunks.push(new Int32Array(CHUNK_KEYS * 2));
    const chunk = this.#chunks[this.#chunks.length - 1]!;
    chunk[at] = hash;
    chunk[at + 1] = location;
  }

  /**
   * All of them by so many first bits of the hash; those that are alike there in the order in which they came. A step takes a
   * millisecond or less; nothing may be added meanwhile.
   */
  *byFirstBits(bits: number): Generator<void, SortedByBits> {
    const shift = HASH_BITS - 1 - bits;
    const ends = new Int32Array((1 << bits) + 1);
    for (let at = 0; at < this.#chunks.length; at++) {
      countBits(this.#chunks[at]!, this.#countIn(at), shift, ends);
      yield;
    }
    for (let at = 1; at < ends.length; at++) ends[at]! += ends[at - 1]!;
    // Where the next key of each place goes; at last, where the keys of each end.
    ends.copyWithin(1, 0, ends.length - 1);
    ends[0] = 0;
    const pairs = new Int32Array(this.#count * 2);
    for (let at = 0; at < this.#chunks.length; at++) {
      distribute(this.#chunks[at]!, this.#countIn(at), shift, ends, pairs);
      yield;
    }
    return { pairs, ends };
  }

  #countIn(chunk: number): number {
    return Math.min(CHUNK_KEYS, this.#count - chunk * CHUNK_KEYS);
  }
}

/** Hash and location of keys, in turns, by the first bits of the hash; for each value of those the number of keys up to its last. */
export interface SortedByBits {
  readonly pairs: Int32Array;
  readonly ends: Int32Array;
}

function countBits(chunk: Int32Array, count: number, shift: number, counts: Int32Array): void {
  for (let at = 0; at < count * 2; at += 2) counts[(chunk[at]! >>> 1) >>> shift]!++;
}

function distribute(chunk: Int32Array, count: number, shift: number, places: Int32Array, pairs: Int32Array): void {
  for (let at = 0; at < count * 2; at += 2) {
    const hash = chunk[at]!;
    const to = places[(hash >>> 1) >>> shift]!++ << 1;
    pairs[to] = hash;
    pairs[to + 1] = chunk[at + 1]!;
  }
}
