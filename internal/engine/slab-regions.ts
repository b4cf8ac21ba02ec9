/**
 * The memory under a slab: regions of 32 MiB, each one ArrayBuffer, cut into pages of one size. The system lends the memory of
 * a page when it is first written to, and gets that of a whole region back as soon as no page of it is used. From 32 MiB on
 * the C library asks the system for every block, and returns it, by itself; smaller ones may stay with it when they are freed.
 *
 * A location is a place in all that: 11 bits for the region, 21 for the grain of 16 bytes in it; 64 GiB in all. It is a
 * signed number of 32 bits, which JavaScript holds without an object. 0 is no location.
 */
import { assert } from "../base/assert.js";
import { freeNow } from "./free-now.js";
import { GRAIN_BITS } from "./slab-size-class.js";

const REGION_BITS = 25;
const REGION_BYTES = 1 << REGION_BITS;
/** Of the first region, since most of the engines of tests hold no more. */
const FIRST_REGION_BYTES = 1 << 18;
/** What an engine without entries keeps. */
const KEPT_BYTES = 1 << 20;
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
  readonly views: DataView[] = [new DataView(new ArrayBuffer(0))];
  readonly buffers: ArrayBuffer[] = [new ArrayBuffer(0)];
  /** How far a location is shifted to give its page's number, and back. */
  readonly pageShift: number;
  readonly #pageBytes: number;
  /** Pages of a region of the largest size; page numbers leave so much room to every region. */
  readonly #pagesBits: number;
  // By region.
  readonly #pages: number[] = [0];
  readonly #used: number[] = [0];
  /** Pages from the first on that were used once. The memory of the others was not lent yet. */
  readonly #begun: number[] = [0];
  /** Those of the begun that are free again. */
  readonly #free: number[][] = [[]];
  readonly #spareNumbers: number[] = [];
  #begunTotal = 0;
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

  /** Bytes of all pages that the system has lent. */
  get bytesTotal(): number {
    return this.#begunTotal * this.#pageBytes;
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
    const page = this.#free[region]!.pop() ?? this.#begin(region);
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
   * The region that should become empty, so that its memory can be given back; no more pages are taken from it. NONE where
   * that is not worth it.
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

  /** Of the regions whose pages are better elsewhere, the one with most memory to give back. */
  #emptiest(): number {
    let found = NONE;
    let foundFree = 0;
    for (let region = 1; region < this.#pages.length; region++) {
      const free = this.#begun[region]! - this.#used[region]!;
      if (this.#used[region] === 0 || free <= foundFree || !this.#isDispensable(region)) continue;
      found = region;
      foundFree = free;
    }
    return found;
  }

  /**
   * Whether without a region the others would still have a quarter of what is used free, which will soon be needed; or what they
   * would have to begin anew for that is half of what is given back at most.
   */
  #isDispensable(region: number): boolean {
    const lacking = this.#usedTotal * 1.25 - (this.#begunTotal - this.#begun[region]!);
    return lacking <= this.#begun[region]! / 2;
  }

  /** Whether a region stays although it is empty. Of an engine without entries, a little does. */
  #isKept(region: number): boolean {
    if (region === this.#draining) return false;
    if (!this.#isDispensable(region)) return true;
    return this.#begun[region] === this.#begunTotal && this.#begunTotal * this.#pageBytes <= KEPT_BYTES;
  }

  #addRegion(): number {
    const isFirst = this.#begunTotal === 0;
    const buffer = new ArrayBuffer(isFirst ? Math.max(FIRST_REGION_BYTES, this.#pageBytes) : REGION_BYTES);
    const region = this.#spareNumbers.pop() ?? this.bytes.length;
    assert(region < REGIONS_MAX, "the engine holds 64 GiB of keys and values, and cannot hold more");
    this.#set(region, buffer);
    this.#pages[region] = buffer.byteLength / this.#pageBytes;
    return region;
  }

  #begin(region: number): number {
    this.#begunTotal++;
    return this.#begun[region]!++;
  }

  #release(region: number): void {
    const buffer = this.buffers[region]!;
    this.#begunTotal -= this.#begun[region]!;
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
    this.views[region] = new DataView(buffer);
    this.#used[region] = 0;
    this.#begun[region] = 0;
    this.#free[region] = [];
  }
}
