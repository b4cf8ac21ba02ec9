/** A window that moves forward over a file: large sequential reads, and the bytes in one piece for whoever parses them. */
import { must } from "../base/assert.js";
import type { File } from "./file-system.js";

/** Room in front of what is read ahead, for what of the window is still needed: a frame of the usual size. */
const LEAD_BYTES = 320 * 1024;

/** A read of what comes behind the window. */
interface Ahead {
  /** What was read stands behind the room at the beginning. */
  readonly bytes: Buffer;
  readonly position: number;
  readonly reading: Promise<number>;
}

export class ByteWindow {
  readonly #file: File;
  /** The file is read up to here. */
  readonly fileEnd: number;
  /** In it, from `#base` on, the bytes of the file from `#start` on; `#length` of them. A view of it is valid until the next `fill`. */
  bytes: Buffer;
  #base = 0;
  #start = 0;
  #length = 0;
  readonly #chunkBytes: number;
  readonly #readsAhead: boolean;
  #ahead: Ahead | undefined;
  /** Where the next read ahead may go. */
  #spare: Buffer | undefined;

  /**
   * With `readsAhead`, the next piece is read while this one is gone through; the file must not be closed before `settled` has resolved.
   */
  constructor(file: File, fileEnd: number, chunkBytes: number, options: { readonly readsAhead?: boolean } = {}) {
    this.#file = file;
    this.fileEnd = fileEnd;
    this.#chunkBytes = chunkBytes;
    this.#readsAhead = options.readsAhead === true && fileEnd > chunkBytes;
    this.bytes = Buffer.allocUnsafe(
      this.#readsAhead ? LEAD_BYTES + chunkBytes : Math.max(1, Math.min(chunkBytes, fileEnd)),
    );
  }

  /** Whether `length` bytes from `offset` are in the window. */
  has(offset: number, length: number): boolean {
    return offset >= this.#start && offset + length <= this.#start + this.#length;
  }

  /** Where in `bytes` the byte at `offset` of the file stands. */
  at(offset: number): number {
    return offset - this.#start + this.#base;
  }

  /** Bytes from `offset` on that are in the window. */
  available(offset: number): number {
    return offset < this.#start ? 0 : Math.max(0, this.#start + this.#length - offset);
  }

  /** Brings in `length` bytes from `offset`, or as many as the file has; reads as far ahead as the window holds. */
  async fill(offset: number, length: number): Promise<void> {
    if (this.#ahead) await this.#takeAhead(offset, this.#ahead);
    const needed = Math.min(length, Math.max(0, this.fileEnd - offset));
    if (!this.has(offset, needed)) await this.#read(offset, needed);
    if (this.#readsAhead) this.#readAhead();
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

  /** Resolves once nothing is read any more. */
  async settled(): Promise<void> {
    // Whether that failed matters to nobody: who needs the bytes asks for them.
    await this.#ahead?.reading.catch(() => 0);
  }

  async #read(offset: number, needed: number): Promise<void> {
    const kept = this.available(offset);
    if (needed > this.bytes.length) {
      const larger = Buffer.allocUnsafe(needed);
      this.bytes.copy(larger, 0, this.at(offset), this.at(offset) + kept);
      this.bytes = larger;
    } else if (kept > 0) {
      this.bytes.copyWithin(0, this.at(offset), this.at(offset) + kept);
    }
    this.#base = 0;
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

  #readAhead(): void {
    const position = this.#start + this.#length;
    if (position >= this.fileEnd) return;
    const bytes = this.#spare ?? Buffer.allocUnsafe(LEAD_BYTES + this.#chunkBytes);
    this.#spare = undefined;
    const length = Math.min(this.#chunkBytes, this.fileEnd - position);
    const reading = this.#file.read(bytes.subarray(LEAD_BYTES, LEAD_BYTES + length), position);
    // Nobody may come to wait for it.
    reading.catch(() => undefined);
    this.#ahead = { bytes, position, reading };
  }

  /** Makes what was read ahead the window, behind what is kept of it, where the one follows on the other. */
  async #takeAhead(offset: number, { bytes, position, reading }: Ahead): Promise<void> {
    let read: number;
    try {
      read = await reading;
    } finally {
      this.#ahead = undefined;
    }
    const kept = this.available(offset);
    const [before, from] = [this.bytes, this.at(offset)];
    if (kept > LEAD_BYTES || offset + kept !== position) {
      // Something large began in the window, or it goes elsewhere: the plain way does for both.
      this.#spare = bytes;
      return;
    }
    before.copy(bytes, LEAD_BYTES - kept, from, from + kept);
    this.bytes = bytes;
    this.#base = LEAD_BYTES - kept;
    this.#start = offset;
    this.#length = kept + read;
    if (before.length === bytes.length) this.#spare = before;
  }
}
