/**
 * The ids of entries in the order of their keys: a B+-tree off the heap that holds no keys. A node holds, for each of its
 * ids, a window of four bytes of the key, from where the node's keys begin to differ; they are as good as always enough,
 * so that a search seldom looks at the keys themselves, which lie anywhere in memory. An inner node holds the first id
 * below each child.
 *
 * A node: count, skip, next, previous, the windows, the ids, and in an inner node the children.
 */
import { assert } from "../base/assert.js";
import { NodePool } from "./node-pool.js";
import { windowOf } from "./slab-bytes.js";

/** What knows the keys of the ids. */
export interface OrderedKeys {
  /** Negative, zero or positive, as the id's key comes before, at or after the one that is given. */
  compareKey(id: number, key: Uint8Array): number;
  /** Four bytes of the id's key, as `windowOf` has them; what comes before `skip` is left out. */
  windowOf(id: number, skip: number): number;
  /** How many bytes the keys of two ids have in common from their beginnings on. */
  commonBytes(id: number, other: number): number;
  /** The same of an id's key and one that is given. */
  commonBytesWith(id: number, key: Uint8Array): number;
}

/** Ids in the order of their keys. */
export interface SortedIds {
  readonly ids: Int32Array;
  /** Writes what `windowOf` gives for the ids from one place up to another into words, from `start` on. */
  copyWindows(from: number, to: number, skip: number, words: Int32Array, start: number): void;
}

/** No id; ids are above it. */
export const NO_ID = 0;

const CAPACITY = 64;
/** So many places of nodes that are made of sorted ids are taken: there is room for some that come later. */
const FILLED = (CAPACITY * 7) / 8;
/** Nodes that are made in one step: a millisecond or two. */
const NODES_A_STEP = 200;
/** A node that has shrunk below it joins a neighbour, if the two then leave room to grow. */
const COUNT_MIN = CAPACITY / 4;
const JOINED_MAX = (CAPACITY * 3) / 4;

const COUNT = 0;
const SKIP = 1;
const NEXT = 2;
const PREVIOUS = 3;
const WINDOWS = 4;
const IDS = WINDOWS + CAPACITY;
const CHILDREN = IDS + CAPACITY;
const NO_NODE = 0;
const WINDOW_BYTES = 4;
/** Splits halve the nodes, so that this is never reached. */
const LEVELS_MAX = 16;

export class OrderedIndex {
  readonly #keys: OrderedKeys;
  readonly #leaves = new NodePool(CHILDREN);
  readonly #inner = new NodePool(CHILDREN + CAPACITY);
  #root: number;
  /** Leaves are at level 0, the root at this. */
  #top = 0;
  // The way to where the last search went: nodes by level, and the place taken in each.
  readonly #path = new Int32Array(LEVELS_MAX);
  readonly #places = new Int32Array(LEVELS_MAX);
  /** Whether the key that was searched begins as all keys of the leaf do, as far as the leaf skips them. */
  #isAlike = true;
  /** Whether the way is still one from the root to that leaf: no node of it was split, joined or taken away since. */
  #isWayKnown = false;
  // The place of the iteration.
  #leaf = NO_NODE;
  #place = 0;

  constructor(keys: OrderedKeys) {
    this.#keys = keys;
    this.#root = this.#newNode(0);
  }

  get bytesTotal(): number {
    return this.#leaves.bytesTotal + this.#inner.bytesTotal;
  }

  /** Adds an id whose key is none of those that are there. */
  add(id: number, key: Uint8Array): void {
    this.#search(key, true);
    while (this.#splitFull()) this.#search(key, true);
    const leaf = this.#path[0]!;
    const place = this.#places[0]!;
    const words = this.#leaves.wordsOf(leaf);
    const start = this.#leaves.startOf(leaf);
    if (words[start] === 0) words[start + SKIP] = 0;
    makeRoom(words, start, place, false);
    words[start + IDS + place] = id;
    if (this.#isAlike) words[start + WINDOWS + place] = windowAt(key, words[start + SKIP]!);
    else this.#rebuild(leaf, 0);
    if (place === 0) this.#firstChanged(0);
  }

  /** Removes an id, whose key is given, and known still. One beside the last that was removed is found without a search. */
  delete(id: number, key: Uint8Array): void {
    if (!this.#isBeside(id)) this.#search(key, false);
    const leaf = this.#path[0]!;
    const place = this.#places[0]!;
    const words = this.#leaves.wordsOf(leaf);
    const start = this.#leaves.startOf(leaf);
    assert(place < words[start]! && words[start + IDS + place] === id, "an id that is deleted is in its place");
    closeGap(words, start, place, false);
    if (place === 0) this.#firstChanged(0);
    if (words[start]! < COUNT_MIN) this.#relieve();
  }

  /** Whether an id stands where the last search or deletion went, or before that; then that is the place that was found. */
  #isBeside(id: number): boolean {
    if (!this.#isWayKnown) return false;
    const leaf = this.#path[0]!;
    const words = this.#leaves.wordsOf(leaf);
    const start = this.#leaves.startOf(leaf);
    const place = this.#places[0]!;
    if (place < words[start]! && words[start + IDS + place] === id) return true;
    if (place === 0 || words[start + IDS + place - 1] !== id) return false;
    this.#places[0] = place - 1;
    return true;
  }

  clear(): void {
    this.#isWayKnown = false;
    this.#leaves.clear();
    this.#inner.clear();
    this.#top = 0;
    this.#root = this.#newNode(0);
  }

  /**
   * Builds an index that is empty from the leaves up, which takes a tenth of what it does to add the ids one by one. A step takes
   * a millisecond or two; before the last, nothing else may be done with the index.
   */
  *build(sorted: SortedIds): Generator<void, void> {
    assert(this.#top === 0 && this.#countOf(0, this.#root) === 0, "only an empty index is built");
    this.#isWayKnown = false;
    const count = sorted.ids.length;
    if (count === 0) return;
    this.#leaves.give(this.#root);
    let nodes = new Int32Array(Math.ceil(count / FILLED));
    for (let at = 0, from = 0; at < nodes.length; at++) {
      const to = partEnd(at, nodes.length, count);
      nodes[at] = this.#newLeaf(sorted, from, to);
      if (at > 0) this.#linkAfter(0, nodes[at - 1]!, nodes[at]!);
      from = to;
      if ((at + 1) % NODES_A_STEP === 0) yield;
    }
    while (nodes.length > 1) nodes = yield* this.#buildLevel(nodes);
    this.#root = nodes[0]!;
  }

  /** Puts a level above the nodes of the highest one; gives its nodes. */
  *#buildLevel(children: Int32Array): Generator<void, Int32Array<ArrayBuffer>> {
    this.#top++;
    assert(this.#top < LEVELS_MAX, "a tree stays low");
    const nodes = new Int32Array(Math.ceil(children.length / FILLED));
    for (let at = 0, from = 0; at < nodes.length; at++) {
      const to = partEnd(at, nodes.length, children.length);
      nodes[at] = this.#newInner(children, from, to);
      if (at > 0) this.#linkAfter(this.#top, nodes[at - 1]!, nodes[at]!);
      from = to;
    }
    // What a node skips hangs on the next one.
    for (let at = 0; at < nodes.length; at++) {
      this.#rebuild(nodes[at]!, this.#top);
      if ((at + 1) % NODES_A_STEP === 0) yield;
    }
    return nodes;
  }

  #newLeaf(sorted: SortedIds, from: number, to: number): number {
    const { ids } = sorted;
    const leaf = this.#newNode(0);
    const words = this.#leaves.wordsOf(leaf);
    const base = this.#leaves.startOf(leaf);
    // As `#skipOf` has it, whose next leaf is not there yet.
    const skip = to - from < 2 ? 0 : this.#keys.commonBytes(ids[from]!, ids[Math.min(to, ids.length - 1)]!);
    words[base] = to - from;
    words[base + SKIP] = skip;
    sorted.copyWindows(from, to, skip, words, base + WINDOWS);
    for (let at = from; at < to; at++) words[base + IDS + at - from] = ids[at]!;
    return leaf;
  }

  #newInner(children: Int32Array, from: number, to: number): number {
    const node = this.#newNode(this.#top);
    const [words, base] = [this.#inner.wordsOf(node), this.#inner.startOf(node)];
    words[base] = to - from;
    for (let at = from; at < to; at++) {
      words[base + IDS + at - from] = this.#firstOf(this.#top - 1, children[at]!);
      words[base + CHILDREN + at - from] = children[at]!;
    }
    return node;
  }

  /**
   * The first id at or after a key; NO_ID when there is none. `next` goes on from there. Valid until the next change.
   */
  from(key: Uint8Array): number {
    this.#search(key, false);
    this.#leaf = this.#path[0]!;
    this.#place = this.#places[0]! - 1;
    return this.next();
  }

  /** The last id before a key, or of all when there is no key; NO_ID when there is none. `previous` goes on from there. */
  before(key: Uint8Array | undefined): number {
    if (key) {
      this.#search(key, false);
      this.#leaf = this.#path[0]!;
      this.#place = this.#places[0]!;
    } else {
      this.#leaf = this.#last();
      this.#place = this.#countOf(0, this.#leaf);
    }
    return this.previous();
  }

  next(): number {
    this.#place++;
    while (this.#place >= this.#countOf(0, this.#leaf)) {
      const next = this.#wordOf(0, this.#leaf, NEXT);
      if (next === NO_NODE) return NO_ID;
      this.#leaf = next;
      this.#place = 0;
    }
    return this.#wordOf(0, this.#leaf, IDS + this.#place);
  }

  previous(): number {
    this.#place--;
    while (this.#place < 0) {
      const previous = this.#wordOf(0, this.#leaf, PREVIOUS);
      if (previous === NO_NODE) return NO_ID;
      this.#leaf = previous;
      this.#place = this.#countOf(0, previous) - 1;
    }
    return this.#wordOf(0, this.#leaf, IDS + this.#place);
  }

  /**
   * Finds the leaf of a key, and the place in it: of how many of its ids the keys come before that, or are equal to it
   * when `orEqual`.
   */
  #search(key: Uint8Array, orEqual: boolean): void {
    let node = this.#root;
    // So many first bytes of the key are those of all keys in the node.
    let sure = 0;
    for (let level = this.#top; level > 0; level--) {
      const words = this.#inner.wordsOf(node);
      const base = this.#inner.startOf(node);
      // The last child that does not begin after the key, or the first.
      const place = Math.max(0, this.#rank(words, base, sure, key, true) - 1);
      this.#path[level] = node;
      this.#places[level] = place;
      if (!this.#isAlike) sure = 0;
      else sure = Math.max(sure, words[base + SKIP]! + alikeWindows(words, base, place, key));
      node = words[base + CHILDREN + place]!;
    }
    this.#path[0] = node;
    this.#places[0] = this.#rank(this.#leaves.wordsOf(node), this.#leaves.startOf(node), sure, key, orEqual);
    this.#isWayKnown = true;
  }

  /** Of how many of the node's ids the keys come before the one that is given, or are equal to it when `orEqual`. */
  #rank(words: Int32Array, base: number, sure: number, key: Uint8Array, orEqual: boolean): number {
    const count = words[base]!;
    const skip = words[base + SKIP]!;
    this.#isAlike = true;
    if (count === 0) return 0;
    if (skip > sure) {
      const first = words[base + IDS]!;
      const common = this.#keys.commonBytesWith(first, key);
      if (common < skip) {
        this.#isAlike = false;
        return this.#keys.compareKey(first, key) < 0 ? count : 0;
      }
    }
    const window = windowAt(key, skip);
    let low = 0;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const other = words[base + WINDOWS + middle]!;
      const order =
        other === window ? this.#keys.compareKey(words[base + IDS + middle]!, key) : other < window ? -1 : 1;
      if (order < 0 || (order === 0 && orEqual)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Splits the lowest node of the path that is full and whose parent is not, if the leaf is full. */
  #splitFull(): boolean {
    if (this.#countAt(0) < CAPACITY) return false;
    this.#isWayKnown = false;
    let level = 0;
    while (level < this.#top && this.#countAt(level + 1) === CAPACITY) level++;
    if (level === this.#top) this.#raise();
    this.#split(level);
    return true;
  }

  /** Puts a new root above the present one. */
  #raise(): void {
    const child = this.#root;
    const first = this.#firstOf(this.#top, child);
    assert(this.#top + 1 < LEVELS_MAX, "a tree stays low");
    this.#top++;
    const root = this.#newNode(this.#top);
    this.#root = root;
    this.#path[this.#top] = root;
    this.#places[this.#top] = 0;
    const words = this.#inner.wordsOf(root);
    const base = this.#inner.startOf(root);
    words[base] = 1;
    words[base + IDS] = first;
    words[base + WINDOWS] = this.#keys.windowOf(first, 0);
    words[base + CHILDREN] = child;
  }

  #split(level: number): void {
    const pool = this.#poolOf(level);
    const node = this.#path[level]!;
    const other = this.#newNode(level);
    const [words, base] = [pool.wordsOf(node), pool.startOf(node)];
    const [otherWords, otherBase] = [pool.wordsOf(other), pool.startOf(other)];
    // Keys that come in ascending order fill their leaves.
    const isAtEnd = level === 0 && words[base + NEXT] === NO_NODE && this.#places[0] === CAPACITY;
    const kept = isAtEnd ? CAPACITY - 1 : CAPACITY / 2;
    const moved = CAPACITY - kept;
    for (let i = 0; i < moved; i++) {
      otherWords[otherBase + WINDOWS + i] = words[base + WINDOWS + kept + i]!;
      otherWords[otherBase + IDS + i] = words[base + IDS + kept + i]!;
      if (level > 0) otherWords[otherBase + CHILDREN + i] = words[base + CHILDREN + kept + i]!;
    }
    words[base] = kept;
    otherWords[otherBase] = moved;
    otherWords[otherBase + SKIP] = words[base + SKIP]!;
    this.#linkAfter(level, node, other);
    this.#sharpen(level, node);
    this.#sharpen(level, other);
    this.#insertChild(level + 1, this.#places[level + 1]! + 1, other);
  }

  /** Adds a child to the node of the path at a level, which is not full. */
  #insertChild(level: number, place: number, child: number): void {
    const node = this.#path[level]!;
    const words = this.#inner.wordsOf(node);
    const base = this.#inner.startOf(node);
    makeRoom(words, base, place, true);
    words[base + CHILDREN + place] = child;
    this.#setFirst(level, place, this.#firstOf(level - 1, child));
    this.#sharpen(level, node);
  }

  /** The first id of a node changed, and with it what stands above. */
  #firstChanged(level: number): void {
    for (let below = level; below < this.#top; below++) {
      const node = this.#path[below]!;
      // An empty node is about to be removed.
      if (this.#countAt(below) === 0) return;
      this.#setFirst(below + 1, this.#places[below + 1]!, this.#firstOf(below, node));
      if (this.#places[below + 1] !== 0) return;
    }
  }

  #setFirst(level: number, place: number, id: number): void {
    const node = this.#path[level]!;
    const words = this.#inner.wordsOf(node);
    const base = this.#inner.startOf(node);
    words[base + IDS + place] = id;
    // Any other of the node's keys tells what all have in common.
    const other = words[base + IDS + (place === 0 ? words[base]! - 1 : 0)]!;
    const skip = words[base + SKIP]!;
    if (skip > 0 && this.#keys.commonBytes(id, other) < skip) this.#rebuild(node, level);
    else words[base + WINDOWS + place] = this.#keys.windowOf(id, skip);
  }

  /** Lets nodes on the path that have become small join a neighbour, or go when they are empty. */
  #relieve(): void {
    for (let level = 0; level < this.#top; level++) {
      const count = this.#countAt(level);
      if (count >= COUNT_MIN || !(count === 0 ? this.#removeEmpty(level) : this.#join(level))) break;
    }
    while (this.#top > 0 && this.#countOf(this.#top, this.#root) <= 1) this.#lower();
  }

  #removeEmpty(level: number): boolean {
    this.#isWayKnown = false;
    this.#dropNode(level, this.#path[level]!);
    this.#removeChild(level + 1, this.#places[level + 1]!);
    return true;
  }

  /** Joins the node of the path with its neighbour, if they leave room to grow. */
  #join(level: number): boolean {
    const parent = this.#path[level + 1]!;
    const siblings = this.#countAt(level + 1);
    const place = this.#places[level + 1]!;
    for (const left of [place, place - 1]) {
      if (left < 0 || left + 1 >= siblings) continue;
      const node = this.#childOf(parent, left);
      const other = this.#childOf(parent, left + 1);
      if (this.#countOf(level, node) + this.#countOf(level, other) > JOINED_MAX) continue;
      this.#isWayKnown = false;
      this.#append(level, node, other);
      this.#dropNode(level, other);
      this.#removeChild(level + 1, left + 1);
      return true;
    }
    return false;
  }

  #append(level: number, node: number, other: number): void {
    const pool = this.#poolOf(level);
    const [words, base] = [pool.wordsOf(node), pool.startOf(node)];
    const [otherWords, otherBase] = [pool.wordsOf(other), pool.startOf(other)];
    const [count, more] = [words[base]!, otherWords[otherBase]!];
    // Windows that begin at the same place of the keys go on doing so, where all keys have so much in common: none is read then.
    const skip = words[base + SKIP]!;
    const last = otherWords[otherBase + IDS + more - 1]!;
    const isAlike = skip === otherWords[otherBase + SKIP] && this.#keys.commonBytes(words[base + IDS]!, last) >= skip;
    for (let i = 0; i < more; i++) {
      words[base + WINDOWS + count + i] = otherWords[otherBase + WINDOWS + i]!;
      words[base + IDS + count + i] = otherWords[otherBase + IDS + i]!;
      if (level > 0) words[base + CHILDREN + count + i] = otherWords[otherBase + CHILDREN + i]!;
    }
    words[base] = count + more;
    if (!isAlike) this.#rebuild(node, level);
  }

  #removeChild(level: number, place: number): void {
    const node = this.#path[level]!;
    closeGap(this.#inner.wordsOf(node), this.#inner.startOf(node), place, true);
    if (place === 0) this.#firstChanged(level);
  }

  /** Takes away a root that has one child, or none. */
  #lower(): void {
    this.#isWayKnown = false;
    const root = this.#root;
    const child = this.#countOf(this.#top, root) === 0 ? NO_NODE : this.#childOf(root, 0);
    this.#inner.give(root);
    this.#top = child === NO_NODE ? 0 : this.#top - 1;
    this.#root = child === NO_NODE ? this.#newNode(0) : child;
  }

  /** Lets the windows begin further on, if the node's keys have more in common now. */
  #sharpen(level: number, node: number): void {
    const pool = this.#poolOf(level);
    const skip = this.#skipOf(pool.wordsOf(node), pool.startOf(node), level);
    if (skip > pool.wordsOf(node)[pool.startOf(node) + SKIP]!) this.#rebuild(node, level);
  }

  #rebuild(node: number, level: number): void {
    const pool = this.#poolOf(level);
    const words = pool.wordsOf(node);
    const base = pool.startOf(node);
    const skip = this.#skipOf(words, base, level);
    words[base + SKIP] = skip;
    for (let place = 0; place < words[base]!; place++) {
      words[base + WINDOWS + place] = this.#keys.windowOf(words[base + IDS + place]!, skip);
    }
  }

  /**
   * What all keys from a node's first to the next node's have in common: a search that comes to the node most often knows
   * already that its key has so much in common with them too.
   */
  #skipOf(words: Int32Array, base: number, level: number): number {
    const count = words[base]!;
    if (count < 2) return 0;
    const first = words[base + IDS]!;
    const own = this.#keys.commonBytes(first, words[base + IDS + count - 1]!);
    const next = words[base + NEXT]!;
    // While nodes are joined, the next one may be empty, or about to go.
    if (next === NO_NODE || this.#countOf(level, next) === 0) return own;
    return Math.min(own, this.#keys.commonBytes(first, this.#firstOf(level, next)));
  }

  #poolOf(level: number): NodePool {
    return level === 0 ? this.#leaves : this.#inner;
  }

  #newNode(level: number): number {
    const pool = this.#poolOf(level);
    const node = pool.take();
    pool.wordsOf(node).fill(0, pool.startOf(node), pool.startOf(node) + WINDOWS);
    return node;
  }

  #dropNode(level: number, node: number): void {
    this.#unlink(level, node);
    this.#poolOf(level).give(node);
  }

  #linkAfter(level: number, node: number, other: number): void {
    const next = this.#wordOf(level, node, NEXT);
    this.#setWordOf(level, other, NEXT, next);
    this.#setWordOf(level, other, PREVIOUS, node);
    this.#setWordOf(level, node, NEXT, other);
    if (next !== NO_NODE) this.#setWordOf(level, next, PREVIOUS, other);
  }

  #unlink(level: number, node: number): void {
    const [next, previous] = [this.#wordOf(level, node, NEXT), this.#wordOf(level, node, PREVIOUS)];
    if (next !== NO_NODE) this.#setWordOf(level, next, PREVIOUS, previous);
    if (previous !== NO_NODE) this.#setWordOf(level, previous, NEXT, next);
  }

  #last(): number {
    let node = this.#root;
    for (let level = this.#top; level > 0; level--) node = this.#childOf(node, this.#countOf(level, node) - 1);
    return node;
  }

  #firstOf(level: number, node: number): number {
    return this.#wordOf(level, node, IDS);
  }

  #childOf(node: number, place: number): number {
    return this.#wordOf(1, node, CHILDREN + place);
  }

  #countAt(level: number): number {
    return this.#wordOf(level, this.#path[level]!, COUNT);
  }

  #countOf(level: number, node: number): number {
    return this.#wordOf(level, node, COUNT);
  }

  #wordOf(level: number, node: number, place: number): number {
    const pool = this.#poolOf(level);
    return pool.wordsOf(node)[pool.startOf(node) + place]!;
  }

  #setWordOf(level: number, node: number, place: number, value: number): void {
    const pool = this.#poolOf(level);
    pool.wordsOf(node)[pool.startOf(node) + place] = value;
  }
}

/** Where the part `at` of a whole ends that is cut into so many parts of about the same size. */
function partEnd(at: number, parts: number, whole: number): number {
  return Math.floor(((at + 1) * whole) / parts);
}

/**
 * How many more bytes than the node skips the key must have in common with all keys of a child: as many as the windows of
 * that child and the next one have, since the key lies between the two.
 */
function alikeWindows(words: Int32Array, base: number, place: number, key: Uint8Array): number {
  if (place + 1 >= words[base]!) return 0;
  const window = words[base + WINDOWS + place]!;
  const alike = Math.clz32(window ^ words[base + WINDOWS + place + 1]!) >>> 3;
  // A key before the first child's may be anything there; and a window's zeros may be no bytes at all.
  const length = Math.min(alike, WINDOW_BYTES, key.length - words[base + SKIP]!);
  if (place === 0 && Math.clz32(window ^ windowAt(key, words[base + SKIP]!)) >>> 3 < length) return 0;
  return Math.max(0, length);
}

function windowAt(key: Uint8Array, skip: number): number {
  return windowOf(key, Math.min(skip, key.length), key.length);
}

/** Opens a place in a node that is not full. */
function makeRoom(words: Int32Array, base: number, place: number, isInner: boolean): void {
  const count = words[base]!;
  for (let i = count; i > place; i--) {
    words[base + WINDOWS + i] = words[base + WINDOWS + i - 1]!;
    words[base + IDS + i] = words[base + IDS + i - 1]!;
    if (isInner) words[base + CHILDREN + i] = words[base + CHILDREN + i - 1]!;
  }
  words[base] = count + 1;
}

/** Takes a place out of a node. */
function closeGap(words: Int32Array, base: number, place: number, isInner: boolean): void {
  const count = words[base]! - 1;
  for (let i = place; i < count; i++) {
    words[base + WINDOWS + i] = words[base + WINDOWS + i + 1]!;
    words[base + IDS + i] = words[base + IDS + i + 1]!;
    if (isInner) words[base + CHILDREN + i] = words[base + CHILDREN + i + 1]!;
  }
  words[base] = count;
}
