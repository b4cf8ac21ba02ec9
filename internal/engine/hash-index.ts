/**
 * Finds the location of a key's block by the key's hash: extendible hashing. A directory, indexed by the first bits of
 * the hash, names segments; a segment is a table of a few thousand slots in which the last bits say where to begin to
 * look. A full segment is split in two by its next bit, and two sparse ones become one again, so that the largest piece
 * of work is one segment's, some ten microseconds, however many entries there are.
 *
 * A slot holds the hash and the location, so that the index grows without a look at any key.
 */
import { assert } from "../base/assert.js";
import type { LocatedKeys } from "./located-keys.js";

/** What knows the keys. */
export interface Keys {
  /** Whether the key at the location is the one that `bytes` has from `start` up to `end`. */
  isKey(location: number, bytes: Uint8Array, start: number, end: number): boolean;
}

/** No location. */
export const ABSENT = 0;

/** A slot is two words: hash and location, which is 0 in an empty one. */
const SLOT_WORDS = 2;
/** At the end of each segment: how many of its slots are used, and by how many bits of the hash it was chosen. */
const TAIL_WORDS = 2;
const SLOTS_MIN = 64;
/** A segment grows up to this, then it is split. */
const SLOTS_SPLIT = 4096;
/** With segments chosen by more bits than these, too few of the 32 would be left for the places in them. */
const DEPTH_MAX = 20;
const HASH_BITS = 32;
/** More of a segment is never used. */
const USED_MAX = 0.8;
/** Of segments that are made for many keys at once, hardly one so is full at once: hashes do not spread quite evenly. */
const TAKEN_MAX = 0.7;
/** Segments that are made in one step: with all their keys, a millisecond at most. */
const SEGMENTS_A_STEP = 32;
/** When less is used, it shrinks. */
const USED_MIN = 0.125;

type Segment = Int32Array;

export class HashIndex {
  readonly #keys: Keys;
  #directory: Segment[] = [segmentOf(SLOTS_MIN, 0)];
  /** The directory has 2^depth places. */
  #depth = 0;
  /** The hash is shifted so far, after one that is always made, since a shift by 32 would be none. */
  #shift = HASH_BITS - 1;
  /** Segments that are chosen by all bits that the directory uses. */
  #deepest = 1;
  #count = 0;
  #slots = SLOTS_MIN;
  /** What was looked at in advance: said, since a compiler may leave out a look of which nothing is kept. */
  seen = 0;
  readonly #scratch = new Int32Array(SLOTS_SPLIT * SLOT_WORDS);

  constructor(keys: Keys) {
    this.#keys = keys;
  }

  get count(): number {
    return this.#count;
  }

  get bytesTotal(): number {
    return this.#slots * SLOT_WORDS * 4;
  }

  /** Where the key is; ABSENT when it is not there. */
  find(hash: number, bytes: Uint8Array, start: number, end: number): number {
    const segment = this.#directory[(hash >>> 1) >>> this.#shift]!;
    const mask = segment.length - TAIL_WORDS - 1;
    for (let at = (hash * SLOT_WORDS) & mask; ; at = (at + SLOT_WORDS) & mask) {
      const location = segment[at + 1]!;
      if (location === ABSENT) return ABSENT;
      if (segment[at] === hash && this.#keys.isKey(location, bytes, start, end)) return location;
    }
  }

  /** Looks at the places where the searches for so many hashes begin, so that they are near when those come. */
  foresee(hashes: Int32Array, count: number): void {
    let seen = 0;
    for (let n = 0; n < count; n++) {
      const hash = hashes[n]!;
      const segment = this.#directory[(hash >>> 1) >>> this.#shift]!;
      seen ^= segment[((hash * SLOT_WORDS) & (segment.length - TAIL_WORDS - 1)) + 1]!;
    }
    this.seen = seen;
  }

  /** Adds a key that is not there. */
  add(hash: number, location: number): void {
    let segment = this.#segmentOf(hash);
    while (isFull(segment)) {
      this.#extend(segment, hash);
      segment = this.#segmentOf(hash);
    }
    put(segment, hash, location);
    addUsed(segment, 1);
    this.#count++;
  }

  /**
   * Takes all keys of a list into an index that is empty, segment by segment, which costs a fraction of what it does to add them. Where
   * two have the same hash, `isTwin` says whether they are one key: the later one is in the place of the earlier then. A step takes a
   * millisecond or less; before the last, nothing else may be done with the index.
   */
  *take(keys: LocatedKeys, isTwin: (before: number, location: number) => boolean): Generator<void, void> {
    assert(this.#count === 0, "only an empty index takes in all at once");
    const wanted = keys.count / TAKEN_MAX;
    const depth = Math.min(DEPTH_MAX, Math.max(0, Math.ceil(Math.log2(wanted / SLOTS_SPLIT))));
    const slots = Math.min(SLOTS_SPLIT, Math.max(SLOTS_MIN, 2 ** Math.ceil(Math.log2(wanted))));
    const { pairs, ends } = yield* keys.byFirstBits(depth);
    const directory: Segment[] = [];
    /** What has no room where it should be. */
    const left: number[] = [];
    for (let place = 0, at = 0; place < 1 << depth; place++) {
      // Made just now, it is near.
      const segment = segmentOf(slots, depth);
      directory.push(segment);
      for (; at < ends[place]!; at++) {
        if (isFull(segment)) left.push(at);
        else this.#take(segment, pairs[at * 2]!, pairs[at * 2 + 1]!, isTwin);
      }
      if ((place + 1) % SEGMENTS_A_STEP === 0) yield;
    }
    this.#directory = directory;
    this.#depth = depth;
    this.#shift = HASH_BITS - 1 - depth;
    this.#deepest = directory.length;
    this.#slots = slots * directory.length;
    for (const at of left) {
      const hash = pairs[at * 2]!;
      while (isFull(this.#segmentOf(hash))) this.#extend(this.#segmentOf(hash), hash);
      this.#take(this.#segmentOf(hash), hash, pairs[at * 2 + 1]!, isTwin);
    }
  }

  /** Puts a key into a segment that has room, in the place of its twin where that is there. */
  #take(segment: Segment, hash: number, location: number, isTwin: (before: number, location: number) => boolean): void {
    const mask = segment.length - TAIL_WORDS - 1;
    let at = (hash * SLOT_WORDS) & mask;
    for (; segment[at + 1] !== ABSENT; at = (at + SLOT_WORDS) & mask) {
      if (segment[at] !== hash || !isTwin(segment[at + 1]!, location)) continue;
      segment[at + 1] = location;
      return;
    }
    segment[at] = hash;
    segment[at + 1] = location;
    addUsed(segment, 1);
    this.#count++;
  }

  /** The key that was at `from` is at `to` now. */
  move(hash: number, from: number, to: number): void {
    const segment = this.#segmentOf(hash);
    segment[slotOf(segment, hash, from) + 1] = to;
  }

  delete(hash: number, location: number): void {
    const segment = this.#segmentOf(hash);
    vacate(segment, slotOf(segment, hash, location));
    addUsed(segment, -1);
    this.#count--;
    if (usedOf(segment) < slotsOf(segment) * USED_MIN) this.#shrink(segment, hash);
  }

  clear(): void {
    this.#directory = [segmentOf(SLOTS_MIN, 0)];
    this.#depth = 0;
    this.#shift = HASH_BITS - 1;
    this.#deepest = 1;
    this.#count = 0;
    this.#slots = SLOTS_MIN;
  }

  /** Some location, as good as by chance when `random` is 32 random bits; ABSENT when there is none. */
  sample(random: number): number {
    if (this.#count === 0) return ABSENT;
    const places = this.#directory.length;
    for (let place = (random >>> 1) >>> this.#shift; ; place = (place + 1) & (places - 1)) {
      const segment = this.#directory[place]!;
      if (usedOf(segment) === 0) continue;
      const mask = segment.length - TAIL_WORDS - 1;
      let at = (random * SLOT_WORDS) & mask;
      while (segment[at + 1] === ABSENT) at = (at + SLOT_WORDS) & mask;
      return segment[at + 1]!;
    }
  }

  /** Locations that lie together, from a place by chance on, into the list; how many. */
  sampleFew(random: number, locations: Int32Array): number {
    const segment = this.#segmentOf(random);
    const mask = segment.length - TAIL_WORDS - 1;
    const count = Math.min(locations.length, usedOf(segment));
    let at = (random * SLOT_WORDS) & mask;
    for (let found = 0; found < count; at = (at + SLOT_WORDS) & mask) {
      const location = segment[at + 1]!;
      if (location !== ABSENT) locations[found++] = location;
    }
    return count;
  }

  /** How many slots a search looks at until it finds a key that is there: the cost of keys that collide. */
  probes(hash: number, location: number): number {
    const segment = this.#segmentOf(hash);
    const mask = segment.length - TAIL_WORDS - 1;
    return ((slotOf(segment, hash, location) - ((hash * SLOT_WORDS) & mask)) & mask) / SLOT_WORDS + 1;
  }

  #segmentOf(hash: number): Segment {
    return this.#directory[(hash >>> 1) >>> this.#shift]!;
  }

  #extend(segment: Segment, hash: number): void {
    const depth = depthOf(segment);
    if (slotsOf(segment) < SLOTS_SPLIT || depth === DEPTH_MAX) {
      // At the largest depth only whoever knows the seed fills a segment; it grows then, and stays correct.
      this.#replace(segment, this.#resized(segment, slotsOf(segment) * 2), hash);
      return;
    }
    if (depth === this.#depth) this.#double();
    this.#split(segment, hash);
  }

  /** Halves a sparse segment, or joins it with the other of its pair. */
  #shrink(segment: Segment, hash: number): void {
    const slots = slotsOf(segment);
    const depth = depthOf(segment);
    if (slots > SLOTS_SPLIT || (depth === 0 && slots > SLOTS_MIN)) {
      this.#replace(segment, this.#resized(segment, slots / 2), hash);
    } else if (depth > 0) {
      const pair = this.#segmentOf(hash ^ (1 << (HASH_BITS - depth)));
      const used = usedOf(segment) + usedOf(pair);
      if (depthOf(pair) === depth && slotsOf(pair) === slots && used < slots * 2 * USED_MIN)
        this.#join(segment, pair, hash);
    }
  }

  #resized(segment: Segment, slots: number): Segment {
    const other = segmentOf(slots, depthOf(segment));
    for (let at = 0; at < segment.length - TAIL_WORDS; at += SLOT_WORDS) {
      if (segment[at + 1] !== ABSENT) put(other, segment[at]!, segment[at + 1]!);
    }
    addUsed(other, usedOf(segment));
    this.#slots += slots - slotsOf(segment);
    return other;
  }

  /** Moves those of a segment's keys whose next bit is 1 to a new one. */
  #split(segment: Segment, hash: number): void {
    const depth = depthOf(segment) + 1;
    const other = segmentOf(SLOTS_SPLIT, depth);
    const scratch = this.#scratch;
    scratch.set(segment.subarray(0, scratch.length));
    segment.fill(0);
    segment[segment.length - 1] = depth;
    const bit = 1 << (HASH_BITS - depth);
    for (let at = 0; at < scratch.length; at += SLOT_WORDS) {
      const location = scratch[at + 1]!;
      if (location === ABSENT) continue;
      const half = (scratch[at]! & bit) === 0 ? segment : other;
      put(half, scratch[at]!, location);
      addUsed(half, 1);
    }
    this.#slots += SLOTS_SPLIT;
    if (depth === this.#depth) this.#deepest += 2;
    this.#place(other, hash | bit);
  }

  /** Moves the keys of a pair's second segment into the first. */
  #join(segment: Segment, pair: Segment, hash: number): void {
    const depth = depthOf(segment);
    for (let at = 0; at < pair.length - TAIL_WORDS; at += SLOT_WORDS) {
      if (pair[at + 1] !== ABSENT) put(segment, pair[at]!, pair[at + 1]!);
    }
    addUsed(segment, usedOf(pair));
    segment[segment.length - 1] = depth - 1;
    this.#slots -= slotsOf(pair);
    this.#place(segment, hash);
    if (depth !== this.#depth) return;
    this.#deepest -= 2;
    if (this.#deepest === 0) this.#halve();
  }

  #replace(segment: Segment, other: Segment, hash: number): void {
    assert(this.#segmentOf(hash) === segment, "a segment is replaced where it stands");
    this.#place(other, hash);
  }

  /** Puts a segment into all places of the directory that its bits of the hash choose. */
  #place(segment: Segment, hash: number): void {
    const free = this.#depth - depthOf(segment);
    const first = (((hash >>> 1) >>> this.#shift) >>> free) << free;
    this.#directory.fill(segment, first, first + (1 << free));
  }

  #double(): void {
    const directory: Segment[] = [];
    for (const segment of this.#directory) directory.push(segment, segment);
    this.#directory = directory;
    this.#depth++;
    this.#shift--;
    this.#deepest = 0;
  }

  /** The opposite, when no segment is chosen by the directory's last bit. */
  #halve(): void {
    const directory: Segment[] = [];
    for (let place = 0; place < this.#directory.length; place += 2) directory.push(this.#directory[place]!);
    this.#directory = directory;
    this.#depth--;
    this.#shift++;
    this.#deepest = this.#countDeepest();
  }

  #countDeepest(): number {
    let count = 0;
    for (const segment of this.#directory) if (depthOf(segment) === this.#depth) count++;
    return count;
  }
}

function segmentOf(slots: number, depth: number): Segment {
  const segment = new Int32Array(slots * SLOT_WORDS + TAIL_WORDS);
  segment[segment.length - 1] = depth;
  return segment;
}

function slotsOf(segment: Segment): number {
  return (segment.length - TAIL_WORDS) / SLOT_WORDS;
}

function depthOf(segment: Segment): number {
  return segment[segment.length - 1]!;
}

function usedOf(segment: Segment): number {
  return segment[segment.length - TAIL_WORDS]!;
}

function addUsed(segment: Segment, more: number): void {
  segment[segment.length - TAIL_WORDS]! += more;
}

function isFull(segment: Segment): boolean {
  return usedOf(segment) + 1 > slotsOf(segment) * USED_MAX;
}

/** Takes the first empty slot from where the hash begins to look. */
function put(segment: Segment, hash: number, location: number): void {
  const mask = segment.length - TAIL_WORDS - 1;
  let at = (hash * SLOT_WORDS) & mask;
  while (segment[at + 1] !== ABSENT) at = (at + SLOT_WORDS) & mask;
  segment[at] = hash;
  segment[at + 1] = location;
}

function slotOf(segment: Segment, hash: number, location: number): number {
  const mask = segment.length - TAIL_WORDS - 1;
  let at = (hash * SLOT_WORDS) & mask;
  for (; segment[at + 1] !== location; at = (at + SLOT_WORDS) & mask) {
    assert(segment[at + 1] !== ABSENT, "a key that was added is found");
  }
  return at;
}

/** Empties a slot, and moves back what would no longer be found behind the gap. */
function vacate(segment: Segment, slot: number): void {
  const mask = segment.length - TAIL_WORDS - 1;
  let gap = slot;
  for (let at = (gap + SLOT_WORDS) & mask; segment[at + 1] !== ABSENT; at = (at + SLOT_WORDS) & mask) {
    const wanted = (segment[at]! * SLOT_WORDS) & mask;
    // It stays when its own first place lies behind the gap, seen in the direction of the search.
    if (((at - wanted) & mask) < ((at - gap) & mask)) continue;
    segment[gap] = segment[at]!;
    segment[gap + 1] = segment[at + 1]!;
    gap = at;
  }
  segment[gap] = 0;
  segment[gap + 1] = ABSENT;
}
