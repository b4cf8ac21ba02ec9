/**
 * The sparse index of a segment: where the frames of some seqs begin, one for about every 64 KiB. In memory it guides
 * reads; in a file beside the segment it is a cache, checked against the segment itself at every start and written anew
 * when it is lost, stale or wrong. Nothing is ever believed because the index file says so.
 *
 *       0        4        8        12       16                24                32         48
 *      ┌────────┬────────┬────────┬────────┬─────────────────┬─────────────────┬──────────┬─────────────────┐
 *      │ magic  │ CRC of │ format │ entry  │ first           │ data end        │ salt     │ entries, each   │
 *      │        │ 8..end │ version│ count  │ seq             │                 │          │ seq, offset     │
 *      └────────┴────────┴────────┴────────┴─────────────────┴─────────────────┴──────────┴─────────────────┘
 *       u32      u32      u32      u32      u64               u64               16 bytes   2 × u64
 *
 * All numbers are little-endian. `data end` and `salt` are the segment's, so that the index of another file, or of the
 * same file at another length, is seen to be stale.
 */
import { assert } from "../base/assert.js";
import { crc32 } from "../base/crc32.js";
import { writeU64 } from "./bytes.js";
import type { SegmentHeader } from "./segment-header.js";

const INDEX_STRIDE_BYTES = 64 * 1024;
const HEADER_BYTES = 48;
const ENTRY_BYTES = 16;
const MAGIC = 0x58_49_57_43; // "CWIX" in a file
const INDEX_VERSION = 1;

/** A frame, by the first of its records. */
export interface IndexEntry {
  readonly seq: number;
  readonly offset: number;
}

export class SegmentIndex {
  readonly #seqs: number[] = [];
  readonly #offsets: number[] = [];

  /** Notes a frame with records; the first one and then one every 64 KiB are kept. Frames come in their order. */
  note(seq: number, offset: number): void {
    const lastOffset = this.#offsets.at(-1);
    if (lastOffset !== undefined && offset - lastOffset < INDEX_STRIDE_BYTES) return;
    this.#seqs.push(seq);
    this.#offsets.push(offset);
  }

  /** The last noted frame that begins at or before `seq`; undefined when there is none. */
  floor(seq: number): IndexEntry | undefined {
    let low = 0;
    let high = this.#seqs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#seqs[middle]! <= seq) low = middle + 1;
      else high = middle;
    }
    if (low === 0) return undefined;
    return { seq: this.#seqs[low - 1]!, offset: this.#offsets[low - 1]! };
  }

  /** Forgets the frames from `offset` on. */
  cut(offset: number): void {
    while (this.#offsets.length > 0 && this.#offsets.at(-1)! >= offset) {
      this.#offsets.pop();
      this.#seqs.pop();
    }
  }

  /** The index file of a segment whose frames end at `dataEnd`. */
  encode(header: SegmentHeader, dataEnd: number): Buffer {
    assert(this.#seqs.length === this.#offsets.length, "every indexed seq has an offset");
    const bytes = Buffer.alloc(HEADER_BYTES + this.#seqs.length * ENTRY_BYTES);
    bytes.writeUInt32LE(MAGIC, 0);
    bytes.writeUInt32LE(INDEX_VERSION, 8);
    bytes.writeUInt32LE(this.#seqs.length, 12);
    writeU64(bytes, header.firstSeq, 16);
    writeU64(bytes, dataEnd, 24);
    bytes.set(header.salt, 32);
    for (let i = 0; i < this.#seqs.length; i++) {
      writeU64(bytes, this.#seqs[i]!, HEADER_BYTES + i * ENTRY_BYTES);
      writeU64(bytes, this.#offsets[i]!, HEADER_BYTES + i * ENTRY_BYTES + 8);
    }
    bytes.writeUInt32LE(crc32(bytes.subarray(8)), 4);
    return bytes;
  }
}
