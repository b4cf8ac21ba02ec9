import { expect, test } from "vitest";
import { KeyHash, randomHashSeed } from "./hash-index-hash.js";

/** Of the bytes 0, 1, 2, … n - 1, under the key 00 01 … 07: what Linux tests its own HalfSipHash-1-3 against. */
const known = [
  0x5814c896, 0xe7e864ca, 0xbc4b0e30, 0x01539939, 0x7e059ea6, 0x88e3d89b, 0xa0080b65, 0x9d38d9d6, 0x577999b1,
  0xc839caed, 0xe4fa32cf, 0x959246ee, 0x6b28096c, 0x66dd9cd6, 0x16658a7c, 0xd0257b04, 0x8b31d501, 0x2b1cd04b,
];

test("the hash is HalfSipHash-1-3, wherever in a buffer the key lies", () => {
  const hash = new KeyHash([0x03020100, 0x07060504]);
  for (const [length, expected] of known.entries()) {
    const bytes = Uint8Array.from({ length: length + 5 }, (_, i) => i - 2);
    expect(hash.of(bytes, 2, 2 + length) >>> 0).toBe(expected);
  }
});

test("another seed is another hash, and a random seed is never the same", () => {
  const key = Uint8Array.of(1, 2, 3, 4, 5);
  const hashes = [new KeyHash([1, 2]), new KeyHash([2, 2]), new KeyHash([1, 3])].map((hash) => hash.of(key, 0, 5));
  expect(new Set(hashes).size).toBe(3);
  expect(randomHashSeed()).not.toEqual(randomHashSeed());
});
