/**
 * The ids of entries, each with the location of its block. An id stays the same as long as the entry lives, wherever its
 * block moves, and is given to another entry later. Ids are whole numbers from 65,536 to 2^31 - 1.
 *
 * They lie in chunks, so that their number grows without a copy, and a chunk of which no id is left takes no memory. The
 * word of a free id names the chunk's next one, plus one; it is below every location.
 */
import { assert } from "../base/assert.js";

export const CHUNK_BITS = 16;
export const CHUNK_IDS = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_IDS - 1;
const NO_CHUNK = new Int32Array(0);

export class EntryIds {
  // By chunk; there is none at 0.
  readonly #locations: Int32Array[] = [NO_CHUNK];
  readonly #used: number[] = [0];
  /** Ids from the first on that were used once. */
  readonly #begun: number[] = [0];
  /** The first free id of those, plus one; 0: none. */
  readonly #free: number[] = [0];
  /** Chunks with an id to give. */
  #open: number[] = [];
  /** Chunks that hold nothing. */
  #dropped: number[] = [];

  /** All ids are below. */
  get end(): number {
    return this.#locations.length << CHUNK_BITS;
  }

  get bytesTotal(): number {
    return (this.#locations.length - 1 - this.#dropped.length) * CHUNK_IDS * 4;
  }

  take(location: number): number {
    const chunk = this.#open[this.#open.length - 1] ?? this.#addChunk();
    const locations = this.#locations[chunk]!;
    let at = this.#free[chunk]! - 1;
    if (at >= 0) this.#free[chunk] = locations[at]!;
    else at = this.#begun[chunk]!++;
    locations[at] = location;
    if (++this.#used[chunk]! === CHUNK_IDS) this.#open.pop();
    return (chunk << CHUNK_BITS) | at;
  }

  give(id: number): void {
    const chunk = id >>> CHUNK_BITS;
    assert(isLocation(this.#locations[chunk]![id & CHUNK_MASK]!), "an id is given back once");
    this.#locations[chunk]![id & CHUNK_MASK] = this.#free[chunk]!;
    this.#free[chunk] = (id & CHUNK_MASK) + 1;
    if (this.#used[chunk]!-- === CHUNK_IDS) this.#open.push(chunk);
    else if (this.#used[chunk] === 0) this.#dropChunk(chunk);
  }

  /** Where the block of a living entry is. */
  locationOf(id: number): number {
    return this.#locations[id >>> CHUNK_BITS]![id & CHUNK_MASK]!;
  }

  move(id: number, to: number): void {
    this.#locations[id >>> CHUNK_BITS]![id & CHUNK_MASK] = to;
  }

  /** The first id from this one on, and below `end`, that an entry has; `end` when there is none. */
  nextFrom(id: number, end: number): number {
    let next = id;
    while (next < end) {
      const chunk = next >>> CHUNK_BITS;
      const locations = this.#locations[chunk] ?? NO_CHUNK;
      const begun = this.#begun[chunk] ?? 0;
      for (let at = next & CHUNK_MASK; at < begun; at++) {
        if (isLocation(locations[at]!)) return (chunk << CHUNK_BITS) | at;
      }
      next = (chunk + 1) << CHUNK_BITS;
    }
    return end;
  }

  /** The first id from this one on that an entry has, the first of all after the last; 0 when there is none. */
  nextAround(id: number): number {
    const next = this.nextFrom(id, this.end);
    if (next < this.end) return next;
    const first = this.nextFrom(0, this.end);
    return first < this.end ? first : 0;
  }

  isThere(id: number): boolean {
    return isLocation(this.#locations[id >>> CHUNK_BITS]?.[id & CHUNK_MASK] ?? 0);
  }

  clear(): void {
    for (const column of [this.#locations, this.#used, this.#begun, this.#free]) column.length = 1;
    this.#open = [];
    this.#dropped = [];
  }

  #addChunk(): number {
    const chunk = this.#dropped.pop() ?? this.#locations.length;
    assert(chunk < 1 << (31 - CHUNK_BITS), "there are ids left");
    this.#locations[chunk] = new Int32Array(CHUNK_IDS);
    this.#used[chunk] = 0;
    this.#begun[chunk] = 0;
    this.#free[chunk] = 0;
    this.#open.push(chunk);
    return chunk;
  }

  #dropChunk(chunk: number): void {
    // One stays, or a single entry that comes and goes would make and drop a chunk each time.
    if (this.#open.length === 1) return;
    this.#open.splice(this.#open.indexOf(chunk), 1);
    this.#locations[chunk] = NO_CHUNK;
    this.#begun[chunk] = 0;
    this.#dropped.push(chunk);
  }
}

/** Region 0 is none, so every location has a bit above the words of free ids. */
function isLocation(word: number): boolean {
  return word >>> (CHUNK_BITS + 1) !== 0;
}
