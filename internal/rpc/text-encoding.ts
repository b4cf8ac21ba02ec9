/**
 * How protobuf turns text into bytes and back in this process. The library's own way drops a byte order mark at the
 * beginning of a text, which would make two different keys one, and it is slower than what Node has built in.
 */
import { isUtf8 } from "node:buffer";
import { configureTextEncoding } from "@bufbuild/protobuf/wire";

const encoder = new TextEncoder();
const malformed = /\p{Surrogate}/u;

/** Whether a string is Unicode: without half a surrogate pair, which UTF-8 cannot express. */
export const isWellFormed = (text: string): boolean => !malformed.test(text);

/** Makes protobuf use Node's own encoding, for the whole process. Idempotent. */
export function useNodeTextEncoding(): void {
  configureTextEncoding({
    encodeUtf8: (text) => encoder.encode(text),
    decodeUtf8(bytes, strict) {
      if (strict === true && !isUtf8(bytes)) throw new Error("a text is not valid UTF-8");
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
    },
    checkUtf8: isWellFormed,
  });
}
