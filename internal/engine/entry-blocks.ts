/**
 * How an entry lies in memory: a block of the slab with its numbers, then its key and value. Those of a large entry lie in
 * a body of their own, a block of a slab with larger pages, or a buffer for itself beyond that.
 *
 *     0  id               8  create seq      16  mod seq       24  deadline, Infinity for none
 *     4  checksum        32  value's length  36  last use      40  key's length (2), kind (1), count of uses (1)
 *    44  key, value; or where the body is, which is id, key, value; or key, value in a buffer for itself
 *
 * Numbers have the byte order of the machine: nothing of this leaves the process.
 */
import { assert } from "../base/assert.js";
import type { KeyValueBytes } from "./engine.js";
import type { EntryIds } from "./entry-ids.js";
import type { Keys } from "./hash-index.js";
import { deadlineNumber, numbersChecksum } from "./entry-checksum.js";
import { crc32Copy, crc32CopyViews } from "../base/crc32.js";
import { OwnBuffers } from "./own-buffers.js";
import { type BlockMoved, Slab } from "./slab.js";
import { commonBytes, compareBytes, copyBytes, equalBytes, windowOf } from "./slab-bytes.js";
import { byteOf, NONE, regionOf } from "./slab-regions.js";
import { blockBytesOf, sizeClassOf } from "./slab-size-class.js";

// Places in words of 32 bits, and of 64.
const CHECKSUM = 1;
const CREATE_SEQ = 1;
const MOD_SEQ = 2;
const DEADLINE = 3;
const VALUE_BYTES = 8;
const LAST_USE = 9;
/** The key's length, the kind, and the count of uses. One look compares the first two with a key of the usual kind. */
const KEY = 10;
const BODY = 11;
export const HEAD_BYTES = 44;
const BODY_REFERENCE_BYTES = 4;
/** A body in a slab begins with the id of its entry. */
const BODY_HEAD_BYTES = 4;

const KEY_BYTES_MASK = 0xffff;
const KIND_SHIFT = 16;
const KIND_MASK = 0xff;
const USES_SHIFT = 24;
const NO_USES_MASK = (1 << USES_SHIFT) - 1;
/** Key and value lie in the entry's own block. */
const INLINE = 0;
const IN_SLAB = 1;
const IN_BUFFER = 2;

/** Eight of the largest fill a page. */
const PAGE_BYTES = 1 << 16;
const BLOCK_BYTES_MAX = 1 << 13;
const BODY_PAGE_BYTES = 1 << 20;
const BODY_BYTES_MAX = 1 << 17;

/** Of entries that lie in a run, key and value; longer ones are copied and summed by whole pieces. */
const VIEWED_BYTES_MAX = 512;

/** Blocks that a single operation moves at most to give back memory; each frees one or two at most. */
const MOVES_AN_OPERATION = 4;

/** The bytes that blocks for a key and value of these lengths take. */
export function blockBytesFor(keyBytes: number, valueBytes: number): number {
  const bytes = keyBytes + valueBytes;
  const kind = kindOf(bytes);
  if (kind === INLINE) return blockBytesOf(sizeClassOf(HEAD_BYTES + bytes));
  const head = blockBytesOf(sizeClassOf(HEAD_BYTES + BODY_REFERENCE_BYTES));
  return head + (kind === IN_SLAB ? blockBytesOf(sizeClassOf(BODY_HEAD_BYTES + bytes)) : bytes);
}

function kindOf(bytes: number): number {
  if (HEAD_BYTES + bytes <= BLOCK_BYTES_MAX) return INLINE;
  return BODY_HEAD_BYTES + bytes <= BODY_BYTES_MAX ? IN_SLAB : IN_BUFFER;
}

export class EntryBlocks implements Keys {
  readonly #slab: Slab;
  readonly #bodies: Slab;
  readonly #buffers = new OwnBuffers();
  readonly #bytes: Uint8Array[];
  readonly #words: Int32Array[];
  readonly #numbers: Float64Array[];
  readonly #views: DataView[];
  /** Where `#locateBody` found a key: these bytes, from its result on. */
  #found: Uint8Array = new Uint8Array(0);

  /** `moved` is told of entries; `locationOf` finds the block of an entry whose body moves. */
  constructor(options: { readonly moved: BlockMoved; readonly locationOf: (id: number) => number }) {
    const { moved, locationOf } = options;
    this.#slab = new Slab({ pageBytes: PAGE_BYTES, blockBytesMax: BLOCK_BYTES_MAX, moved });
    this.#bodies = new Slab({
      pageBytes: BODY_PAGE_BYTES,
      blockBytesMax: BODY_BYTES_MAX,
      moved: (id, _from, to) => this.#setWord(locationOf(id), BODY, to),
    });
    ({ bytes: this.#bytes, words: this.#words, numbers: this.#numbers, views: this.#views } = this.#slab.regions);
  }

  /** Bytes of the blocks in use. */
  get blockBytes(): number {
    return this.#slab.blockBytes + this.#bodies.blockBytes + this.#buffers.bytesTotal;
  }

  /** Bytes of all that is held to put blocks into, whether in use or not. */
  get bytesTotal(): number {
    return this.#slab.regions.bytesTotal + this.#bodies.regions.bytesTotal + this.#buffers.bytesTotal;
  }

  isKey(location: number, bytes: Uint8Array, start: number, end: number): boolean {
    const region = regionOf(location);
    const byte = byteOf(location);
    const key = this.#words[region]![(byte >>> 2) + KEY]! & NO_USES_MASK;
    const length = end - start;
    if (key === length) return equalBytes(this.#bytes[region]!, byte + HEAD_BYTES, bytes, start, length);
    if ((key & KEY_BYTES_MASK) !== length) return false;
    const at = this.#locateBody(location);
    return equalBytes(this.#found, at, bytes, start, length);
  }

  /** Negative, zero or positive, as the entry's key, without the first of it, comes before, at or after the one that is given. */
  compareKey(location: number, bytes: Uint8Array, start: number, end: number, skip = 0): number {
    const at = this.#locateBody(location);
    const keyBytes = this.keyBytesAt(location);
    return compareBytes(this.#found, at + Math.min(skip, keyBytes), at + keyBytes, bytes, start, end);
  }

  /** Four bytes of the key, without the first of it, as `windowOf` has them. */
  windowAt(location: number, skip: number): number {
    const at = this.#locateBody(location);
    const bytes = this.keyBytesAt(location);
    return windowOf(this.#found, at + Math.min(skip, bytes), at + bytes);
  }

  /** How many bytes the key, without the first `skip` of it, has in common with one that is given, from their beginnings on. */
  commonBytes(location: number, bytes: Uint8Array, start: number, end: number, skip = 0): number {
    const at = this.#locateBody(location);
    return commonBytes(this.#found, at + skip, at + this.keyBytesAt(location), bytes, start, end);
  }

  keyBytesAt(location: number): number {
    return this.#word(location, KEY) & KEY_BYTES_MASK;
  }

  valueBytesAt(location: number): number {
    return this.#word(location, VALUE_BYTES);
  }

  idAt(location: number): number {
    return this.#word(location, 0);
  }

  /** Signed 32 bits, so that it is no object. */
  checksumAt(location: number): number {
    return this.#word(location, CHECKSUM);
  }

  /** When the entry was used last: unsigned 32 bits, whatever they mean. */
  lastUseAt(location: number): number {
    return this.#word(location, LAST_USE) >>> 0;
  }

  /** How often the entry was used: 8 bits, whatever they mean. */
  usesAt(location: number): number {
    return this.#word(location, KEY) >>> USES_SHIFT;
  }

  setUse(location: number, lastUse: number, uses: number): void {
    this.#setWord(location, LAST_USE, lastUse);
    this.#setWord(location, KEY, (this.#word(location, KEY) & NO_USES_MASK) | (uses << USES_SHIFT));
  }

  createSeqAt(location: number): number {
    return this.#number(location, CREATE_SEQ);
  }

  modSeqAt(location: number): number {
    return this.#number(location, MOD_SEQ);
  }

  /** Infinity: none. */
  deadlineAt(location: number): number {
    return this.#number(location, DEADLINE);
  }

  /** Valid until an entry is written or freed. */
  keyAt(location: number): Uint8Array {
    const at = this.#locateBody(location);
    return new Uint8Array(this.#found.buffer, at, this.keyBytesAt(location));
  }

  copyKey(location: number): Uint8Array {
    const at = this.#locateBody(location);
    // From a pool: a buffer for each of many keys would cost more than all else.
    const key = Buffer.allocUnsafe(this.keyBytesAt(location));
    copyBytes(this.#found, at, key.length, key, 0);
    return key;
  }

  /** Valid until an entry is written or freed. */
  valueAt(location: number): Uint8Array {
    const at = this.#locateBody(location) + this.keyBytesAt(location);
    return new Uint8Array(this.#found.buffer, at, this.valueBytesAt(location));
  }

  /** What holds the key and the value, one after the other, from where `keyStartAt` says. */
  bytesAt(location: number): Uint8Array {
    this.#locateBody(location);
    return this.#found;
  }

  keyStartAt(location: number): number {
    return this.#locateBody(location);
  }

  /**
   * Writes an entry, in place of the one at `before` if that is not NONE, whose id and use it keeps. Returns where it is now; its
   * checksum is there too.
   */
  write(before: number, entry: KeyValueBytes, createSeq: number, modSeq: number): number {
    const { keyIn, keyStart, keyEnd, valueIn, valueStart, valueEnd, deadlineMs } = entry;
    const keyBytes = keyEnd - keyStart;
    const valueBytes = valueEnd - valueStart;
    const bytes = keyBytes + valueBytes;
    const kind = kindOf(bytes);
    const isInPlace = before !== NONE && kind === INLINE && this.#holdsInline(before, HEAD_BYTES + bytes);
    const headBytes = kind === INLINE ? HEAD_BYTES + bytes : HEAD_BYTES + BODY_REFERENCE_BYTES;
    // Until it has its id, any word but 0 says that the block is in use.
    const location = isInPlace ? before : this.#slab.allocate(headBytes, before === NONE ? -1 : this.idAt(before));
    const region = regionOf(location);
    const words = this.#words[region]!;
    const word = byteOf(location) >>> 2;
    words[word + VALUE_BYTES] = valueBytes;
    words[word + KEY] = keyBytes | (kind << KIND_SHIFT) | this.#usesBits(before);
    words[word + LAST_USE] = before === NONE ? 0 : this.#word(before, LAST_USE);
    if (kind !== INLINE) words[word + BODY] = this.#newBody(kind, bytes, words[word]!);
    let checksum = numbersChecksum(keyBytes, createSeq, modSeq, deadlineNumber(deadlineMs));
    if (entry.view && bytes <= VIEWED_BYTES_MAX) {
      const to = this.#views[region]!;
      const at = byteOf(location) + HEAD_BYTES;
      checksum = crc32CopyViews(entry.view, keyStart, keyEnd, to, at, checksum);
      checksum = crc32CopyViews(entry.view, valueStart, valueEnd, to, at + keyBytes, checksum);
    } else {
      const at = this.#locateBody(location);
      checksum = crc32Copy(keyIn, keyStart, keyEnd, this.#found, at, checksum);
      checksum = crc32Copy(valueIn, valueStart, valueEnd, this.#found, at + keyBytes, checksum);
    }
    words[word + CHECKSUM] = checksum;
    const numbers = this.#numbers[region]!;
    const number = byteOf(location) >>> 3;
    numbers[number + CREATE_SEQ] = createSeq;
    numbers[number + MOD_SEQ] = modSeq;
    numbers[number + DEADLINE] = deadlineMs;
    if (before !== NONE && !isInPlace) this.free(before);
    return location;
  }

  /** Writes an entry that is new, and takes its id. Returns where it is. */
  create(
    entry: KeyValueBytes,
    createSeq: number,
    modSeq: number,
    options: { readonly ids: EntryIds; readonly lastUse: number; readonly uses: number },
  ): number {
    const { keyStart, keyEnd, valueStart, valueEnd, deadlineMs, view } = entry;
    const { ids, lastUse, uses } = options;
    const keyBytes = keyEnd - keyStart;
    const valueBytes = valueEnd - valueStart;
    const bytes = keyBytes + valueBytes;
    if (!view || bytes > VIEWED_BYTES_MAX) {
      const location = this.write(NONE, entry, createSeq, modSeq);
      this.#setId(location, ids.take(location));
      this.setUse(location, lastUse, uses);
      return location;
    }
    // Most of what is loaded: each word is written once, in what is looked up once.
    const location = this.#slab.allocate(HEAD_BYTES + bytes, -1);
    const region = regionOf(location);
    const byte = byteOf(location);
    const to = this.#views[region]!;
    const at = byte + HEAD_BYTES;
    let checksum = numbersChecksum(keyBytes, createSeq, modSeq, deadlineNumber(deadlineMs));
    checksum = crc32CopyViews(view, keyStart, keyEnd, to, at, checksum);
    checksum = crc32CopyViews(view, valueStart, valueEnd, to, at + keyBytes, checksum);
    const words = this.#words[region]!;
    const word = byte >>> 2;
    words[word] = ids.take(location);
    words[word + CHECKSUM] = checksum;
    words[word + VALUE_BYTES] = valueBytes;
    words[word + LAST_USE] = lastUse;
    words[word + KEY] = keyBytes | (uses << USES_SHIFT);
    const numbers = this.#numbers[region]!;
    const number = byte >>> 3;
    numbers[number + CREATE_SEQ] = createSeq;
    numbers[number + MOD_SEQ] = modSeq;
    numbers[number + DEADLINE] = deadlineMs;
    return location;
  }

  #setId(location: number, id: number): void {
    this.#setWord(location, 0, id);
    if (this.#kindAt(location) !== IN_SLAB) return;
    const body = this.#word(location, BODY);
    this.#bodies.regions.words[regionOf(body)]![byteOf(body) >>> 2] = id;
  }

  free(location: number): void {
    this.#freeBody(location);
    this.#slab.free(location);
  }

  /** Gives back some of the memory that is not needed any more. Returns whether there is more to do. */
  tidy(): boolean {
    const isSlabUntidy = this.#slab.tidy(MOVES_AN_OPERATION);
    return this.#bodies.tidy(MOVES_AN_OPERATION) || isSlabUntidy;
  }

  #word(location: number, place: number): number {
    return this.#words[regionOf(location)]![(byteOf(location) >>> 2) + place]!;
  }

  #setWord(location: number, place: number, value: number): void {
    this.#words[regionOf(location)]![(byteOf(location) >>> 2) + place] = value;
  }

  #number(location: number, place: number): number {
    return this.#numbers[regionOf(location)]![(byteOf(location) >>> 3) + place]!;
  }

  #kindAt(location: number): number {
    return (this.#word(location, KEY) >>> KIND_SHIFT) & KIND_MASK;
  }

  /** The count of uses that another entry has, in its place of the word. */
  #usesBits(before: number): number {
    return before === NONE ? 0 : this.#word(before, KEY) & ~NO_USES_MASK;
  }

  /** Finds key and value: in `#found`, from the result on. */
  #locateBody(location: number): number {
    const region = regionOf(location);
    const byte = byteOf(location);
    const words = this.#words[region]!;
    const kind = (words[(byte >>> 2) + KEY]! >>> KIND_SHIFT) & KIND_MASK;
    if (kind === INLINE) {
      this.#found = this.#bytes[region]!;
      return byte + HEAD_BYTES;
    }
    const body = words[(byte >>> 2) + BODY]!;
    if (kind === IN_BUFFER) {
      this.#found = this.#buffers.at(body);
      return 0;
    }
    this.#found = this.#bodies.regions.bytes[regionOf(body)]!;
    return byteOf(body) + BODY_HEAD_BYTES;
  }

  /** Whether the block at a location is just the one that would be allocated for so many bytes. */
  #holdsInline(location: number, bytes: number): boolean {
    return this.#kindAt(location) === INLINE && this.#slab.blockBytesAt(location) === blockBytesOf(sizeClassOf(bytes));
  }

  /** Room for a key and value that do not lie in the entry's own block. */
  #newBody(kind: number, bytes: number, id: number): number {
    assert(kind !== INLINE, "a large entry has a body");
    return kind === IN_SLAB ? this.#bodies.allocate(BODY_HEAD_BYTES + bytes, id) : this.#buffers.add(bytes);
  }

  #freeBody(location: number): void {
    const kind = this.#kindAt(location);
    if (kind === IN_SLAB) this.#bodies.free(this.#word(location, BODY));
    else if (kind === IN_BUFFER) this.#buffers.remove(this.#word(location, BODY));
  }
}
