/**
 * Eight bytes of the key of each id, from where the keys begin to differ, noted while the key passes by: what puts keys into their
 * order by and by, and would otherwise have to look at each again, anywhere in memory.
 *
 * Where keys begin to differ is known only when all have come. So each chunk of ids notes from where its own begin to differ so
 * far; when that is earlier than it seemed, what was noted is shifted, since all keys share what lies before.
 */
import { CHUNK_BITS, CHUNK_IDS } from "./entry-ids.js";
import { commonBytes, windowOf } from "./slab-bytes.js";

const CHUNK_MASK = CHUNK_IDS - 1;
const WINDOW_BYTES = 4;
/** What makes the signed order of windows that of unsigned numbers. */
const SIGN = 0x80000000;

export class KeyWindows {
  readonly #chunks: (ChunkWindows | undefined)[] = [];
  #skip = Infinity;

  /** The key of an id that is new, or was another's before: the bytes from `start` up to `end`. */
  note(id: number, bytes: Uint8Array, start: number, end: number): void {
    const number = id >>> CHUNK_BITS;
    const chunk = (this.#chunks[number] ??= new ChunkWindows(new Uint8Array(bytes.subarray(start, end))));
    chunk.note(id & CHUNK_MASK, bytes, start, end);
  }

  /** Makes what the chunks have noted comparable, a chunk a step; nothing is noted any more. */
  *settle(): Generator<void, void> {
    const chunks = this.#chunks.filter((chunk) => chunk !== undefined);
    this.#skip = Math.min(...chunks.map((chunk) => chunk.commonWith(chunks[0]!)));
    for (const chunk of chunks) {
      chunk.shiftTo(this.#skip);
      yield;
    }
  }

  /** All keys share so many first bytes, which are left out. */
  get skip(): number {
    return this.#skip;
  }

  /** The first four of the eight bytes of each id from one place up to another, and the last, as big-endian numbers. */
  copy(ids: Int32Array, from: number, to: number, highs: Uint32Array, lows: Uint32Array): void {
    const chunks = this.#chunks;
    for (let at = from; at < to; at++) {
      const id = ids[at]!;
      const chunk = chunks[id >>> CHUNK_BITS]!;
      highs[at] = chunk.highs[id & CHUNK_MASK]!;
      lows[at] = chunk.lows[id & CHUNK_MASK]!;
    }
  }
}

class ChunkWindows {
  // The first four of the eight bytes, and the last; a key that is shorter is filled up with zeros.
  readonly highs = new Uint32Array(CHUNK_IDS);
  readonly lows = new Uint32Array(CHUNK_IDS);
  /** The key that came first. */
  readonly #first: Uint8Array;
  /** So many first bytes of that all keys have, which are left out. */
  #skip: number;
  /** Ids from the first on that were noted. */
  #end = 0;

  constructor(first: Uint8Array) {
    this.#first = first;
    this.#skip = first.length;
  }

  note(at: number, bytes: Uint8Array, start: number, end: number): void {
    const common = commonBytes(this.#first, 0, this.#skip, bytes, start, end);
    if (common < this.#skip) this.shiftTo(common);
    const from = start + common;
    this.highs[at] = windowOf(bytes, from, end) ^ SIGN;
    this.lows[at] = windowOf(bytes, Math.min(from + WINDOW_BYTES, end), end) ^ SIGN;
    if (at >= this.#end) this.#end = at + 1;
  }

  /** How many first bytes all keys of both have. */
  commonWith(other: ChunkWindows): number {
    return commonBytes(this.#first, 0, this.#skip, other.#first, 0, other.#skip);
  }

  /** Leaves out fewer bytes than before. */
  shiftTo(skip: number): void {
    const [first, bytes] = [this.#first, this.#skip - skip];
    if (bytes === 0) return;
    // The bytes that come in, which are those of all keys.
    const high = windowOf(first, skip, this.#skip) ^ SIGN;
    const low = windowOf(first, Math.min(skip + WINDOW_BYTES, this.#skip), this.#skip) ^ SIGN;
    const [highs, lows] = [this.highs, this.lows];
    const shift = (bytes % WINDOW_BYTES) * 8;
    for (let at = 0; at < this.#end; at++) {
      // By whole windows first; what is shifted by 32 bits stays as it is.
      const words = bytes < WINDOW_BYTES ? highs[at]! : 0;
      const next = bytes < WINDOW_BYTES ? lows[at]! : bytes < 2 * WINDOW_BYTES ? highs[at]! : 0;
      const carried = shift === 0 ? 0 : words << (32 - shift);
      highs[at] = high | (words >>> shift);
      lows[at] = low | carried | (next >>> shift);
    }
    this.#skip = skip;
  }
}
