/** Bytes as the store writes them: little-endian numbers, and runs of bytes behind a LEB128 length. */
import { varintSize, writeVarint } from "../base/varint.js";

/** Bytes that this version cannot read. */
export class FormatError extends Error {
  override readonly name: string = "FormatError";
}

/** Bytes that are whole, and that only a newer version can read. */
export class NewerFormatError extends FormatError {
  override readonly name = "NewerFormatError";
}

/** Bytes of a length together with what it announces. */
export function prefixedSize(length: number): number {
  return varintSize(length) + length;
}

/** Fills a buffer whose size the caller has reckoned. */
export class ByteWriter {
  readonly bytes: Buffer;
  at = 0;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  byte(value: number): void {
    this.bytes[this.at++] = value;
  }

  uint32(value: number): void {
    this.bytes.writeUInt32LE(value, this.at);
    this.at += 4;
  }

  uint64(value: number): void {
    this.uint32(value % 2 ** 32);
    this.uint32(Math.floor(value / 2 ** 32));
  }

  raw(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.at);
    this.at += bytes.length;
  }

  /** Up to 2^53 - 1, as unsigned LEB128. */
  varint(value: number): void {
    this.at = writeVarint(this.bytes, this.at, value);
  }

  prefixed(bytes: Uint8Array): void {
    this.at = writeVarint(this.bytes, this.at, bytes.length);
    this.raw(bytes);
  }
}

/** Reads what a `ByteWriter` wrote; throws `FormatError` where the bytes end too early or make no sense. */
export class ByteReader {
  #bytes: Uint8Array;
  #at: number;
  #end: number;

  /** Reads the bytes from `start` up to `end`. */
  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** Begins anew with other bytes, as if it had been made for them. */
  moveTo(bytes: Uint8Array, start: number, end: number): void {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** The place in the bytes of what is read next. */
  get at(): number {
    return this.#at;
  }

  get atEnd(): boolean {
    return this.#at === this.#end;
  }

  byte(): number {
    return this.#bytes[this.#take(1)]!;
  }

  /** A byte of which only `known` bits may be set. */
  flags(known: number): number {
    const value = this.byte();
    if ((value & ~known) !== 0) throw new FormatError(`flags ${value} are unknown to this version; use a newer one`);
    return value;
  }

  uint32(): number {
    return uint32At(this.#bytes, this.#take(4));
  }

  /** Up to 2^53 - 1. */
  uint64(): number {
    const at = this.#take(8);
    const value = uint32At(this.#bytes, at) + uint32At(this.#bytes, at + 4) * 2 ** 32;
    if (!Number.isSafeInteger(value)) throw new FormatError(`the number ${value} is out of range`);
    return value;
  }

  /** A view of the next bytes. */
  raw(length: number): Uint8Array {
    const at = this.#take(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** Up to 2^53 - 1. */
  varint(): number {
    let value = 0;
    for (let scale = 1; scale < 2 ** 53; scale *= 0x80) {
      const part = this.byte();
      value += (part & 0x7f) * scale;
      if (part >= 0x80) continue;
      if (!Number.isSafeInteger(value)) break;
      return value;
    }
    throw new FormatError("a number is out of range");
  }

  prefixed(): Uint8Array {
    const start = this.passPrefixed();
    return this.#bytes.subarray(start, this.#at);
  }

  /** Passes over bytes behind their length, without a view of them. Returns the place where they begin; they end at `at`. */
  passPrefixed(): number {
    let length = this.byte();
    if (length >= 0x80) length = this.#longLength(length);
    return this.#take(length);
  }

  #longLength(first: number): number {
    let length = first & 0x7f;
    for (let shift = 7; ; shift += 7) {
      if (shift > 28) throw new FormatError("a length is out of range");
      const part = this.byte();
      length += (part & 0x7f) * 2 ** shift;
      if (part < 0x80) return length;
    }
  }

  /** Where so many bytes begin that are there, and passes over them. */
  #take(length: number): number {
    const at = this.#at;
    if (at + length > this.#end) throw new FormatError("the bytes end too early");
    this.#at = at + length;
    return at;
  }
}

function uint32At(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
}
