/** Nodes of a tree, all of so many words, in chunks of typed arrays. Numbers of nodes begin with the first chunk's size. */
import { assert } from "../base/assert.js";

const CHUNK_BITS = 7;
export const CHUNK_NODES = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_NODES - 1;
const NO_WORDS = new Int32Array(0);

export class NodePool {
  /** By chunk; there is none at 0. */
  readonly #chunks: Int32Array[] = [NO_WORDS];
  readonly #nodeWords: number;
  /** Free nodes of each chunk. */
  readonly #free: number[][] = [[]];
  /** Chunks with a free node. */
  #open: number[] = [];
  #dropped: number[] = [];
  #used = 0;

  constructor(nodeWords: number) {
    this.#nodeWords = nodeWords;
  }

  get used(): number {
    return this.#used;
  }

  get bytesTotal(): number {
    return (this.#chunks.length - 1 - this.#dropped.length) * CHUNK_NODES * this.#nodeWords * 4;
  }

  /** What a node's words lie in, from where `startOf` says. */
  wordsOf(node: number): Int32Array {
    return this.#chunks[node >>> CHUNK_BITS]!;
  }

  startOf(node: number): number {
    return (node & CHUNK_MASK) * this.#nodeWords;
  }

  /** A node whose words are whatever they were. */
  take(): number {
    const chunk = this.#open[this.#open.length - 1] ?? this.#addChunk();
    const free = this.#free[chunk]!;
    const at = free.pop()!;
    if (free.length === 0) this.#open.pop();
    this.#used++;
    return (chunk << CHUNK_BITS) | at;
  }

  give(node: number): void {
    const chunk = node >>> CHUNK_BITS;
    const free = this.#free[chunk]!;
    assert(free.length < CHUNK_NODES, "a node is given back once");
    free.push(node & CHUNK_MASK);
    this.#used--;
    if (free.length === 1) this.#open.push(chunk);
    else if (free.length === CHUNK_NODES && this.#open.length > 1) this.#drop(chunk);
  }

  clear(): void {
    this.#chunks.length = 1;
    this.#free.length = 1;
    this.#open = [];
    this.#dropped = [];
    this.#used = 0;
  }

  #addChunk(): number {
    const chunk = this.#dropped.pop() ?? this.#chunks.length;
    this.#chunks[chunk] = new Int32Array(CHUNK_NODES * this.#nodeWords);
    this.#free[chunk] = Array.from({ length: CHUNK_NODES }, (_, at) => CHUNK_MASK - at);
    this.#open.push(chunk);
    return chunk;
  }

  #drop(chunk: number): void {
    this.#open.splice(this.#open.indexOf(chunk), 1);
    this.#chunks[chunk] = NO_WORDS;
    this.#free[chunk] = [];
    this.#dropped.push(chunk);
  }
}
