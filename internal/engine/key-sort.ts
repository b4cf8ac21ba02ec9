/**
 * Puts many ids into the order of their keys: by eight bytes of each key at a time, from where the keys begin to differ,
 * with a radix sort that never looks at a key again; runs of keys that are alike there are sorted by the bytes behind. A key
 * so is read once or twice, and in the order in which the ids came, which is most often that of memory.
 *
 * It goes in portions, since there may be millions of ids, and others wait for a turn. It most often runs once in the life of a process,
 * as long as its code is cold: what is done for each key takes nothing apart that must be put together first (`[a, b] = [c, d]`).
 */

/** What knows the keys of the ids; no two are the same. */
export interface SortableKeys {
  keyBytesOf(id: number): number;
  /** Four bytes of the id's key, as `windowOf` in slab-bytes.ts has them; what comes before `skip` is left out. */
  windowOf(id: number, skip: number): number;
  /** The key of an id, to be kept. */
  copyKey(id: number): Uint8Array;
  /** How many bytes the key of an id and another one have in common from `skip` on, which both have reached. */
  commonBytesFrom(id: number, key: Uint8Array, skip: number): number;
  /** Negative or positive, as the id's key comes before or after that of the other, which has the same first `skip` bytes. */
  compareFrom(id: number, other: number, skip: number): number;
}

/** Eight bytes of each key that are known without a look at it. */
export interface KnownBytes {
  /** All keys share so many first bytes, which are left out. */
  readonly skip: number;
  /** Puts those of the ids from one place up to another into the same places: the first four, and the last, as big-endian numbers. */
  copy(ids: Int32Array, from: number, to: number, highs: Uint32Array, lows: Uint32Array): void;
}

const WINDOW_BYTES = 4;
const DIGIT_BYTES = 2 * WINDOW_BYTES;
const DIGITS = 256;
/** So many keys that are alike so far are sorted by insertion. */
const FEW = 24;
/** Keys of a portion: a millisecond or two, also where each lies anywhere in memory. */
const PORTION = 10_000;
/** What makes the signed order of windows that of unsigned numbers. */
const SIGN = 0x80000000;

export class KeySort {
  readonly #keys: SortableKeys;
  readonly #known: KnownBytes | undefined;
  /** Sorted when `run` is done. */
  readonly ids: Int32Array;
  // Of each id, the first four of the eight bytes, and the last; a key that is shorter is filled up with zeros.
  readonly #highs: Uint32Array;
  readonly #lows: Uint32Array;
  // Where a pass of the sort puts them.
  readonly #otherIds: Int32Array;
  readonly #otherHighs: Uint32Array;
  readonly #otherLows: Uint32Array;
  /** How often each value comes in each of the eight bytes, the last byte first; then where the next such id goes. */
  readonly #counts = new Uint32Array(DIGIT_BYTES * DIGITS);
  /** Bytes that all keys begin with. */
  #skip = 0;
  // What a look at keys has found: where those begin that go on, the key of the first of them, and how many more bytes they share.
  #ended = 0;
  #firstKey: Uint8Array = new Uint8Array(0);
  #common = 0;
  /** Keys gone through in this portion. */
  #done = 0;

  /** Takes over the ids. */
  constructor(keys: SortableKeys, ids: Int32Array, known?: KnownBytes) {
    this.#keys = keys;
    this.#known = known;
    this.ids = ids;
    this.#highs = new Uint32Array(ids.length);
    this.#lows = new Uint32Array(ids.length);
    this.#otherIds = new Int32Array(ids.length);
    this.#otherHighs = new Uint32Array(ids.length);
    this.#otherLows = new Uint32Array(ids.length);
  }

  /** Sorts the ids; a step is a portion. The keys must not change meanwhile, nor go. */
  *run(): Generator<void, void> {
    if (this.#known) {
      this.#skip = this.#known.skip;
      yield* this.#sortBytes(0, this.ids.length, this.#skip, this.#known);
    } else {
      this.#skip = yield* this.#sort(0, this.ids.length, 0);
    }
  }

  /** Once the ids are sorted, writes what `windowOf` gives for those from one place up to another, most often without a look at their keys. */
  copyWindows(from: number, to: number, skip: number, words: Int32Array, start: number): void {
    const shift = (skip - this.#skip) * 8;
    const ids = this.ids;
    const highs = this.#highs;
    const lows = this.#lows;
    const isKnown = shift >= 0 && shift <= 32;
    for (let at = from; at < to; at++) {
      let window: number;
      if (!isKnown) window = this.#keys.windowOf(ids[at]!, skip);
      // What is shifted by 32 bits stays as it is.
      else if (shift === 0) window = highs[at]! ^ SIGN;
      else if (shift === 32) window = lows[at]! ^ SIGN;
      else window = ((highs[at]! << shift) | (lows[at]! >>> (32 - shift))) ^ SIGN;
      words[start + at - from] = window;
    }
  }

  /**
   * Sorts the ids from one place up to another, whose keys are alike in their first `skip` bytes, where the end of a key counts
   * as zeros. Returns how many bytes those of them that go on have in common.
   */
  *#sort(from: number, to: number, skip: number): Generator<void, number> {
    this.#ended = from;
    this.#common = Infinity;
    for (let at = from; at < to;) {
      const end = Math.min(to, at + PORTION);
      this.#look(at, end, skip);
      if (this.#isEnough(end - at)) yield;
      at = end;
    }
    const ended = this.#ended;
    const start = skip + this.#common;
    if (ended > from + 1) {
      const lengths = (a: number, b: number): number => this.#keys.keyBytesOf(a) - this.#keys.keyBytesOf(b);
      this.ids.subarray(from, ended).sort(lengths);
    }
    if (ended === to) return skip;
    yield* this.#sortBytes(ended, to, start);
    return start;
  }

  /** Sorts ids whose keys have the same first `start` bytes; the eight behind may be known. */
  *#sortBytes(from: number, to: number, start: number, known?: KnownBytes): Generator<void, void> {
    let isSorted = true;
    for (let at = from; at < to;) {
      const end = Math.min(to, at + PORTION);
      if (known) known.copy(this.ids, at, end, this.#highs, this.#lows);
      else this.#read(at, end, start);
      if (isSorted) isSorted = this.#isInOrder(Math.max(from, at - 1), end);
      if (this.#isEnough(end - at)) yield;
      at = end;
    }
    // Keys often were made in their order.
    if (!isSorted) yield* this.#sortDigits(from, to);
    for (let at = from; at < to;) {
      const run = this.#runFrom(at, Math.min(to, at + PORTION), to);
      if (this.#isEnough(run - at)) yield;
      const end = this.#runEnd(run, to);
      if (end - run > 1) {
        const [high, low] = [this.#highs[run]!, this.#lows[run]!];
        if (end - run > FEW) yield* this.#sort(run, end, start + DIGIT_BYTES);
        else this.#sortFew(run, end, start + DIGIT_BYTES);
        // Those of the keys that are alike were used for the bytes behind.
        this.#highs.fill(high, run, end);
        this.#lows.fill(low, run, end);
      }
      if (this.#isEnough(end - run)) yield;
      at = end;
    }
  }

  /**
   * Brings the ids of keys that have no more than `skip` bytes to the front, since they come first, and finds out how many more
   * bytes the others have in common.
   */
  #look(from: number, to: number, skip: number): void {
    const [ids, keys] = [this.ids, this.#keys];
    let ended = this.#ended;
    let common = this.#common;
    for (let at = from; at < to; at++) {
      const id = ids[at]!;
      const keyBytes = keys.keyBytesOf(id);
      if (keyBytes <= skip) {
        ids[at] = ids[ended]!;
        ids[ended++] = id;
      } else if (common === Infinity) {
        this.#firstKey = keys.copyKey(id);
        common = keyBytes - skip;
      } else if (common > 0) {
        common = Math.min(common, keys.commonBytesFrom(id, this.#firstKey, skip));
      }
    }
    this.#ended = ended;
    this.#common = common;
  }

  /** Reads eight bytes of each key. */
  #read(from: number, to: number, skip: number): void {
    const [ids, highs, lows, keys] = [this.ids, this.#highs, this.#lows, this.#keys];
    for (let at = from; at < to; at++) {
      const id = ids[at]!;
      highs[at] = keys.windowOf(id, skip) ^ SIGN;
      lows[at] = keys.windowOf(id, skip + WINDOW_BYTES) ^ SIGN;
    }
  }

  /** Whether none of the eight bytes come before those at the place before. */
  #isInOrder(from: number, to: number): boolean {
    const [highs, lows] = [this.#highs, this.#lows];
    for (let at = from + 1; at < to; at++) {
      const high = highs[at]!;
      const before = highs[at - 1]!;
      if (high < before || (high === before && lows[at]! < lows[at - 1]!)) return false;
    }
    return true;
  }

  /** Counts the values of each of the eight bytes. */
  #count(from: number, to: number): void {
    const [highs, lows, counts] = [this.#highs, this.#lows, this.#counts];
    for (let at = from; at < to; at++) {
      const high = highs[at]!;
      const low = lows[at]!;
      counts[low & 255]!++;
      counts[DIGITS + ((low >>> 8) & 255)]!++;
      counts[2 * DIGITS + ((low >>> 16) & 255)]!++;
      counts[3 * DIGITS + (low >>> 24)]!++;
      counts[4 * DIGITS + (high & 255)]!++;
      counts[5 * DIGITS + ((high >>> 8) & 255)]!++;
      counts[6 * DIGITS + ((high >>> 16) & 255)]!++;
      counts[7 * DIGITS + (high >>> 24)]!++;
    }
  }

  /** Sorts by the eight bytes, the last one first; each pass keeps the order that those before have made. */
  *#sortDigits(from: number, to: number): Generator<void, void> {
    this.#counts.fill(0);
    for (let at = from; at < to;) {
      const end = Math.min(to, at + PORTION);
      this.#count(at, end);
      if (this.#isEnough(end - at)) yield;
      at = end;
    }
    let isElsewhere = false;
    for (let digit = 0; digit < DIGIT_BYTES; digit++) {
      if (!this.#placeDigits(digit, from, to)) continue;
      for (let at = from; at < to;) {
        const end = Math.min(to, at + PORTION);
        this.#distribute(digit, at, end, isElsewhere);
        if (this.#isEnough(end - at)) yield;
        at = end;
      }
      isElsewhere = !isElsewhere;
    }
    for (let at = from; isElsewhere && at < to;) {
      const end = Math.min(to, at + PORTION);
      this.ids.set(this.#otherIds.subarray(at, end), at);
      this.#highs.set(this.#otherHighs.subarray(at, end), at);
      this.#lows.set(this.#otherLows.subarray(at, end), at);
      if (this.#isEnough(end - at)) yield;
      at = end;
    }
  }

  /** Makes of a byte's counts the places where its values begin; false when all have the same. */
  #placeDigits(digit: number, from: number, to: number): boolean {
    const counts = this.#counts;
    let place = from;
    for (let at = digit * DIGITS; at < (digit + 1) * DIGITS; at++) {
      const count = counts[at]!;
      if (count === to - from) return false;
      counts[at] = place;
      place += count;
    }
    return true;
  }

  #distribute(digit: number, from: number, to: number, isElsewhere: boolean): void {
    const counts = this.#counts;
    const base = digit * DIGITS;
    const [ids, otherIds] = isElsewhere ? [this.#otherIds, this.ids] : [this.ids, this.#otherIds];
    const [highs, otherHighs] = isElsewhere ? [this.#otherHighs, this.#highs] : [this.#highs, this.#otherHighs];
    const [lows, otherLows] = isElsewhere ? [this.#otherLows, this.#lows] : [this.#lows, this.#otherLows];
    const digits = digit < WINDOW_BYTES ? lows : highs;
    const shift = (digit % WINDOW_BYTES) * 8;
    for (let at = from; at < to; at++) {
      const place = counts[base + ((digits[at]! >>> shift) & 255)]!++;
      otherIds[place] = ids[at]!;
      otherHighs[place] = highs[at]!;
      otherLows[place] = lows[at]!;
    }
  }

  /** The first place up to `last` whose eight bytes are those of the next one too, if that is before `to`; `last - 1` where there is none. */
  #runFrom(from: number, last: number, to: number): number {
    const [highs, lows] = [this.#highs, this.#lows];
    for (let at = from; at < last && at + 1 < to; at++) {
      if (lows[at] === lows[at + 1] && highs[at] === highs[at + 1]) return at;
    }
    return last - 1;
  }

  /** Where the ids end whose eight bytes are those of the id at a place. */
  #runEnd(at: number, to: number): number {
    const highs = this.#highs;
    const lows = this.#lows;
    const high = highs[at]!;
    const low = lows[at]!;
    let end = at + 1;
    while (end < to && lows[end] === low && highs[end] === high) end++;
    return end;
  }

  /** Sorts by the next eight bytes, and by what comes behind where those are the same. */
  #sortFew(from: number, to: number, skip: number): void {
    const [ids, highs, lows, keys] = [this.ids, this.#highs, this.#lows, this.#keys];
    for (let at = from; at < to; at++) {
      const id = ids[at]!;
      const high = (keys.windowOf(id, skip) ^ SIGN) >>> 0;
      const low = (keys.windowOf(id, skip + WINDOW_BYTES) ^ SIGN) >>> 0;
      let place = at;
      for (; place > from; place--) {
        const [highBefore, lowBefore] = [highs[place - 1]!, lows[place - 1]!];
        if (highBefore < high || (highBefore === high && lowBefore < low)) break;
        const isAlike = highBefore === high && lowBefore === low;
        if (isAlike && keys.compareFrom(ids[place - 1]!, id, skip + DIGIT_BYTES) < 0) break;
        ids[place] = ids[place - 1]!;
        highs[place] = highBefore;
        lows[place] = lowBefore;
      }
      ids[place] = id;
      highs[place] = high;
      lows[place] = low;
    }
  }

  /** Whether a portion is done with so many keys more. */
  #isEnough(keys: number): boolean {
    this.#done += keys;
    if (this.#done < PORTION) return false;
    this.#done = 0;
    return true;
  }
}
