import fc from "fast-check";
import { expect, test } from "vitest";
import { crc32, crc32Range } from "./crc32.js";

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
