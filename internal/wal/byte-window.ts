/** A window that moves forward over a file: large sequential reads, and the bytes in one piece for whoever parses them. */
import { must } from "../base/assert.js";
import type { File } from "./file-system.js";

export class ByteWindow {
  readonly #file: File;
  /** The file is read up to here. */
  readonly fileEnd: number;
  /** Bytes of the file from `#start` on; `#length` of them are valid. A view of it is valid until the next `fill`. */
  bytes: Buffer;
  #start = 0;
  #length = 0;

  constructor(file: File, fileEnd: number, chunkBytes: number) {
    this.#file = file;
    this.fileEnd = fileEnd;
    this.bytes = Buffer.allocUnsafe(Math.max(1, Math.min(chunkBytes, fileEnd)));
  }

  /** Whether `length` bytes from `offset` are in the window. */
  has(offset: number, length: number): boolean {
    return offset >= this.#start && offset + length <= this.#start + this.#length;
  }

  /** Where in `bytes` the byte at `offset` of the file stands. */
  at(offset: number): number {
    return offset - this.#start;
  }

  /** Bytes from `offset` on that are in the window. */
  available(offset: number): number {
    return offset < this.#start ? 0 : Math.max(0, this.#start + this.#length - offset);
  }

  /** Brings in `length` bytes from `offset`, or as many as the file has; reads as far ahead as the window holds. */
  async fill(offset: number, length: number): Promise<void> {
    const kept = this.available(offset);
    const needed = Math.min(length, Math.max(0, this.fileEnd - offset));
    if (needed > this.bytes.length) {
      const larger = Buffer.allocUnsafe(needed);
      this.bytes.copy(larger, 0, this.at(offset), this.at(offset) + kept);
      this.bytes = larger;
    } else if (kept > 0) {
      this.bytes.copyWithin(0, this.at(offset), this.at(offset) + kept);
    }
    this.#start = offset;
    this.#length = kept;
    while (this.#length < needed) {
      const position = this.#start + this.#length;
      const room = Math.min(this.bytes.length - this.#length, this.fileEnd - position);
      const read = await this.#file.read(this.bytes.subarray(this.#length, this.#length + room), position);
      if (read === 0) break;
      this.#length += read;
    }
  }

  /** `fill` where it is needed, and only then a turn of the event loop. */
  ensure(offset: number, length: number): Promise<void> | undefined {
    return this.has(offset, length) ? undefined : this.fill(offset, length);
  }

  /** A view of bytes that are in the window. */
  view(offset: number, length: number): Buffer {
    must(this.has(offset, length) || undefined, "only bytes inside the window can be viewed");
    return this.bytes.subarray(this.at(offset), this.at(offset) + length);
  }
}
