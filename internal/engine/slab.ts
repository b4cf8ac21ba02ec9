/**
 * Blocks of bytes off the V8 heap, by size classes. A page holds blocks of one class. What is free is used again first in
 * the fullest pages, so that others run empty; a class of which a quarter is free has its emptiest page moved out, a few
 * blocks at a time (`tidy`), and so has a region, when the pages of one are free. So memory is bounded by what is in use,
 * whatever sizes came and went before.
 *
 * A block begins with a word that names its owner, never 0, so that whoever refers to a block can be told where it
 * moved. The next word of a free block links it to the page's next one.
 */
import { assert } from "../base/assert.js";
import { byteOf, NONE, regionOf, SlabRegions } from "./slab-regions.js";
import { blockBytesOf, GRAIN_BITS, sizeClassOf } from "./slab-size-class.js";

/** Told that a block has moved; its bytes are at both places still. */
export type BlockMoved = (owner: number, from: number, to: number) => void;

const NO_CLASS = 255;
/** Pages of a class are kept in lists, by how many eighths of them are used; full ones in none. */
const LIST_BITS = 3;
const LISTS = 1 << LIST_BITS;
const UNLISTED = -1;
const WORD_SHIFT = 2;
/** A page of small blocks may hold thousands; so many free ones at most are passed over for each block that may be moved. */
const VISITS_A_MOVE = 8;

export class Slab {
  readonly regions: SlabRegions;
  readonly #moved: BlockMoved;
  readonly #pageShift: number;
  readonly #pageGrainsMask: number;
  // By class.
  readonly #blockGrains: Int32Array;
  readonly #pageSlots: Int32Array;
  readonly #classSlots: Int32Array;
  readonly #classUsed: Int32Array;
  /** The bit of each list that is not empty. */
  readonly #listed: Uint8Array;
  /** The first page of each list. */
  readonly #lists: Int32Array;
  // By page.
  #sizeClass = new Uint8Array(0);
  #used = new Int32Array(0);
  /** The grain in the page after which the first of its free blocks begins; 0: none. */
  #free = new Int32Array(0);
  /** Where in the page the blocks begin that were never used. */
  #begun = new Int32Array(0);
  #list = new Int8Array(0);
  #next = new Int32Array(0);
  #previous = new Int32Array(0);
  /** The page that is being moved out, and how far that is. */
  #leaving = NONE;
  #leftUpTo = 0;
  /** The classes that may have much that is free, and whether a class is among them. */
  readonly #sparse: number[] = [];
  readonly #isSparseNoted: Uint8Array;
  #blockBytes = 0;

  constructor(options: { readonly pageBytes: number; readonly blockBytesMax: number; readonly moved: BlockMoved }) {
    const { pageBytes, blockBytesMax, moved } = options;
    this.regions = new SlabRegions(pageBytes);
    this.#moved = moved;
    this.#pageShift = this.regions.pageShift;
    this.#pageGrainsMask = (1 << this.#pageShift) - 1;
    const classes = sizeClassOf(blockBytesMax) + 1;
    assert(classes < NO_CLASS && blockBytesMax <= pageBytes, "a page holds a block of each size");
    this.#blockGrains = Int32Array.from({ length: classes }, (_, sizeClass) => blockBytesOf(sizeClass) >>> GRAIN_BITS);
    this.#pageSlots = this.#blockGrains.map((grains) => Math.floor((1 << this.#pageShift) / grains));
    this.#classSlots = new Int32Array(classes);
    this.#classUsed = new Int32Array(classes);
    this.#isSparseNoted = new Uint8Array(classes);
    this.#listed = new Uint8Array(classes);
    this.#lists = new Int32Array(classes * LISTS);
  }

  /** Bytes of the blocks in use. */
  get blockBytes(): number {
    return this.#blockBytes;
  }

  /** A block of at least so many bytes, which are 8 or more. Only its first word is set. */
  allocate(bytes: number, owner: number): number {
    const sizeClass = sizeClassOf(bytes);
    const page = this.#pageWithRoom(sizeClass);
    const at = this.#takeSlot(page, sizeClass);
    const location = (page << this.#pageShift) + at;
    this.regions.words[regionOf(location)]![byteOf(location) >>> WORD_SHIFT] = owner;
    this.#used[page]!++;
    this.#classUsed[sizeClass]!++;
    this.#blockBytes += this.#blockGrains[sizeClass]! << GRAIN_BITS;
    this.#relist(page, sizeClass);
    return location;
  }

  free(location: number): void {
    const page = location >>> this.#pageShift;
    const sizeClass = this.#sizeClass[page]!;
    const at = location & this.#pageGrainsMask;
    const words = this.regions.words[regionOf(location)]!;
    const word = byteOf(location) >>> WORD_SHIFT;
    assert(words[word] !== 0, "a block is freed once");
    words[word] = 0;
    words[word + 1] = this.#free[page]!;
    this.#free[page] = at + 1;
    this.#used[page]!--;
    this.#classUsed[sizeClass]!--;
    this.#blockBytes -= this.#blockGrains[sizeClass]! << GRAIN_BITS;
    if (this.#used[page] === 0) this.#releasePage(page, sizeClass);
    else if (page !== this.#leaving) this.#relist(page, sizeClass);
    if (this.#isSparseNoted[sizeClass] === 0 && this.#isSparse(sizeClass)) {
      this.#isSparseNoted[sizeClass] = 1;
      this.#sparse.push(sizeClass);
    }
  }

  /** How many bytes the block has. */
  blockBytesAt(location: number): number {
    return this.#blockGrains[this.#sizeClass[location >>> this.#pageShift]!]! << GRAIN_BITS;
  }

  /** Moves so many blocks at most to where memory can be given back for it. Returns whether there is more to do. */
  tidy(movesMax: number): boolean {
    let moves = movesMax;
    let visits = movesMax * VISITS_A_MOVE;
    while (moves > 0 && visits > 0) {
      if (this.#leaving === NONE && !this.#chooseLeaving()) return false;
      if (this.#moveNext()) moves--;
      visits--;
    }
    return true;
  }

  #isSparse(sizeClass: number): boolean {
    const used = this.#classUsed[sizeClass]!;
    // The emptiest page's blocks must have room in the others.
    return this.#classSlots[sizeClass]! - used > used / 3 + 2 * this.#pageSlots[sizeClass]!;
  }

  #pageWithRoom(sizeClass: number): number {
    const listed = this.#listed[sizeClass]!;
    if (listed !== 0) return this.#lists[(sizeClass << LIST_BITS) + 31 - Math.clz32(listed)]!;
    const page = this.regions.takePage();
    if (page >= this.#sizeClass.length) this.#growColumns();
    this.#sizeClass[page] = sizeClass;
    this.#used[page] = 0;
    this.#free[page] = 0;
    this.#begun[page] = 0;
    this.#list[page] = UNLISTED;
    this.#classSlots[sizeClass]! += this.#pageSlots[sizeClass]!;
    return page;
  }

  #takeSlot(page: number, sizeClass: number): number {
    const first = this.#free[page]!;
    if (first === 0) {
      const at = this.#begun[page]!;
      this.#begun[page] = at + this.#blockGrains[sizeClass]!;
      return at;
    }
    const location = (page << this.#pageShift) + first - 1;
    this.#free[page] = this.regions.words[regionOf(location)]![(byteOf(location) >>> WORD_SHIFT) + 1]!;
    return first - 1;
  }

  #releasePage(page: number, sizeClass: number): void {
    this.#unlist(page, sizeClass);
    this.#sizeClass[page] = NO_CLASS;
    this.#classSlots[sizeClass]! -= this.#pageSlots[sizeClass]!;
    if (page === this.#leaving) this.#leaving = NONE;
    this.regions.givePage(page);
  }

  /** Puts a page into the list that it now belongs to. */
  #relist(page: number, sizeClass: number): void {
    const used = this.#used[page]!;
    const slots = this.#pageSlots[sizeClass]!;
    const list = used === slots ? UNLISTED : ((used << LIST_BITS) / slots) | 0;
    if (list === this.#list[page]) return;
    this.#unlist(page, sizeClass);
    if (list === UNLISTED) return;
    const head = (sizeClass << LIST_BITS) + list;
    const next = this.#lists[head]!;
    this.#lists[head] = page;
    this.#next[page] = next;
    this.#previous[page] = NONE;
    if (next !== NONE) this.#previous[next] = page;
    this.#listed[sizeClass]! |= 1 << list;
    this.#list[page] = list;
  }

  #unlist(page: number, sizeClass: number): void {
    const list = this.#list[page]!;
    if (list === UNLISTED) return;
    const next = this.#next[page]!;
    const previous = this.#previous[page]!;
    if (next !== NONE) this.#previous[next] = previous;
    if (previous !== NONE) this.#next[previous] = next;
    else {
      this.#lists[(sizeClass << LIST_BITS) + list] = next;
      if (next === NONE) this.#listed[sizeClass]! &= ~(1 << list);
    }
    this.#list[page] = UNLISTED;
  }

  /** Chooses a page to move out, if there is one. */
  #chooseLeaving(): boolean {
    const page = this.#sparsePage() || this.#drainedPage();
    if (page === NONE) return false;
    this.#unlist(page, this.#sizeClass[page]!);
    this.#leaving = page;
    this.#leftUpTo = 0;
    return true;
  }

  /** The emptiest page of a class of which much is free. */
  #sparsePage(): number {
    let sizeClass = this.#sparse.at(-1);
    while (sizeClass !== undefined && !this.#isSparse(sizeClass)) {
      this.#isSparseNoted[sizeClass] = 0;
      this.#sparse.pop();
      sizeClass = this.#sparse.at(-1);
    }
    if (sizeClass === undefined) return NONE;
    const listed = this.#listed[sizeClass]!;
    assert(listed !== 0, "a class with room has a page with room");
    return this.#lists[(sizeClass << LIST_BITS) + 31 - Math.clz32(listed & -listed)]!;
  }

  /** A page in use of the region that is to become empty. */
  #drainedPage(): number {
    const region = this.regions.drained();
    if (region === NONE) return NONE;
    const { first, end } = this.regions.pagesOf(region);
    for (let page = first; page < end; page++) if (this.#sizeClass[page] !== NO_CLASS) return page;
    return NONE;
  }

  /** Looks at one block of the page that is being moved out; whether it was in use, and is elsewhere now. */
  #moveNext(): boolean {
    const page = this.#leaving;
    const sizeClass = this.#sizeClass[page]!;
    assert(this.#leftUpTo < this.#begun[page]!, "a page that was left wholly is free");
    const from = (page << this.#pageShift) + this.#leftUpTo;
    this.#leftUpTo += this.#blockGrains[sizeClass]!;
    const owner = this.regions.words[regionOf(from)]![byteOf(from) >>> WORD_SHIFT]!;
    if (owner === 0) return false;
    const bytes = this.#blockGrains[sizeClass]! << GRAIN_BITS;
    const to = this.allocate(bytes, owner);
    const start = byteOf(from);
    this.regions.bytes[regionOf(to)]!.set(
      this.regions.bytes[regionOf(from)]!.subarray(start, start + bytes),
      byteOf(to),
    );
    this.#moved(owner, from, to);
    this.free(from);
    return true;
  }

  #growColumns(): void {
    const length = Math.max(this.regions.pageNumbersEnd, this.#sizeClass.length * 2);
    const sizeClass = new Uint8Array(length).fill(NO_CLASS);
    sizeClass.set(this.#sizeClass);
    this.#sizeClass = sizeClass;
    this.#used = longer(this.#used, length);
    this.#free = longer(this.#free, length);
    this.#begun = longer(this.#begun, length);
    this.#next = longer(this.#next, length);
    this.#previous = longer(this.#previous, length);
    const list = new Int8Array(length);
    list.set(this.#list);
    this.#list = list;
  }
}

function longer(column: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const grown = new Int32Array(length);
  grown.set(column);
  return grown;
}
