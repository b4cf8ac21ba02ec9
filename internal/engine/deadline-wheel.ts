/**
 * Ids by their deadlines: a wheel of five levels, each of 4096 buckets. A bucket of the lowest level is one millisecond, one
 * of the next 4096 of them, and so on; five reach beyond every deadline. An id stands in the lowest level whose buckets, from
 * the wheel's time on, reach its deadline. When time passes a bucket, its ids are due as a whole, without a look at any;
 * when time enters a bucket of a higher level, its ids are sorted into lower ones, so many at a time.
 *
 * A bucket is a list, doubly linked through the ids, so that an id is added and removed without a search. A million ids
 * that fall due in one second cost a million short steps, in whatever portions they are taken.
 */
import { assert } from "../base/assert.js";

const LEVEL_BITS = 12;
const BUCKETS = 1 << LEVEL_BITS;
const LEVELS = 5;
/** How many milliseconds a bucket of each level has. */
const BUCKET_MS = Array.from({ length: LEVELS + 1 }, (_, level) => BUCKETS ** level);
/** What is due, the soonest first, about. */
const DUE = LEVELS * BUCKETS;
/** What stood in a bucket that time has entered, and is to be sorted. */
const UNSORTED = DUE + 1;
const LISTS = UNSORTED + 1;
/** No id; ids are above it. */
const NO_ID = 0;
/** In a bucket that holds ids of many deadlines, so many are looked at to find one that is due soon. */
const LOOKS_MAX = 8;
/** Of those that are unsorted, before one is named. */
const SORTED_A_NAME = 64;

const CHUNK_BITS = 16;
const CHUNK_IDS = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_IDS - 1;
const NO_LINKS = new Int32Array(0);

export class DeadlineWheel {
  readonly #deadlineOf: (id: number) => number;
  /** All that is due at this time is in the list of it, or unsorted; nothing else is in that list. */
  #timeMs: number;
  #count = 0;
  #nextDueMs = Infinity;
  // By list.
  readonly #first = new Int32Array(LISTS);
  readonly #last = new Int32Array(LISTS);
  /** The bit of each list that is not empty. */
  readonly #occupied = new Int32Array((LISTS + 31) >>> 5);
  /** By chunk of ids: the next and the previous one of each. A negative one is the complement of the list, whose end is here. */
  readonly #links: Int32Array[] = [];
  readonly #linked: number[] = [];

  /** `deadlineOf` tells the deadline with which an id was added. Time is `startMs` at first. */
  constructor(deadlineOf: (id: number) => number, startMs = 0) {
    this.#deadlineOf = deadlineOf;
    this.#timeMs = startMs;
  }

  get count(): number {
    return this.#count;
  }

  get bytesTotal(): number {
    let bytes = LISTS * 8;
    for (const links of this.#links) bytes += links.byteLength;
    return bytes;
  }

  /** Nothing falls due before this; Infinity when there is nothing. */
  get nextDueMs(): number {
    return this.#nextDueMs;
  }

  /** Adds an id that is not there. */
  add(id: number, deadlineMs: number): void {
    const chunk = id >>> CHUNK_BITS;
    while (this.#links.length <= chunk) this.#links.push(NO_LINKS);
    if (this.#links[chunk] === NO_LINKS) {
      this.#links[chunk] = new Int32Array(2 * CHUNK_IDS);
      this.#linked[chunk] = 0;
    }
    this.#linked[chunk]!++;
    this.#count++;
    if (deadlineMs < this.#nextDueMs) this.#nextDueMs = deadlineMs;
    this.#append(this.#listOf(deadlineMs), id);
  }

  remove(id: number): void {
    const chunk = id >>> CHUNK_BITS;
    this.#unlink(id);
    this.#count--;
    if (--this.#linked[chunk]! === 0) this.#links[chunk] = NO_LINKS;
    if (this.#count === 0) this.#nextDueMs = Infinity;
  }

  /**
   * Up to `countMax` ids that are due at `nowMs`; they stay until they are removed. No more than some `countMax` ids are
   * looked at, so that there may be more where `nextDueMs` does not lie after `nowMs`.
   */
  due(nowMs: number, countMax: number): number[] {
    if (nowMs < this.#timeMs) this.#turnBack(nowMs);
    else this.#advance(nowMs);
    this.#sort(countMax * 2);
    this.#nextDueMs = this.#bound();
    const ids: number[] = [];
    for (let id = this.#first[DUE]!; id > NO_ID && ids.length < countMax; id = this.#next(id)) ids.push(id);
    return ids;
  }

  /**
   * An id that is due as soon as any, about, and for which `isWanted`; NO_ID when there is none. It goes behind the others of
   * its bucket, so that asking again and again does not pass over the same ids. What is due at `nowMs` comes first.
   */
  soonest(nowMs: number, isWanted: (id: number) => boolean): number {
    if (this.#count === 0) return NO_ID;
    if (nowMs > this.#timeMs) this.#advance(nowMs);
    this.#sort(SORTED_A_NAME);
    let id = this.#soonestOf(DUE, isWanted) || this.#soonestOf(UNSORTED, isWanted);
    for (let level = 0; level < LEVELS && id === NO_ID; level++) {
      const end = (level + 1) * BUCKETS;
      let list = this.#occupiedFrom(level * BUCKETS + this.#digit(this.#timeMs, level) + 1, end);
      for (; list < end && id === NO_ID; list = this.#occupiedFrom(list + 1, end)) {
        id = this.#soonestOf(list, isWanted);
      }
    }
    return id;
  }

  /** Of the first few of a list. */
  #soonestOf(list: number, isWanted: (id: number) => boolean): number {
    // All of a bucket of the lowest level are due together.
    const looksMax = list >= BUCKETS && list !== DUE ? LOOKS_MAX : 1;
    let found = NO_ID;
    let foundMs = Infinity;
    for (let id = this.#first[list]!, looks = 0; id > NO_ID && looks < looksMax; id = this.#next(id), looks++) {
      // Behind one that is not wanted are none, or few.
      if (!isWanted(id)) continue;
      const deadlineMs = this.#deadlineOf(id);
      if (deadlineMs >= foundMs) continue;
      found = id;
      foundMs = deadlineMs;
    }
    if (found === NO_ID) return NO_ID;
    this.#unlink(found);
    this.#append(list, found);
    return found;
  }

  /** The first list from this one on, and below `end`, that is not empty; `end` when there is none. */
  #occupiedFrom(list: number, end: number): number {
    if (list >= end) return end;
    let word = list >>> 5;
    let bits = this.#occupied[word]! & (-1 << (list & 31));
    while (bits === 0 && ++word << 5 < end) bits = this.#occupied[word]!;
    return bits === 0 ? end : Math.min(end, (word << 5) + 31 - Math.clz32(bits & -bits));
  }

  #setFirst(list: number, id: number): void {
    this.#first[list] = id;
    const bit = 1 << (list & 31);
    if (id === NO_ID) this.#occupied[list >>> 5]! &= ~bit;
    else this.#occupied[list >>> 5]! |= bit;
  }

  /** Where a deadline belongs, seen from the wheel's time. */
  #listOf(deadlineMs: number): number {
    if (deadlineMs <= this.#timeMs) return DUE;
    let level = 0;
    while (Math.floor(deadlineMs / BUCKET_MS[level + 1]!) !== Math.floor(this.#timeMs / BUCKET_MS[level + 1]!)) level++;
    assert(level < LEVELS, "five levels reach beyond every deadline");
    return level * BUCKETS + this.#digit(deadlineMs, level);
  }

  /** Which bucket of a level a time lies in. */
  #digit(timeMs: number, level: number): number {
    return Math.floor(timeMs / BUCKET_MS[level]!) % BUCKETS;
  }

  /** Makes due what the buckets hold that time passes, and lets those be sorted that it enters. */
  #advance(nowMs: number): void {
    for (let level = 0; level < LEVELS; level++) {
      const isSameTurn = Math.floor(nowMs / BUCKET_MS[level + 1]!) === Math.floor(this.#timeMs / BUCKET_MS[level + 1]!);
      const from = this.#digit(this.#timeMs, level) + 1;
      const end = isSameTurn ? this.#digit(nowMs, level) : BUCKETS;
      const endList = level * BUCKETS + end;
      let list = this.#occupiedFrom(level * BUCKETS + from, endList);
      for (; list < endList; list = this.#occupiedFrom(list + 1, endList)) this.#move(list, DUE);
      if (!isSameTurn) continue;
      // A whole bucket of the lowest level is due when time has come to it.
      if (end >= from) this.#move(level * BUCKETS + end, level === 0 ? DUE : UNSORTED);
      break;
    }
    this.#timeMs = nowMs;
  }

  /** The time was set back: everything is to be sorted anew. */
  #turnBack(nowMs: number): void {
    for (let list = 0; list < UNSORTED; list++) this.#move(list, UNSORTED);
    this.#timeMs = nowMs;
  }

  #sort(countMax: number): void {
    for (let count = 0; count < countMax; count++) {
      const id = this.#first[UNSORTED]!;
      if (id === NO_ID) return;
      this.#unlink(id);
      this.#append(this.#listOf(this.#deadlineOf(id)), id);
    }
  }

  #bound(): number {
    if (this.#count === 0) return Infinity;
    if (this.#first[DUE] !== NO_ID || this.#first[UNSORTED] !== NO_ID) return 0;
    for (let level = 0; level < LEVELS; level++) {
      const from = this.#digit(this.#timeMs, level) + 1;
      const end = (level + 1) * BUCKETS;
      const list = this.#occupiedFrom(level * BUCKETS + from, end);
      if (list === end) continue;
      const turnMs = BUCKET_MS[level + 1]!;
      return Math.floor(this.#timeMs / turnMs) * turnMs + (list - level * BUCKETS) * BUCKET_MS[level]!;
    }
    assert(false, "what is there is in a list");
  }

  /** Moves all of one list behind what is in another. */
  #move(from: number, to: number): void {
    const first = this.#first[from]!;
    if (first === NO_ID) return;
    const last = this.#last[from]!;
    this.#setFirst(from, NO_ID);
    this.#last[from] = NO_ID;
    const before = this.#last[to]!;
    this.#setPrevious(first, before === NO_ID ? ~to : before);
    if (before === NO_ID) this.#setFirst(to, first);
    else this.#setNext(before, first);
    this.#setNext(last, ~to);
    this.#last[to] = last;
  }

  #append(list: number, id: number): void {
    const last = this.#last[list]!;
    this.#setNext(id, ~list);
    this.#setPrevious(id, last === NO_ID ? ~list : last);
    if (last === NO_ID) this.#setFirst(list, id);
    else this.#setNext(last, id);
    this.#last[list] = id;
  }

  #unlink(id: number): void {
    const next = this.#next(id);
    const previous = this.#previous(id);
    if (previous < 0) this.#setFirst(~previous, Math.max(next, NO_ID));
    else this.#setNext(previous, next);
    if (next < 0) this.#last[~next] = Math.max(previous, NO_ID);
    else this.#setPrevious(next, previous);
  }

  #next(id: number): number {
    return this.#links[id >>> CHUNK_BITS]![(id & CHUNK_MASK) << 1]!;
  }

  #previous(id: number): number {
    return this.#links[id >>> CHUNK_BITS]![((id & CHUNK_MASK) << 1) + 1]!;
  }

  #setNext(id: number, next: number): void {
    this.#links[id >>> CHUNK_BITS]![(id & CHUNK_MASK) << 1] = next;
  }

  #setPrevious(id: number, previous: number): void {
    this.#links[id >>> CHUNK_BITS]![((id & CHUNK_MASK) << 1) + 1] = previous;
  }
}
