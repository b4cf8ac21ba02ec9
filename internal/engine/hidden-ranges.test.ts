import fc from "fast-check";
import { expect, test } from "vitest";
import { HiddenRanges } from "./hidden-ranges.js";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function hides(ranges: HiddenRanges, key: string, modSeq: number): boolean {
  const padded = bytes(`..${key}.`);
  return ranges.hides(padded, 2, 2 + key.length, modSeq);
}

test("a range hides the versions of earlier records, from its start up to its end without it", () => {
  const ranges = new HiddenRanges();
  ranges.add(bytes("b"), bytes("d"), 5);
  expect(["a", "b", "c", "czz", "d"].map((key) => hides(ranges, key, 4))).toEqual([false, true, true, true, false]);
  expect([hides(ranges, "c", 5), hides(ranges, "c", 6)]).toEqual([false, false]);
  ranges.add(bytes("x"), undefined, 5);
  expect([hides(ranges, "w", 4), hides(ranges, "x", 4), hides(ranges, "zzz", 4)]).toEqual([false, true, true]);
});

test("a later range takes over what it shares with earlier ones, and leaves them the rest", () => {
  const ranges = new HiddenRanges();
  ranges.add(bytes("a"), bytes("m"), 5);
  ranges.add(bytes("c"), bytes("e"), 8);
  expect(ranges.count).toBe(3);
  expect([hides(ranges, "b", 6), hides(ranges, "c", 6), hides(ranges, "e", 6), hides(ranges, "e", 4)]).toEqual([
    false,
    true,
    false,
    true,
  ]);
  ranges.add(bytes(""), undefined, 9);
  expect([ranges.count, hides(ranges, "", 8), hides(ranges, "z", 8)]).toEqual([1, true, true]);
});

test("ranges that come again and again stay one", () => {
  const ranges = new HiddenRanges();
  for (let seq = 1; seq <= 1000; seq++) ranges.add(bytes("a"), bytes("b"), seq);
  expect(ranges.count).toBe(1);
});

test("whatever ranges come, a version is hidden exactly if one of a later record has its key", () => {
  const key = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 3 });
  const range = fc.record({ start: key, end: fc.option(key), seqs: fc.nat(2) });
  fc.assert(
    fc.property(fc.array(range, { maxLength: 12 }), fc.array(key, { maxLength: 20 }), (all, keys) => {
      const ranges = new HiddenRanges();
      const plain: { start: string; end: string | null; seq: number }[] = [];
      let seq = 1;
      for (const { start, end, seqs } of all) {
        seq += seqs;
        if (end !== null && end <= start) continue;
        ranges.add(bytes(start), end === null ? undefined : bytes(end), seq);
        plain.push({ start, end, seq });
      }
      for (const name of keys) {
        for (let modSeq = 0; modSeq <= seq; modSeq++) {
          const expected = plain.some((one) => one.seq > modSeq && one.start <= name && (one.end ?? "d") > name);
          expect(hides(ranges, name, modSeq)).toBe(expected);
        }
      }
    }),
  );
});
