/**
 * The newest records in memory, encoded: the queue of what is still to be written, and after that what replicas read most.
 * Records lie one after another in blocks of bytes; a record is never split, and bytes that were handed out are never
 * written over, so that readers get views instead of copies.
 */
import { assert, AssertionError, must } from "../base/assert.js";
import type { Epoch, EpochMs, Seq } from "../base/position.js";
import { encodeRecord, RECORD_HEADER_BYTES, recordEnd } from "./record.js";

const BLOCK_BYTES_MAX = 1024 * 1024;
const BLOCK_BYTES_MIN = 4 * 1024;
/**
 * Encoded records that come in so many bytes at least become a block as they lie, which saves a copy, and memory that is
 * thrown away soon after: with each megabyte of it, the collector runs more often.
 */
const TAKEN_BYTES_MIN = 256 * 1024;
/** One record in about so many bytes is found without walking. */
const STRIDE_BYTES = 16 * 1024;

/** Whole records one after another. */
export interface Run {
  readonly bytes: Buffer;
  readonly firstSeq: number;
  readonly lastSeq: number;
  /** Where the last of them begins in `bytes`. */
  readonly lastOffset: number;
}

export class Tail {
  readonly #bytesMax: number;
  readonly #blockBytes: number;
  /** Oldest first, without a gap. Invariant: all but the last are full, or nothing may be added to them. */
  #blocks: Block[] = [];
  #allocatedBytes = 0;
  #lastSeq: number;
  /** Nothing is added to the last block any more. */
  #ended = true;

  /** `lastSeq` is the log's: the next record to be added is the one after it. */
  constructor(bytesMax: number, lastSeq: number) {
    this.#bytesMax = bytesMax;
    this.#blockBytes = Math.min(BLOCK_BYTES_MAX, Math.max(BLOCK_BYTES_MIN, Math.floor(bytesMax / 8)));
    this.#lastSeq = lastSeq;
  }

  /** The oldest record held; `lastSeq + 1` when none is. */
  get firstSeq(): number {
    return this.#blocks[0]?.firstSeq ?? this.#lastSeq + 1;
  }

  get lastSeq(): number {
    return this.#lastSeq;
  }

  /** Encodes a record at the end and returns its chain value. */
  add(record: { seq: Seq; epoch: Epoch; timestampMs: EpochMs }, chainBefore: number, payload: Uint8Array): number {
    const byteLength = RECORD_HEADER_BYTES + payload.length;
    const block = this.#blockFor(byteLength);
    const chain = encodeRecord(block.bytes, block.length, record, chainBefore, payload);
    block.grew(byteLength);
    this.#lastSeq++;
    return chain;
  }

  /** Adds whole records at the end; the first is the one after `lastSeq`. They may be held on to as they are, so nobody may change them. */
  addEncoded(records: Buffer): void {
    // Unless they lie in much more memory, which would be held with them.
    if (records.length >= TAKEN_BYTES_MIN && records.buffer.byteLength <= 2 * records.length) this.#take(records);
    else this.#copy(records);
  }

  #take(records: Buffer): void {
    const block = new Block(records, this.#lastSeq + 1);
    for (let at = 0; at < records.length;) {
      const end = recordEnd(records, at);
      block.grew(end - at);
      at = end;
    }
    this.#push(block);
    this.#lastSeq = block.lastSeq;
    this.#ended = true;
  }

  #copy(records: Buffer): void {
    let block: Block | undefined;
    let from = 0;
    let into = 0;
    for (let at = 0; at < records.length;) {
      const end = recordEnd(records, at);
      const next = this.#blockFor(end - at);
      if (next !== block) {
        if (block) records.copy(block.bytes, into, from, at);
        block = next;
        from = at;
        into = next.length;
      }
      next.grew(end - at);
      this.#lastSeq++;
      at = end;
    }
    if (block) records.copy(block.bytes, into, from);
  }

  /**
   * The records from `fromSeq` on that lie in one piece: up to `toSeq` and up to `maxBytes` bytes, but at least one.
   * `fromSeq` must be held, and be no later than `toSeq`.
   */
  run(fromSeq: number, toSeq: number, maxBytes: number): Run {
    const block = this.#blockOf(fromSeq);
    return block.run(fromSeq, Math.min(toSeq, block.lastSeq), maxBytes);
  }

  /** Bytes of the records after `seq`. */
  bytesAfter(seq: number): number {
    return this.#blocks.reduce((sum, block) => sum + block.bytesAfter(seq), 0);
  }

  /** Forgets the oldest records that are written, until no more memory is taken than is allowed. */
  trim(writtenSeq: number): void {
    while (this.#blocks.length > 1 && this.#allocatedBytes > this.#bytesMax) {
      const oldest = must(this.#blocks[0], "there are blocks");
      if (oldest.lastSeq > writtenSeq) return;
      this.#blocks.shift();
      this.#allocatedBytes -= oldest.heldBytes;
    }
  }

  /** Forgets every record after `seq`, which then is the log's last. */
  dropAfter(seq: number): void {
    assert(seq <= this.#lastSeq, "only what is there can be dropped");
    while (this.#blocks.length > 0 && this.#blocks.at(-1)!.firstSeq > seq) {
      this.#allocatedBytes -= this.#blocks.pop()!.heldBytes;
    }
    this.#blocks.at(-1)?.dropAfter(seq);
    this.#lastSeq = seq;
    // What stood after `seq` may still be on its way to a reader, so the bytes are left as they are.
    this.#ended = true;
  }

  #blockFor(byteLength: number): Block {
    const last = this.#blocks.at(-1);
    if (last && !this.#ended && last.bytes.length - last.length >= byteLength) return last;
    const size = Math.max(this.#blockBytes, byteLength);
    const block = new Block(Buffer.allocUnsafeSlow(size), this.#lastSeq + 1);
    this.#push(block);
    this.#ended = false;
    return block;
  }

  #push(block: Block): void {
    this.#blocks.push(block);
    this.#allocatedBytes += block.heldBytes;
  }

  #blockOf(seq: number): Block {
    // Nearly always the last one: blocks are few, and both the writer and the replicas stand near the end.
    for (let i = this.#blocks.length - 1; i >= 0; i--) {
      const block = this.#blocks[i]!;
      if (block.firstSeq <= seq && seq <= block.lastSeq) return block;
    }
    throw new AssertionError(`record ${seq} is not in the tail, which holds ${this.firstSeq} to ${this.#lastSeq}`);
  }
}

class Block {
  readonly bytes: Buffer;
  readonly firstSeq: number;
  lastSeq: number;
  length = 0;
  /** Where some records begin, one for each stride; the first record is the first of them. */
  #seqs: number[] = [];
  #offsets: number[] = [];
  #lastOffset = 0;
  /** Where the latest run ended: the next one mostly begins there. */
  #hintSeq: number;
  #hintOffset = 0;

  /** Nothing stands in `bytes` yet that `grew` has told of. */
  constructor(bytes: Buffer, firstSeq: number) {
    this.bytes = bytes;
    this.firstSeq = firstSeq;
    this.lastSeq = firstSeq - 1;
    this.#hintSeq = firstSeq;
  }

  /** Memory that is not given back before the block is forgotten. */
  get heldBytes(): number {
    return this.bytes.buffer.byteLength;
  }

  /** A record of `byteLength` bytes has been put at the end. */
  grew(byteLength: number): void {
    this.#lastOffset = this.length;
    this.lastSeq++;
    const strided = this.#offsets.at(-1);
    if (strided === undefined || this.length - strided >= STRIDE_BYTES) {
      this.#seqs.push(this.lastSeq);
      this.#offsets.push(this.length);
    }
    this.length += byteLength;
  }

  run(fromSeq: number, toSeq: number, maxBytes: number): Run {
    const start = this.#offsetOf(fromSeq);
    const wanted = toSeq === this.lastSeq ? this.length : this.#offsetOf(toSeq + 1);
    let end = wanted;
    let lastSeq = toSeq;
    let lastOffset = this.#lastOffset;
    if (wanted - start > maxBytes || toSeq !== this.lastSeq) {
      ({ lastSeq, lastOffset, end } = this.#lastWithin(fromSeq, start, Math.min(wanted, start + maxBytes)));
    }
    this.#hintSeq = lastSeq + 1;
    this.#hintOffset = end;
    return { bytes: this.bytes.subarray(start, end), firstSeq: fromSeq, lastSeq, lastOffset: lastOffset - start };
  }

  bytesAfter(seq: number): number {
    if (seq >= this.lastSeq) return 0;
    return this.length - (seq < this.firstSeq ? 0 : this.#offsetOf(seq + 1));
  }

  dropAfter(seq: number): void {
    if (seq >= this.lastSeq) return;
    const end = this.#offsetOf(seq + 1);
    while (this.#offsets.length > 0 && this.#offsets.at(-1)! >= end) {
      this.#offsets.pop();
      this.#seqs.pop();
    }
    this.length = end;
    this.lastSeq = seq;
    this.#hintSeq = this.firstSeq;
    this.#hintOffset = 0;
    this.#lastOffset = this.#offsetOf(seq);
  }

  /** The last record that ends at or before `limit`, or else the one at `start`. */
  #lastWithin(seq: number, start: number, limit: number): { lastSeq: number; lastOffset: number; end: number } {
    let lastSeq = seq;
    let lastOffset = start;
    // The record of a stride may itself run past the limit; that of the stride before cannot.
    const stride = floor(this.#offsets, limit) - 1;
    if (stride >= 0 && this.#offsets[stride]! > start) {
      lastSeq = this.#seqs[stride]!;
      lastOffset = this.#offsets[stride]!;
    }
    let end = recordEnd(this.bytes, lastOffset);
    while (end < limit) {
      const next = recordEnd(this.bytes, end);
      if (next > limit) break;
      lastSeq++;
      lastOffset = end;
      end = next;
    }
    return { lastSeq, lastOffset, end };
  }

  #offsetOf(seq: number): number {
    const stride = floor(this.#seqs, seq);
    assert(stride >= 0, "a block's first record is found without walking");
    let at = this.#seqs[stride]!;
    let offset = this.#offsets[stride]!;
    if (this.#hintSeq <= seq && this.#hintSeq > at) {
      at = this.#hintSeq;
      offset = this.#hintOffset;
    }
    for (; at < seq; at++) offset = recordEnd(this.bytes, offset);
    return offset;
  }
}

/** Index of the last number that is at most `value`; -1 when there is none. */
function floor(numbers: readonly number[], value: number): number {
  let low = 0;
  let high = numbers.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numbers[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
