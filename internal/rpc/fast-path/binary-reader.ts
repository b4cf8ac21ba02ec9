/** Messages of protobuf, as encoders write them. What is unusual is left to the library, which judges it; see DESIGN.md. */
import { isUtf8 } from "node:buffer";
import type { DescMessage, MessageShape } from "@bufbuild/protobuf";
import { unreachable } from "../../base/assert.js";
import type { Field, Shape } from "./shape.js";

/** Bytes of the longest number of 64 bits. */
const VARINT_BYTES_MAX = 10;
/** Those of a number that a double holds exactly. */
const SMALL_VARINT_BYTES_MAX = 7;

/** Undefined: the library is to read it. Byte fields share the memory of `bytes`. */
export function readBinary<Desc extends DescMessage>(
  shape: Shape<Desc>,
  bytes: Buffer,
): MessageShape<Desc> | undefined {
  // What a shape makes is of its own schema.
  return new Reader(bytes, 0, bytes.length).message(shape) as MessageShape<Desc> | undefined;
}

class Reader {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;

  constructor(bytes: Buffer, start: number, end: number) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  message(shape: Shape): Record<string, unknown> | undefined {
    const message = shape.blank();
    while (this.#at < this.#end) {
      const field = shape.byTag[this.#bytes[this.#at++]!];
      if (!field) return undefined;
      const value = this.#value(field);
      if (value === undefined) return undefined;
      const { name, kind, branchOf } = field;
      if (branchOf !== undefined) {
        if ((message[branchOf] as { case: unknown }).case !== undefined) return undefined;
        message[branchOf] = { case: name, value };
      } else if (kind === "texts" || kind === "messages") (message[name] as unknown[]).push(value);
      // A message that comes twice is put together of both.
      else if (kind === "message" && message[name] !== undefined) return undefined;
      else message[name] = value;
    }
    return message;
  }

  #value(field: Field): unknown {
    switch (field.kind) {
      case "text":
      case "texts": {
        const start = this.#skipped();
        if (start < 0) return undefined;
        const part = this.#bytes.subarray(start, this.#at);
        return isUtf8(part) ? part.toString() : undefined;
      }
      case "bytes": {
        const start = this.#skipped();
        return start < 0
          ? undefined
          : new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + start, this.#at - start);
      }
      case "message":
      case "messages": {
        const start = this.#skipped();
        return start < 0 || !field.shape ? undefined : new Reader(this.#bytes, start, this.#at).message(field.shape);
      }
      case "bool": {
        const value = this.#small();
        return value === 0 || value === 1 ? value === 1 : undefined;
      }
      case "enum": {
        const value = this.#small();
        return value >= 0 && value < 128 ? value : undefined;
      }
      case "uint32": {
        const value = this.#small();
        return value >= 0 && value < 2 ** 32 ? value : undefined;
      }
      case "uint64":
        return this.#big();
      case "int64": {
        const value = this.#big();
        return value === undefined ? undefined : BigInt.asIntN(64, value);
      }
      default:
        return unreachable(field.kind);
    }
  }

  /** Goes over what has its length before it, and gives where it begins; -1: it is cut off. */
  #skipped(): number {
    const length = this.#small();
    const start = this.#at;
    if (length < 0 || length > this.#end - start) return -1;
    this.#at = start + length;
    return start;
  }

  /** A number that a double holds; -1: it is longer, or cut off. */
  #small(): number {
    const bytes = this.#bytes;
    let factor = 1;
    let value = 0;
    for (let count = 0; count < SMALL_VARINT_BYTES_MAX && this.#at < this.#end; count++) {
      const byte = bytes[this.#at++]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
    return -1;
  }

  #big(): bigint | undefined {
    const start = this.#at;
    const small = this.#small();
    if (small >= 0) return BigInt(small);
    this.#at = start;
    let value = 0n;
    for (let count = 0; count < VARINT_BYTES_MAX && this.#at < this.#end; count++) {
      const byte = this.#bytes[this.#at++]!;
      // Of the last byte one bit is left.
      if (count === VARINT_BYTES_MAX - 1 && byte > 1) return undefined;
      value |= BigInt(byte & 0x7f) << BigInt(7 * count);
      if (byte < 0x80) return value;
    }
    return undefined;
  }
}
