/**
 * Bytes in answers as JSON. The library turns them into base64 one character after the other, which takes half a second and a
 * hundred megabytes of garbage for a few megabytes, where Node takes some milliseconds. So the library is given a short stand-in
 * for what is long, and its finished text gets the real thing in that place.
 */
import { randomBytes } from "node:crypto";
import type { JsonReadOptions, JsonWriteOptions } from "@bufbuild/protobuf";
import { assert } from "../base/assert.js";

/** Shorter ones are left to the library. */
const LONG_BYTES = 1024;
/** Bytes of which nobody knows; a multiple of three, so that they are the same text of base64 wherever they begin. */
const SECRET = randomBytes(30);
const SECRET_TEXT = SECRET.toString("base64");
const NUMBER_BYTES = 6;
const STAND_IN_CHARS = SECRET_TEXT.length + (NUMBER_BYTES / 3) * 4;

/** What the library writes around a stand-in. */
export interface JsonFrame {
  readonly before: string;
  readonly after: string;
}

/** A piece of a finished text, that takes the place of a stand-in together with its frame. */
export interface JsonPiece extends JsonFrame {
  readonly json: Uint8Array;
}

/** `textOf`: the text of a message that has nothing but the given text somewhere. */
export function jsonFrameOf(textOf: (standIn: string) => string): JsonFrame {
  const [before, after, ...rest] = textOf("@").split("@");
  assert(before !== undefined && after !== undefined && rest.length === 0, "a stand-in stands in one place");
  return { before, after };
}

export class JsonBytes {
  /**
   * Bytes that become base64, and finished pieces, by the text of their stand-ins. The library makes the text of a message on the
   * tick on which it has got it.
   */
  readonly #standingIn = new Map<string, Uint8Array | JsonPiece>();
  #count = 0;

  /** Puts stand-ins into a message that is about to be made a text of. */
  prepare(message: object): void {
    for (const [field, value] of Object.entries(message)) {
      if (value instanceof Uint8Array) {
        if (value.byteLength >= LONG_BYTES) Reflect.set(message, field, this.#standIn(value));
      } else if (typeof value === "object" && value !== null) this.prepare(value as object);
    }
  }

  /** The text of a field that stands for a finished piece. Valid for this tick. */
  standInFor(piece: JsonPiece): string {
    return this.#standIn(piece).toString("base64");
  }

  /** The bytes of a text with stand-ins: what protobuf takes for an encoder. */
  readonly encode = (text: string): Uint8Array<ArrayBuffer> => {
    if (this.#standingIn.size === 0) return new Uint8Array(Buffer.from(text));
    const parts: Uint8Array[] = [];
    let from = 0;
    for (let at = text.indexOf(SECRET_TEXT); at >= 0; at = text.indexOf(SECRET_TEXT, from)) {
      const standIn = text.slice(at, at + STAND_IN_CHARS);
      const value = this.#standingIn.get(standIn);
      assert(value, "a stand-in stands for something");
      const end = at + STAND_IN_CHARS;
      if (value instanceof Uint8Array) {
        parts.push(Buffer.from(text.slice(from, at)), base64(value));
        from = end;
        continue;
      }
      const { json, before, after } = value;
      assert(text.endsWith(before, at) && text.startsWith(after, end), "a piece stands where it was said to stand");
      parts.push(Buffer.from(text.slice(from, at - before.length)), json);
      from = end + after.length;
    }
    parts.push(Buffer.from(text.slice(from)));
    return new Uint8Array(Buffer.concat(parts));
  };

  #standIn(value: Uint8Array | JsonPiece): Buffer {
    const number = Buffer.alloc(NUMBER_BYTES);
    number.writeUIntBE(this.#count++, 0, NUMBER_BYTES);
    const standIn = Buffer.concat([SECRET, number]);
    const text = standIn.toString("base64");
    this.#standingIn.set(text, value);
    // A caller may leave before there is a text.
    setImmediate(() => this.#standingIn.delete(text));
    return standIn;
  }
}

function base64(value: Uint8Array): Buffer {
  return Buffer.from(Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64"), "latin1");
}

/**
 * JSON shows every field, those with the value of nothing too: `exists: false` is an answer. A field that there is not is
 * refused, since a condition that is misspelt would be a write without one. And without a decoder of our own,
 * which, like the encoder, the library's types do not list, bytes that are no UTF-8 would be replaced, and keys changed by it.
 */
export function jsonOptionsWith(textEncoder: JsonBytes): Partial<JsonReadOptions & JsonWriteOptions> {
  const options = {
    alwaysEmitImplicit: true,
    ignoreUnknownFields: false,
    textDecoder: new TextDecoder("utf-8", { fatal: true }),
    textEncoder,
  };
  return options;
}
