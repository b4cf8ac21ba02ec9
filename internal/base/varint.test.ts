import { BinaryReader } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { varintSize, writeVarint } from "./varint.js";

test("what is written has the size that was foretold, and the library reads it", () => {
  const edges = [
    0,
    1,
    0x7f,
    0x80,
    0x3fff,
    0x4000,
    2 ** 31 - 1,
    2 ** 31,
    2 ** 32,
    2 ** 38,
    2 ** 52,
    Number.MAX_SAFE_INTEGER,
  ];
  const number = fc.oneof(fc.maxSafeNat(), fc.nat(), fc.constantFrom(...edges));
  fc.assert(
    fc.property(number, fc.nat(20), (value, start) => {
      const bytes = new Uint8Array(32).fill(0xff);
      const end = writeVarint(bytes, start, value);
      expect(end - start).toBe(varintSize(value));
      expect(new BinaryReader(bytes.subarray(start, end)).uint64()).toBe(BigInt(value));
      expect(bytes.filter((byte, at) => (at < start || at >= end) && byte !== 0xff)).toEqual(new Uint8Array(0));
    }),
  );
});
