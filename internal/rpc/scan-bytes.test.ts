/** What is written by hand, held against what the protocol library makes of the same entries. */
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { ScanEntrySchema, ScanResponseSchema } from "../../api/gen/cambium/v1/kvstore_pb.js";
import { epochMs, seq, toWire64 } from "../base/position.js";
import { keyToWire } from "./convert.js";
import { aboutToWire, copyOf } from "./entries.js";
import { entriesToBytes } from "./scan-bytes.js";

/** Also where a number begins to need another byte. */
const number = fc.oneof(
  fc.integer({ min: 0, max: 53 }).map((bits) => Math.max(1, Math.min(2 ** bits, Number.MAX_SAFE_INTEGER))),
  fc.integer({ min: 1, max: 53 }).map((bits) => Math.min(2 ** bits - 1, Number.MAX_SAFE_INTEGER)),
  fc.maxSafeNat().map((n) => Math.max(1, n)),
);
const entry = fc.record(
  {
    key: fc.string({ unit: "binary" }).map((text) => new Uint8Array(Buffer.from(text))),
    value: fc.oneof(
      fc.uint8Array({ maxLength: 20 }),
      fc.constantFrom(127, 128, 16_383, 16_384).map((size) => new Uint8Array(size).fill(size)),
    ),
    createSeq: number.map(seq),
    modSeq: number.map(seq),
    expiresAtMs: number.map(epochMs),
  },
  { requiredKeys: ["key", "value", "createSeq", "modSeq"] },
);

test("entries are the bytes that the library makes of them", () => {
  fc.assert(
    fc.property(fc.array(entry), number.map(epochMs), fc.boolean(), (entries, nowMs, keysOnly) => {
      const messages = entries.map((each) =>
        create(ScanEntrySchema, {
          key: keyToWire(each.key),
          ...(!keysOnly && { value: copyOf(each.value) }),
          ...aboutToWire(each, nowMs),
          valueBytes: toWire64(each.value.length),
        }),
      );
      const expected = toBinary(ScanResponseSchema, create(ScanResponseSchema, { entries: messages }));
      expect(Buffer.from(entriesToBytes(entries, nowMs, keysOnly)).equals(expected)).toBe(true);
    }),
    { numRuns: 500 },
  );
});
