/** Runs of bytes, each given by its buffer and places, since a view for each would cost more than the work. */

/** At a few bytes a loop beats the call of `set`. */
const LOOP_BYTES_MAX = 24;

export function equalBytes(a: Uint8Array, aStart: number, b: Uint8Array, bStart: number, length: number): boolean {
  for (let i = 0; i < length; i++) {
    if (a[aStart + i] !== b[bStart + i]) return false;
  }
  return true;
}

/** Negative, zero or positive, as the first run comes before, at or after the second, by its bytes, unsigned. */
export function compareBytes(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const length = Math.min(aEnd - aStart, bEnd - bStart);
  for (let i = 0; i < length; i++) {
    const difference = a[aStart + i]! - b[bStart + i]!;
    if (difference !== 0) return difference;
  }
  return aEnd - aStart - (bEnd - bStart);
}

/** How many bytes the two runs have in common from their beginnings on. */
export function commonBytes(
  a: Uint8Array,
  aStart: number,
  aEnd: number,
  b: Uint8Array,
  bStart: number,
  bEnd: number,
): number {
  const length = Math.min(aEnd - aStart, bEnd - bStart);
  let common = 0;
  while (common < length && a[aStart + common] === b[bStart + common]) common++;
  return common;
}

/** Copies between runs; where they lie in one buffer they must not overlap. */
export function copyBytes(from: Uint8Array, fromStart: number, length: number, to: Uint8Array, toStart: number): void {
  if (length <= LOOP_BYTES_MAX) {
    for (let i = 0; i < length; i++) to[toStart + i] = from[fromStart + i]!;
    return;
  }
  const whole = fromStart === 0 && length === from.length;
  to.set(whole ? from : new Uint8Array(from.buffer, from.byteOffset + fromStart, length), toStart);
}

/**
 * The first four bytes of a run as a number: those of two runs are in the order of the runs, or equal, as far as four bytes
 * can tell. A shorter run counts as if zeros followed. Signed 32 bits.
 */
export function windowOf(bytes: Uint8Array, start: number, end: number): number {
  let window = 0;
  if (end - start >= 4) {
    window = (bytes[start]! << 24) | (bytes[start + 1]! << 16) | (bytes[start + 2]! << 8) | bytes[start + 3]!;
  } else {
    for (let at = start, shift = 24; at < end; at++, shift -= 8) window |= bytes[at]! << shift;
  }
  return window ^ 0x80000000;
}
