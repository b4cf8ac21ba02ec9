import fc from "fast-check";
import { expect, test } from "vitest";
import { seq } from "../base/position.js";
import { RangesInFlight } from "./ranges-in-flight.js";

const NAMES = ["", "a", "aa", "ab", "b", "c", "d", "ÿ"];

test("of all ranges in flight the newest over a key is found, whatever came before and is gone by now", () => {
  const range = fc
    .tuple(fc.nat(NAMES.length - 1), fc.nat(NAMES.length))
    .filter(([start, end]) => start < end)
    .map(([start, end]) => [NAMES[start]!, NAMES[end]] as const);
  fc.assert(
    fc.property(fc.array(fc.option(range, { freq: 4 }), { maxLength: 40 }), (steps) => {
      const ranges = new RangesInFlight();
      let plain: { readonly seq: number; readonly start: string; readonly end: string | undefined }[] = [];
      for (const [i, step] of steps.entries()) {
        if (step) {
          ranges.add(seq(i + 1), step[0], step[1]);
          plain.push({ seq: i + 1, start: step[0], end: step[1] });
        } else if (plain.length > 0) {
          ranges.forget(seq(plain[0]!.seq));
          plain = plain.slice(1);
        }
        expect(ranges.isEmpty).toBe(plain.length === 0);
        for (const name of NAMES) {
          const over = plain.filter(({ start, end }) => start <= name && (end === undefined || name < end));
          const found = ranges.over(name);
          expect(found?.modSeq).toBe(over.at(-1)?.seq);
          // All of the piece is removed by that record.
          if (found) expect(found.start <= name && (found.end === undefined || name < found.end)).toBe(true);
        }
      }
    }),
  );
});

test("thousands of ranges in flight are found and forgotten one by one", () => {
  const ranges = new RangesInFlight();
  const name = (i: number): string => `k${String(i).padStart(6, "0")}`;
  for (let i = 0; i < 20_000; i++) ranges.add(seq(i + 1), name(i), name(i + 1));
  expect(ranges.over(name(12_345))?.modSeq).toBe(12_346);
  for (let i = 0; i < 20_000; i++) {
    ranges.forget(seq(i + 1));
    expect(ranges.over(name(i))).toBeUndefined();
  }
  expect(ranges.isEmpty).toBe(true);
});
