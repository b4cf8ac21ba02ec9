/** Numbers that are incremented: decimal text of a whole number of 64 bits, signed. */

export const INT64_MIN = -(2n ** 63n);
export const INT64_MAX = 2n ** 63n - 1n;

/** `-9223372036854775808` */
const CHARACTERS_MAX = 20;
const NUMBER = /^(?:0|-?[1-9][0-9]*)$/;

/** The number that a value holds; undefined when it holds none: every number has one text only, without blanks, plus or leading zeros. */
export function counterOf(value: Uint8Array): bigint | undefined {
  if (value.length > CHARACTERS_MAX) return undefined;
  const text = Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("latin1");
  if (!NUMBER.test(text)) return undefined;
  const counter = BigInt(text);
  return counter >= INT64_MIN && counter <= INT64_MAX ? counter : undefined;
}

export function counterText(counter: bigint): Uint8Array {
  return Buffer.from(counter.toString(), "latin1");
}
