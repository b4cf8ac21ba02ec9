/**
 * The data file of a segment: bytes at positions, without format. It sees to it that a write is whole, keeps zeros
 * written ahead of it, and knows how far they reach. One write at a time; reads may go on beside it.
 */
import { assert } from "../base/assert.js";
import { FileSystemError, type File } from "./file-system.js";
import { isDiskFull } from "./wal-error.js";

/** Zeros are written ahead in steps of this size … */
const PREALLOCATE_STEP_BYTES = 256 * 1024;
/** … once less than this is left of them. Invariant: at most 1 MiB lies ahead of the data. */
const PREALLOCATE_LOW_BYTES = 64 * 1024;

const ZEROS = Buffer.alloc(PREALLOCATE_STEP_BYTES);

export class SegmentFile {
  readonly #file: File;
  /** Up to here the file holds data and then zeros; never less than the data. */
  #allocatedEnd: number;
  #preallocates: boolean;
  #readers = 0;
  #closing = false;

  constructor(file: File, size: number, preallocates: boolean) {
    this.#file = file;
    this.#allocatedEnd = size;
    this.#preallocates = preallocates;
  }

  /**
   * Writes all of `bytes` at `position`; `atOnce`: while the thread stands still, where the file can do that. Rejects with the
   * `FileSystemError` of the first write that fails.
   */
  async write(bytes: Uint8Array, position: number, atOnce = false): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const rest = done === 0 ? bytes : bytes.subarray(done);
      const written =
        atOnce && this.#file.atOnce
          ? this.#file.atOnce.write(rest, position + done)
          : await this.#file.write(rest, position + done);
      if (written <= 0) throw new FileSystemError("EIO", `a write at byte ${position + done} wrote nothing`);
      done += written;
    }
    this.#allocatedEnd = Math.max(this.#allocatedEnd, position + bytes.length);
  }

  /**
   * Keeps zeros ahead of `dataEnd`, up to `limit` at most, so that the next writes change no metadata and their syncs are
   * one disk write. A full disk ends that, not the log.
   */
  async preallocate(dataEnd: number, limit: number): Promise<void> {
    const length = Math.min(PREALLOCATE_STEP_BYTES, limit - this.#allocatedEnd);
    if (!this.#preallocates || length <= 0 || this.#allocatedEnd - dataEnd >= PREALLOCATE_LOW_BYTES) return;
    try {
      await this.write(ZEROS.subarray(0, length), this.#allocatedEnd);
    } catch (error) {
      if (!isDiskFull(error)) throw error;
      this.#preallocates = false;
      await this.truncate(dataEnd);
    }
  }

  /** Ends the file at `size`. Durable with the next `datasync`. */
  async truncate(size: number): Promise<void> {
    await this.#file.truncate(size);
    this.#allocatedEnd = size;
  }

  /** Cuts off what was preallocated past `dataEnd`. */
  async trim(dataEnd: number): Promise<void> {
    if (this.#allocatedEnd > dataEnd) await this.truncate(dataEnd);
  }

  /** `atOnce`: as with `write`. */
  async datasync(atOnce = false): Promise<void> {
    if (atOnce && this.#file.atOnce) this.#file.atOnce.datasync();
    else await this.#file.datasync();
  }

  /** Lends the file to a read; it stays open until `use` is done. */
  async lend<T>(use: (file: File) => Promise<T>): Promise<T> {
    assert(!this.#closing, "a file that is closed is lent to nobody");
    this.#readers++;
    try {
      return await use(this.#file);
    } finally {
      if (--this.#readers === 0 && this.#closing) await this.#file.close();
    }
  }

  /** Closes the file; when reads have it still, the last of them does so, and nobody waits for them here. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#readers === 0) await this.#file.close();
  }
}
