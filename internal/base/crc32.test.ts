import fc from "fast-check";
import { expect, test } from "vitest";
import {
  crc32,
  crc32Copy,
  crc32CopyViews,
  crc32Range,
  crc32Uint32,
  crc32Uint64,
  crc32Uint64s,
  crc32View,
} from "./crc32.js";

test("the check value of CRC-32 comes out", () => {
  expect(crc32(Buffer.from("123456789"))).toBe(0xcbf43926);
  expect(crc32Range(Buffer.from("123456789"), 0, 9)).toBe(0xcbf43926);
});

test("a range has the CRC of its bytes, at every length, offset and seed", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 600 }),
      fc.nat(20),
      fc.nat(20),
      fc.integer({ min: 0, max: 0xffffffff }),
      (bytes, skip, drop, seed) => {
        const start = Math.min(skip, bytes.length);
        const end = Math.max(start, bytes.length - drop);
        expect(crc32Range(bytes, start, end, seed)).toBe(crc32(bytes.subarray(start, end), seed));
      },
    ),
  );
});

test("a range within a view counts from the view's own beginning", () => {
  const whole = Buffer.alloc(1024, "0123456789");
  const view = whole.subarray(7);
  expect(crc32Range(view, 3, 500)).toBe(crc32(whole.subarray(10, 507)));
});

test("what is copied on the way has the same CRC, and comes where it should alone", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 600 }),
      fc.nat(20),
      fc.nat(20),
      fc.integer({ min: 0, max: 0xffffffff }),
      (bytes, start, toStart, seed) => {
        const from = Buffer.concat([Buffer.alloc(start, 1), bytes, Buffer.alloc(9, 2)]);
        const to = Buffer.alloc(toStart + bytes.length + 9, 3);
        expect(crc32Copy(from, start, start + bytes.length, to, toStart, seed)).toBe(crc32(bytes, seed));
        expect(to).toEqual(Buffer.concat([Buffer.alloc(toStart, 3), bytes, Buffer.alloc(9, 3)]));
      },
    ),
  );
});

test("bytes that are seen through a view have the same CRC, and are copied through one, as signed numbers", () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 600 }),
      fc.nat(20),
      fc.nat(20),
      fc.integer({ min: 0, max: 0xffffffff }),
      (bytes, start, toStart, seed) => {
        const from = viewOf(Buffer.concat([Buffer.alloc(start, 1), bytes, Buffer.alloc(9, 2)]));
        const to = Buffer.alloc(toStart + bytes.length + 9, 3);
        const expected = crc32(bytes, seed) | 0;
        expect(crc32View(from, start, start + bytes.length, seed)).toBe(expected);
        expect(crc32View(from, start, start + bytes.length, seed | 0)).toBe(expected);
        expect(crc32CopyViews(from, start, start + bytes.length, viewOf(to), toStart, seed | 0)).toBe(expected);
        expect(to).toEqual(Buffer.concat([Buffer.alloc(toStart, 3), bytes, Buffer.alloc(9, 3)]));
      },
    ),
  );
});

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): DataView {
  return new DataView(buffer, byteOffset, byteLength);
}

test("a run may be copied to the place before it, and onto itself", () => {
  for (const length of [5, 100, 300]) {
    for (const to of [0, 3, 10]) {
      const bytes = Buffer.from(Array.from({ length: 400 }, (_, n) => n & 255));
      const run = Buffer.from(bytes.subarray(10, 10 + length));
      expect(crc32Copy(bytes, 10, 10 + length, bytes, to)).toBe(crc32(run));
      expect(bytes.subarray(to, to + length)).toEqual(run);
    }
  }
});

test("a number has the CRC of its bytes", () => {
  const bytes = Buffer.alloc(8);
  const anyNumber = fc.oneof(
    fc.nat(Number.MAX_SAFE_INTEGER),
    fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1),
  );
  fc.assert(
    fc.property(anyNumber, fc.integer({ min: 0, max: 0xffffffff }), (value, seed) => {
      bytes.writeBigUInt64LE(BigInt(value));
      expect(crc32Uint64(value, seed)).toBe(crc32(bytes, seed) | 0);
      expect(crc32Uint32(value % 2 ** 32, seed)).toBe(crc32(bytes.subarray(0, 4), seed) | 0);
      for (const other of [0, 1, 2 ** 31, 2 ** 40 + 7])
        expect(crc32Uint64s(other, value, seed)).toBe(crc32Uint64(value, crc32Uint64(other, seed)));
    }),
  );
});
