/** The order of entries by their keys, which lie in their blocks. */
import { assert } from "../base/assert.js";
import type { EntryBlocks } from "./entry-blocks.js";
import type { EntryIds } from "./entry-ids.js";
import type { KeyWindows } from "./key-windows.js";
import { KeySort, type SortableKeys } from "./key-sort.js";
import { OrderedIndex, type OrderedKeys } from "./ordered-index.js";

/** Ids that are gathered in one step. */
const IDS_A_STEP = 50_000;

export class EntryOrder extends OrderedIndex {
  readonly #ids: EntryIds;
  readonly #keys: EntryKeys;

  constructor(ids: EntryIds, blocks: EntryBlocks) {
    const keys = new EntryKeys(ids, blocks);
    super(keys);
    this.#ids = ids;
    this.#keys = keys;
  }

  /**
   * Takes in all entries, of which there are `count`, and whose `windows` are known, in steps of a few milliseconds. Before the last, no entry may come or go,
   * nor may anything else be done with the order.
   */
  *take(count: number, windows: KeyWindows): Generator<void, void> {
    const ids = yield* this.#all(count);
    yield* windows.settle();
    const sort = new KeySort(this.#keys, ids, windows);
    yield* sort.run();
    yield* this.build(sort);
  }

  *#all(count: number): Generator<void, Int32Array> {
    const all = new Int32Array(count);
    const { end } = this.#ids;
    let at = 0;
    for (let id = this.#ids.nextFrom(0, end); id < end; id = this.#ids.nextFrom(id + 1, end)) {
      all[at++] = id;
      if (at % IDS_A_STEP === 0) yield;
    }
    assert(at === count, "each entry has an id");
    return all;
  }
}

class EntryKeys implements OrderedKeys, SortableKeys {
  readonly #ids: EntryIds;
  readonly #blocks: EntryBlocks;

  constructor(ids: EntryIds, blocks: EntryBlocks) {
    this.#ids = ids;
    this.#blocks = blocks;
  }

  compareKey(id: number, key: Uint8Array): number {
    return this.#blocks.compareKey(this.#ids.locationOf(id), key, 0, key.length);
  }

  windowOf(id: number, skip: number): number {
    return this.#blocks.windowAt(this.#ids.locationOf(id), skip);
  }

  commonBytes(id: number, other: number): number {
    const location = this.#ids.locationOf(other);
    const start = this.#blocks.keyStartAt(location);
    const bytes = this.#blocks.bytesAt(location);
    const end = start + this.#blocks.keyBytesAt(location);
    return this.#blocks.commonBytes(this.#ids.locationOf(id), bytes, start, end);
  }

  commonBytesWith(id: number, key: Uint8Array): number {
    return this.#blocks.commonBytes(this.#ids.locationOf(id), key, 0, key.length);
  }

  keyBytesOf(id: number): number {
    return this.#blocks.keyBytesAt(this.#ids.locationOf(id));
  }

  copyKey(id: number): Uint8Array {
    return this.#blocks.copyKey(this.#ids.locationOf(id));
  }

  commonBytesFrom(id: number, key: Uint8Array, skip: number): number {
    return this.#blocks.commonBytes(this.#ids.locationOf(id), key, skip, key.length, skip);
  }

  compareFrom(id: number, other: number, skip: number): number {
    const blocks = this.#blocks;
    const location = this.#ids.locationOf(other);
    const start = blocks.keyStartAt(location);
    const keyBytes = blocks.keyBytesAt(location);
    return (
      blocks.compareKey(
        this.#ids.locationOf(id),
        blocks.bytesAt(location),
        start + Math.min(skip, keyBytes),
        start + keyBytes,
        skip,
      ) || this.keyBytesOf(id) - keyBytes
    );
  }
}
