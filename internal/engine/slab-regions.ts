/**
 * The memory under a slab: regions of up to 32 MiB, each one ArrayBuffer, cut into pages of one size. The system lends
 * the memory of a page when it is first written to, and gets that of a whole region back as soon as no page of it is used;
 * 32 MiB is the size from which on the C library asks the system for every block, and returns it, by itself.
 *
 * A location is a place in all that: 11 bits for the region, 21 for the grain of 16 bytes in it; 64 GiB in all. It is a
 * signed number of 32 bits, which JavaScript holds without an object. 0 is no location.
 */
import { assert } from "../base/assert.js";
import { freeNow } from "./free-now.js";
import { GRAIN_BITS } from "./slab-size-class.js";

const REGION_BITS = 25;
const REGION_BYTES_MAX = 1 << REGION_BITS;
/** A small engine takes little; every further region is as large as all before it, up to the largest. */
const REGION_BYTES_MIN = 1 << 18;
const REGION_GRAINS_BITS = REGION_BITS - GRAIN_BITS;
const REGION_GRAINS_MASK = (1 << REGION_GRAINS_BITS) - 1;
const REGIONS_MAX = 1 << (32 - REGION_GRAINS_BITS);
/** No page, no region, no location. */
export const NONE = 0;

export function regionOf(location: number): number {
  return location >>> REGION_GRAINS_BITS;
}

/** Where in its region a location lies. */
export function byteOf(location: number): number {
  return (location & REGION_GRAINS_MASK) << GRAIN_BITS;
}

export class SlabRegions {
  /** The regions' bytes, also as 32-bit and as 64-bit numbers. Empty where there is no region, as at 0. */
  readonly bytes: Uint8Array[] = [new Uint8Array(0)];
  readonly words: Int32Array[] = [new Int32Array(0)];
  readonly numbers: Float64Array[] = [new Float64Array(0)];
  readonly buffers: ArrayBuffer[] = [new ArrayBuffer(0)];
  /** How far a location is shifted to give its page's number, and back. */
  readonly pageShift: number;
  readonly #pageBytes: number;
  /** Pages of a region of the largest size; page numbers leave so much room to every region. */
  readonly #pagesBits: number;
  // By region.
  readonly #pages: number[] = [0];
  readonly #used: number[] = [0];
  /** Pages from the first on that were used once. The memory of the others was never touched. */
  readonly #begun: number[] = [0];
  /** Those of the begun that are free again. */
  readonly #free: number[][] = [[]];
  readonly #spareNumbers: number[] = [];
  #pagesTotal = 0;
  #usedTotal = 0;
  /** The region that is to become empty. */
  #draining = NONE;
  /** Nothing can be drained as long as no page is taken or given. */
  #isSettled = true;

  /** `pageBytes` is a power of two, and not more than a region. */
  constructor(pageBytes: number) {
    this.#pageBytes = pageBytes;
    const pageBits = 31 - Math.clz32(pageBytes);
    assert(1 << pageBits === pageBytes && pageBits <= REGION_BITS, "a page's size is a power of two, within a region");
    this.#pagesBits = REGION_BITS - pageBits;
    this.pageShift = pageBits - GRAIN_BITS;
  }

  /** Bytes of all regions, whether touched or not. */
  get bytesTotal(): number {
    return this.#pagesTotal * this.#pageBytes;
  }

  get usedPages(): number {
    return this.#usedTotal;
  }

  /** All page numbers are below. */
  get pageNumbersEnd(): number {
    return this.bytes.length << this.#pagesBits;
  }

  /** A page that nobody uses: one of the fullest region that has any, so that others may become empty. */
  takePage(): number {
    const region = this.#fullest() || this.#addRegion();
    this.#isSettled = false;
    const page = this.#free[region]!.pop() ?? this.#begun[region]!++;
    this.#used[region]!++;
    this.#usedTotal++;
    return (region << this.#pagesBits) + page;
  }

  givePage(page: number): void {
    const region = page >>> this.#pagesBits;
    this.#free[region]!.push(page & ((1 << this.#pagesBits) - 1));
    this.#usedTotal--;
    this.#isSettled = false;
    if (--this.#used[region]! === 0 && !this.#isKept(region)) this.#release(region);
  }

  /**
   * The region that should become empty, so that its memory can be given back; no more pages are taken from it. NONE
   * when none could become empty and leave a quarter of what is used free in the others.
   */
  drained(): number {
    if (this.#draining === NONE && !this.#isSettled) {
      this.#releaseEmpty();
      this.#draining = this.#emptiest();
      this.#isSettled = this.#draining === NONE;
    }
    return this.#draining;
  }

  /** The numbers of a region's pages: from `first` on, up to `end`. */
  pagesOf(region: number): { first: number; end: number } {
    const first = region << this.#pagesBits;
    return { first, end: first + this.#begun[region]! };
  }

  #fullest(): number {
    let found = NONE;
    let foundFree = Infinity;
    for (let region = 1; region < this.#pages.length; region++) {
      const free = this.#pages[region]! - this.#used[region]!;
      if (region === this.#draining || free === 0 || free >= foundFree) continue;
      found = region;
      foundFree = free;
    }
    return found;
  }

  #releaseEmpty(): void {
    for (let region = 1; region < this.#pages.length; region++) {
      if (this.#pages[region] !== 0 && this.#used[region] === 0 && !this.#isKept(region)) this.#release(region);
    }
  }

  /** Of the regions whose pages are better elsewhere, the one with most free. */
  #emptiest(): number {
    let found = NONE;
    let foundFree = 0;
    for (let region = 1; region < this.#pages.length; region++) {
      if (this.#used[region] === 0) continue;
      const free = this.#pages[region]! - this.#used[region]!;
      if (free <= foundFree || !this.#isWorthDraining(region)) continue;
      found = region;
      foundFree = free;
    }
    return found;
  }

  /** Whether the others have room for the pages of a region, or a new one that is half as large would do in its place. */
  #isWorthDraining(region: number): boolean {
    const lacking = -this.#roomWithout(region);
    return lacking <= 0 || this.#pagesFor(lacking) <= this.#pages[region]! / 2;
  }

  /**
   * How many pages would be free without a region, all that are used having their place, beyond a quarter of these:
   * without so many a new region would soon be needed.
   */
  #roomWithout(region: number): number {
    return this.#pagesTotal - this.#pages[region]! - this.#usedTotal * 1.25;
  }

  /** The pages of a new region that has so many at least, if there are regions that large. */
  #pagesFor(pages: number): number {
    const bytes = Math.max(REGION_BYTES_MIN, this.#pageBytes, pages * this.#pageBytes);
    return Math.min(REGION_BYTES_MAX, 2 ** Math.ceil(Math.log2(bytes))) / this.#pageBytes;
  }

  /** An empty region stays while it will soon be needed anew; of an engine without entries, a small one does. */
  #isKept(region: number): boolean {
    if (region === this.#draining) return false;
    if (this.#roomWithout(region) < 0) return true;
    const pages = this.#pages[region]!;
    return pages === this.#pagesTotal && (pages === 1 || pages * this.#pageBytes <= REGION_BYTES_MIN);
  }

  #addRegion(): number {
    // While one is being drained, what it holds is to find its place.
    const pagesMin = this.#draining === NONE ? this.#pagesTotal : -this.#roomWithout(this.#draining);
    const pages = this.#pagesFor(pagesMin);
    const region = this.#spareNumbers.pop() ?? this.bytes.length;
    assert(region < REGIONS_MAX, "the engine holds 64 GiB of keys and values, and cannot hold more");
    this.#set(region, new ArrayBuffer(pages * this.#pageBytes));
    this.#pages[region] = pages;
    this.#pagesTotal += pages;
    return region;
  }

  #release(region: number): void {
    const buffer = this.buffers[region]!;
    this.#pagesTotal -= this.#pages[region]!;
    this.#pages[region] = 0;
    this.#set(region, new ArrayBuffer(0));
    this.#spareNumbers.push(region);
    if (region === this.#draining) this.#draining = NONE;
    freeNow(buffer);
  }

  #set(region: number, buffer: ArrayBuffer): void {
    this.buffers[region] = buffer;
    this.bytes[region] = new Uint8Array(buffer);
    this.words[region] = new Int32Array(buffer);
    this.numbers[region] = new Float64Array(buffer);
    this.#used[region] = 0;
    this.#begun[region] = 0;
    this.#free[region] = [];
  }
}
