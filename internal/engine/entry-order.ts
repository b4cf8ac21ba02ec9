/** The order of entries by their keys, which lie in their blocks. */
import type { EntryBlocks } from "./entry-blocks.js";
import type { EntryIds } from "./entry-ids.js";
import { OrderedIndex, type OrderedKeys } from "./ordered-index.js";

export class EntryOrder extends OrderedIndex {
  constructor(ids: EntryIds, blocks: EntryBlocks) {
    super(new EntryKeys(ids, blocks));
  }
}

class EntryKeys implements OrderedKeys {
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
}
