/** Keys and values as parts of one line. */
import { jsonValue, type OutputStream } from "./terminal.js";
import { formatBytes } from "./units.js";

/** Characters of a value that a terminal shows. */
const SHOWN_CHARACTERS_MAX = 200;

/** A value as text, its beginning on a terminal; bytes that are no text by their number. */
export function shownValue(value: Uint8Array, { isTTY }: OutputStream): string {
  const read = jsonValue(value);
  if ("valueBase64" in read) return `(${formatBytes(value.byteLength)})`;
  const text = read.value;
  return isTTY && text.length > SHOWN_CHARACTERS_MAX
    ? `${onOneLine(text.slice(0, SHOWN_CHARACTERS_MAX))}… (${formatBytes(value.byteLength)})`
    : onOneLine(text);
}

/** As it is, unless a terminal would take it for more than text, or a reader for what is written here as JSON. */
export function onOneLine(text: string): string {
  return /[\p{Cc}\u2028\u2029]|^"/u.test(text) ? JSON.stringify(text) : text;
}
