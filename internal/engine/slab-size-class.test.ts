import { expect, test } from "vitest";
import { blockBytesOf, GRAIN_BYTES, sizeClassOf } from "./slab-size-class.js";

test("the block of a class holds what was asked for, and the one before it would not", () => {
  for (let bytes = 1; bytes <= 140_000; bytes++) {
    const sizeClass = sizeClassOf(bytes);
    const fits = blockBytesOf(sizeClass) >= bytes && (sizeClass === 0 || blockBytesOf(sizeClass - 1) < bytes);
    if (!fits) expect([bytes, sizeClass]).toEqual("the smallest class that fits");
  }
  expect(sizeClassOf(1)).toBe(0);
});

test("blocks are whole grains, and at most an eighth or fifteen bytes too large", () => {
  for (let sizeClass = 1; sizeClass < 180; sizeClass++) {
    const [before, block] = [blockBytesOf(sizeClass - 1), blockBytesOf(sizeClass)];
    expect(block % GRAIN_BYTES).toBe(0);
    expect(block - (before + 1)).toBeLessThanOrEqual(Math.max(GRAIN_BYTES - 1, (before + 1) / 8));
    expect(sizeClassOf(block)).toBe(sizeClass);
  }
});
