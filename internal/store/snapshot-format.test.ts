import fc from "fast-check";
import { expect, test } from "vitest";
import { type EpochMs, epochMs, seq } from "../base/position.js";
import { ByteWriter, FormatError } from "./byte-codec.js";
import { entryBytes, readEntries, writeEntry } from "./snapshot-format.js";

const number = fc.oneof(fc.nat(300), fc.constantFrom(2 ** 31, 2 ** 32, 2 ** 40 + 5, 2 ** 53 - 2));
const bytes = fc.oneof(
  fc.uint8Array({ maxLength: 20 }),
  fc.constantFrom(127, 128, 300, 20_000).map((n) => Buffer.alloc(n, 7)),
);
const anyEntry = fc.record(
  {
    key: bytes,
    value: bytes,
    createSeq: number.map(seq),
    modSeq: number.map(seq),
    expiresAtMs: number.map(epochMs),
  },
  { requiredKeys: ["key", "value", "createSeq", "modSeq"] },
);

interface Found {
  readonly key: string;
  readonly value: string;
  readonly createSeq: number;
  readonly modSeq: number;
  readonly expiresAtMs: EpochMs | undefined;
}

const hexOf = (bytes: Uint8Array, start = 0, end = bytes.length): string =>
  Buffer.from(bytes.subarray(start, end)).toString("hex");

function entriesOf(content: Uint8Array): Found[] {
  const found: Found[] = [];
  readEntries(content, (entry) => {
    const { keyIn, keyStart, keyEnd, valueIn, valueStart, valueEnd, createSeq, modSeq, deadlineMs } = entry;
    const key = hexOf(keyIn, keyStart, keyEnd);
    const value = hexOf(valueIn, valueStart, valueEnd);
    found.push({
      key,
      value,
      createSeq,
      modSeq,
      expiresAtMs: deadlineMs === Infinity ? undefined : epochMs(deadlineMs),
    });
  });
  return found;
}

test("entries are read as they were written, and where they are cut short that is seen", () => {
  fc.assert(
    fc.property(fc.array(anyEntry, { minLength: 1, maxLength: 5 }), fc.nat(100), (entries, missing) => {
      const writer = new ByteWriter(Buffer.alloc(entries.reduce((sum, entry) => sum + entryBytes(entry), 0)));
      const ends = entries.map((entry) => (writeEntry(writer, entry), writer.at));
      const expected = entries.map(({ key, value, ...rest }) => ({ key: hexOf(key), value: hexOf(value), ...rest }));
      expect(entriesOf(writer.bytes)).toEqual(expected);
      const length = Math.max(0, writer.at - missing);
      const cut = writer.bytes.subarray(0, length);
      if (length === 0 || ends.includes(length))
        expect(entriesOf(cut)).toEqual(expected.slice(0, ends.indexOf(length) + 1));
      else expect(() => entriesOf(cut)).toThrow(FormatError);
    }),
  );
});

test("a number that cannot be held exactly is refused", () => {
  const content = Buffer.alloc(26);
  content.writeUInt32LE(2 ** 21, 12);
  expect(() => entriesOf(content)).toThrow("out of range");
});
