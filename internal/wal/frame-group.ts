/** The bytes of one group write: frames one after another, made in a buffer that is used again for every group. */
import { assert } from "../base/assert.js";
import { crc32Range } from "../base/crc32.js";
import { encodeFrameHeader, frameSeed, FRAME_HEADER_BYTES } from "./frame.js";

/** A buffer that had to grow past this for one group is not kept for the next. */
const BUFFER_BYTES_KEPT = 8 * 1024 * 1024;
const BUFFER_BYTES_MIN = 64 * 1024;

/** What a frame says beside its records. */
export interface FrameFields {
  readonly flags: number;
  readonly syncedSeq: number;
  readonly appliedSeq: number;
}

/** Where in the file the frame with these records begins. */
export interface FramePlace {
  readonly firstSeq: number;
  readonly offset: number;
}

export class FrameGroup {
  #buffer = Buffer.alloc(0);
  #length = 0;
  #saltCrc = 0;
  #fileOffset = 0;
  #frames: FramePlace[] = [];

  /** Begins a group that will be written at `fileOffset` of a segment. */
  begin(saltCrc: number, fileOffset: number): void {
    if (this.#buffer.length > BUFFER_BYTES_KEPT) this.#buffer = Buffer.alloc(0);
    this.#length = 0;
    this.#saltCrc = saltCrc;
    this.#fileOffset = fileOffset;
    this.#frames = [];
  }

  /** Adds a frame with these whole records, the first of which is `firstSeq`; with no records, one that only carries its fields. */
  add(records: Uint8Array, firstSeq: number, recordCount: number, fields: FrameFields): void {
    assert(records.length > 0 === recordCount > 0, "a frame has records and bytes, or neither");
    const start = this.#length;
    const bodyStart = start + FRAME_HEADER_BYTES;
    const end = bodyStart + records.length;
    this.#reserve(end);
    this.#buffer.set(records, bodyStart);
    const header = {
      bodyLength: records.length,
      bodyCrc: crc32Range(this.#buffer, bodyStart, end),
      recordCount,
      ...fields,
    };
    encodeFrameHeader(this.#buffer, start, header, frameSeed(this.#saltCrc, this.#fileOffset + start));
    if (recordCount > 0) this.#frames.push({ firstSeq, offset: this.#fileOffset + start });
    this.#length = end;
  }

  get byteLength(): number {
    return this.#length;
  }

  /** Where the frames with records will stand. */
  get frames(): readonly FramePlace[] {
    return this.#frames;
  }

  /** Valid until the next `begin`. */
  get bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  #reserve(length: number): void {
    if (length <= this.#buffer.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(length, this.#buffer.length * 2, BUFFER_BYTES_MIN));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}
