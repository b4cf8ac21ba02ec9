/**
 * Sizes of blocks: 16, 32, … 256, then eight to each doubling (288, 320, … 512, 576, …). A block so is at most an eighth
 * larger than what it was asked for, or fifteen bytes.
 */
import { assert } from "../base/assert.js";

/** All blocks are multiples of it, and begin at multiples of it. */
export const GRAIN_BYTES = 16;
export const GRAIN_BITS = 4;
const FINE_BITS = 8;
const FINE_BYTES_MAX = 1 << FINE_BITS;
/** Classes up to FINE_BYTES_MAX. */
const FINE_CLASSES = FINE_BYTES_MAX / GRAIN_BYTES;
const STEPS_BITS = 3;

/** The class of the smallest blocks that hold so many bytes, which are 1 or more. */
export function sizeClassOf(bytes: number): number {
  if (bytes <= FINE_BYTES_MAX) return ((bytes + GRAIN_BYTES - 1) >>> GRAIN_BITS) - 1;
  const bits = 31 - Math.clz32(bytes - 1);
  const step = ((bytes - 1) >>> (bits - STEPS_BITS)) & 7;
  return FINE_CLASSES + ((bits - FINE_BITS) << STEPS_BITS) + step;
}

export function blockBytesOf(sizeClass: number): number {
  assert(sizeClass >= 0, "size classes count from 0");
  if (sizeClass < FINE_CLASSES) return (sizeClass + 1) * GRAIN_BYTES;
  const beyond = sizeClass - FINE_CLASSES;
  const bits = FINE_BITS + (beyond >>> STEPS_BITS);
  return (9 + (beyond & 7)) * 2 ** (bits - STEPS_BITS);
}
