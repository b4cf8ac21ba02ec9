/**
 * How protobuf turns text into bytes and back. The library's own way drops a byte order mark at the beginning of a text,
 * which would make one key of two.
 */
import { configureTextEncoding } from "@bufbuild/protobuf/wire";

const encoder = new TextEncoder();
const decoders = {
  strict: new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }),
  lax: new TextDecoder("utf-8", { ignoreBOM: true }),
};
const malformed = /\p{Surrogate}/u;

/** Makes protobuf keep byte order marks, for the whole page or process. Idempotent. */
export function keepByteOrderMarks(): void {
  configureTextEncoding({
    encodeUtf8(text) {
      if (malformed.test(text)) throw new TypeError("a text holds half a surrogate pair, which UTF-8 cannot express");
      return encoder.encode(text);
    },
    decodeUtf8: (bytes, strict) => (strict === true ? decoders.strict : decoders.lax).decode(bytes),
    checkUtf8: (text) => !malformed.test(text),
  });
}
