/**
 * Bytes in answers as JSON. The library turns them into base64 one character after the other, which takes half a second and a
 * hundred megabytes of garbage for a few megabytes, where Node takes some milliseconds. So the library is given a short stand-in
 * for what is long, and its finished text gets the real thing in that place.
 */
import { randomBytes } from "node:crypto";
import { assert } from "../base/assert.js";

/** Shorter ones are left to the library. */
const LONG_BYTES = 1024;
/** Bytes of which nobody knows; a multiple of three, so that they are the same text of base64 wherever they begin. */
const SECRET = randomBytes(30);
const SECRET_TEXT = SECRET.toString("base64");
const NUMBER_BYTES = 6;
const STAND_IN_CHARS = SECRET_TEXT.length + (NUMBER_BYTES / 3) * 4;

export class JsonBytes {
  /** By the text of their stand-ins. The library makes the text of a message on the tick on which it has got it. */
  readonly #standingIn = new Map<string, Uint8Array>();
  #count = 0;

  /** Puts stand-ins into a message that is about to be made a text of. */
  prepare(message: object): void {
    for (const [field, value] of Object.entries(message)) {
      if (value instanceof Uint8Array) {
        if (value.byteLength >= LONG_BYTES) Reflect.set(message, field, this.#standIn(value));
      } else if (typeof value === "object" && value !== null) this.prepare(value as object);
    }
  }

  /** The bytes of a text with stand-ins: what protobuf takes for an encoder. */
  readonly encode = (text: string): Uint8Array<ArrayBuffer> => {
    if (this.#standingIn.size === 0) return new Uint8Array(Buffer.from(text));
    const parts: Buffer[] = [];
    let from = 0;
    for (let at = text.indexOf(SECRET_TEXT); at >= 0; at = text.indexOf(SECRET_TEXT, from)) {
      const standIn = text.slice(at, at + STAND_IN_CHARS);
      const value = this.#standingIn.get(standIn);
      assert(value, "a stand-in stands for something");
      parts.push(Buffer.from(text.slice(from, at)), base64(value));
      from = at + STAND_IN_CHARS;
    }
    parts.push(Buffer.from(text.slice(from)));
    return new Uint8Array(Buffer.concat(parts));
  };

  #standIn(value: Uint8Array): Uint8Array {
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
