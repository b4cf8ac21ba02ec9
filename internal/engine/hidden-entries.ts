/**
 * Entries that a deletion of a range has hidden, until they are removed. The deletion itself takes note of the range alone;
 * what lies in it goes by and by, and until then every reader asks here. The engine has one of these only while something
 * is hidden.
 *
 * In an engine with order the entries of a range are found through the tree; in one without, all ids are gone through, once
 * for all ranges that were there when that began.
 */
import type { EntryBlocks } from "./entry-blocks.js";
import type { EntryIds } from "./entry-ids.js";
import type { EntryOrder } from "./entry-order.js";
import { HiddenRanges } from "./hidden-ranges.js";
import { NO_ID } from "./ordered-index.js";

export interface HiddenEntriesOptions {
  readonly ids: EntryIds;
  readonly blocks: EntryBlocks;
  readonly order: EntryOrder | undefined;
  /** Removes the entry of a block. */
  readonly remove: (location: number) => void;
}

/** Where memory was given back, most ids have no entry; so many at most are passed over for each entry that may be looked at. */
const IDS_A_LOOK = 16;

export class HiddenEntries {
  readonly #parts: HiddenEntriesOptions;
  readonly #ranges = new HiddenRanges();
  readonly #found: number[] = [];
  /** The ids that are being gone through, where there is no order, and up to which deletion that carries out what is pending. */
  #pass: { nextId: number; readonly endId: number; readonly order: number } | undefined;

  constructor(parts: HiddenEntriesOptions) {
    this.#parts = parts;
  }

  /** Whether nothing is hidden any more. */
  get isEmpty(): boolean {
    return this.#ranges.count === 0;
  }

  /** Hides what records before `seq` have left in a range. */
  add(start: Uint8Array, end: Uint8Array | undefined, seq: number): void {
    // Copies: what is handed in is the caller's.
    this.#ranges.add(new Uint8Array(start), end && new Uint8Array(end), seq);
  }

  isHidden(location: number): boolean {
    const { blocks } = this.#parts;
    const start = blocks.keyStartAt(location);
    const bytes = blocks.bytesAt(location);
    return this.#ranges.hides(bytes, start, start + blocks.keyBytesAt(location), blocks.modSeqAt(location));
  }

  /** The same of a key in other bytes, whose version is known. */
  hides(bytes: Uint8Array, start: number, end: number, modSeq: number): boolean {
    return this.#ranges.hides(bytes, start, end, modSeq);
  }

  /** Looks at some entries, and removes those that are hidden. */
  removeSome(looksMax: number): void {
    const { order } = this.#parts;
    if (order) this.#removeInOrder(order, looksMax);
    else this.#removeById(looksMax);
  }

  #removeInOrder(order: EntryOrder, looksMax: number): void {
    const { ids, blocks, remove } = this.#parts;
    let looks = looksMax;
    for (let range = this.#ranges.last; range && looks > 0; range = this.#ranges.last) {
      const { start, end, seq } = range;
      const found = this.#found;
      found.length = 0;
      let id = order.from(start);
      for (; id !== NO_ID && looks > 0; id = order.next(), looks--) {
        const location = ids.locationOf(id);
        if (end && blocks.compareKey(location, end, 0, end.length) >= 0) break;
        // Later versions stay, and are not looked at again.
        if (blocks.modSeqAt(location) < seq) found.push(id);
      }
      const isDone = id === NO_ID || (end && blocks.compareKey(ids.locationOf(id), end, 0, end.length) >= 0);
      if (isDone) this.#ranges.dropLast();
      else this.#ranges.shortenLast(blocks.keyAt(ids.locationOf(id)).slice());
      for (const one of found) remove(ids.locationOf(one));
    }
  }

  #removeById(looksMax: number): void {
    const { ids, remove } = this.#parts;
    // What has later ids, or comes to be here meanwhile, is of later records.
    this.#pass ??= { nextId: 0, endId: ids.end, order: this.#ranges.order };
    const pass = this.#pass;
    const end = Math.min(pass.endId, pass.nextId + looksMax * IDS_A_LOOK);
    let looks = looksMax;
    let id = ids.nextFrom(pass.nextId, end);
    for (; id < end && looks > 0; id = ids.nextFrom(id + 1, end), looks--) {
      const location = ids.locationOf(id);
      if (this.isHidden(location)) remove(location);
    }
    pass.nextId = id;
    if (id < pass.endId) return;
    this.#ranges.dropUpTo(pass.order);
    this.#pass = undefined;
  }
}
