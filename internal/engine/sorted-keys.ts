/**
 * Keys in ascending order, as chunks of a few hundred: finding a place is two binary searches, and an insertion moves no
 * more than one chunk, so that both stay near a microsecond at a million keys. Each key is there at most once.
 *
 * Keys are strings of one character a byte, so that their order is that of the bytes.
 */
import { must } from "../base/assert.js";

/** A chunk that would grow beyond it is split. */
const CHUNK_KEYS_MAX = 512;
/** A chunk that has shrunk below it joins a neighbour, if the two then leave room to grow. */
const CHUNK_KEYS_MIN = CHUNK_KEYS_MAX / 4;
const JOINED_KEYS_MAX = (CHUNK_KEYS_MAX * 3) / 4;

export class SortedKeys {
  /** Ascending throughout; no chunk is empty. */
  #chunks: string[][] = [];

  /** Adds a key; one that is there stays as it is. */
  add(key: string): void {
    const index = this.#chunkOf(key);
    const chunk = this.#chunks[index];
    if (!chunk) {
      this.#chunks.push([key]);
      return;
    }
    const at = placeIn(chunk, key);
    if (chunk[at] === key) return;
    if (at === chunk.length) chunk.push(key);
    else chunk.splice(at, 0, key);
    if (chunk.length > CHUNK_KEYS_MAX) this.#chunks.splice(index + 1, 0, chunk.splice(chunk.length >>> 1));
  }

  /** Removes a key, if it is there. */
  delete(key: string): void {
    const index = this.#chunkOf(key);
    const chunk = this.#chunks[index];
    if (!chunk) return;
    const at = placeIn(chunk, key);
    if (chunk[at] !== key) return;
    chunk.splice(at, 1);
    if (chunk.length === 0) this.#chunks.splice(index, 1);
    else if (chunk.length < CHUNK_KEYS_MIN && !this.#join(index)) this.#join(index - 1);
  }

  /** The keys from `start` on, in order. Valid until the next change. */
  *from(start: string): Generator<string, undefined> {
    let index = this.#chunkOf(start);
    let at = placeIn(this.#chunks[index] ?? [], start);
    for (; index < this.#chunks.length; index++, at = 0) {
      const chunk = must(this.#chunks[index], "the index lies inside");
      for (; at < chunk.length; at++) yield must(chunk[at], "the place lies inside");
    }
  }

  /** The keys before `end`, or all, in descending order. Valid until the next change. */
  *downFrom(end?: string): Generator<string, undefined> {
    let index = end === undefined ? this.#chunks.length - 1 : this.#chunkOf(end);
    let at = end === undefined ? Infinity : placeIn(this.#chunks[index] ?? [], end);
    for (; index >= 0; index--, at = Infinity) {
      const chunk = this.#chunks[index];
      if (!chunk) continue;
      for (let i = Math.min(at, chunk.length) - 1; i >= 0; i--) yield must(chunk[i], "the place lies inside");
    }
  }

  clear(): void {
    this.#chunks = [];
  }

  /** The chunk that holds the key, or would: the last that does not begin after it. */
  #chunkOf(key: string): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (must(this.#chunks[middle]?.[0], "no chunk is empty") <= key) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  /** Makes one of a chunk and the one after it; false when they stay two. */
  #join(index: number): boolean {
    const [chunk, next] = [this.#chunks[index], this.#chunks[index + 1]];
    if (!chunk || !next || chunk.length + next.length > JOINED_KEYS_MAX) return false;
    chunk.push(...next);
    this.#chunks.splice(index + 1, 1);
    return true;
  }
}

/** Where in a chunk the key is, or would be. */
function placeIn(chunk: readonly string[], key: string): number {
  let low = 0;
  let high = chunk.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (must(chunk[middle], "the place lies inside") < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
