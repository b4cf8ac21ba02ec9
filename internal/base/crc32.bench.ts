import { bench, describe } from "vitest";
import { crc32, crc32Range } from "./crc32.js";

describe.each([40, 108, 256, 1024, 256 * 1024])("the CRC of %i bytes", (length) => {
  const bytes = Buffer.alloc(length + 3, "some bytes");

  bench("crc32, of a view", () => void crc32(bytes.subarray(3, length + 3)));
  bench("crc32Range, without one", () => void crc32Range(bytes, 3, length + 3));
});
