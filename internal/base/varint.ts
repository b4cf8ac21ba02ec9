/** Numbers of variable length: unsigned LEB128, which is protobuf's varint too (https://protobuf.dev/programming-guides/encoding). */

const TWO_TO_31 = 2 ** 31;

/** How many bytes `writeVarint` takes for a number. */
export function varintSize(value: number): number {
  let size = 1;
  let rest = value;
  for (; rest >= TWO_TO_31; rest = Math.floor(rest / 0x80)) size++;
  for (; rest >= 0x80; rest >>>= 7) size++;
  return size;
}

/** Writes a safe integer that is not negative, seven bits a byte, the lowest first; gives the place behind it. */
export function writeVarint(into: Uint8Array, start: number, value: number): number {
  let at = start;
  let rest = value;
  for (; rest >= TWO_TO_31; rest = Math.floor(rest / 0x80)) into[at++] = (rest % 0x80) | 0x80;
  for (; rest >= 0x80; rest >>>= 7) into[at++] = (rest & 0x7f) | 0x80;
  into[at++] = rest;
  return at;
}
