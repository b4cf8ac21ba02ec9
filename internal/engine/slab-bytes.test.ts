import { expect, test } from "vitest";
import { commonBytes, compareBytes, copyBytes, equalBytes, windowOf } from "./slab-bytes.js";

const a = Uint8Array.of(9, 1, 2, 255, 9);
const b = Uint8Array.of(1, 2, 3);

test("runs are equal when all their bytes are", () => {
  expect(equalBytes(a, 1, b, 0, 2)).toBe(true);
  expect(equalBytes(a, 1, b, 0, 3)).toBe(false);
  expect(equalBytes(a, 0, b, 0, 0)).toBe(true);
});

test("runs are compared by unsigned bytes, and a run comes before one that goes on", () => {
  expect(compareBytes(a, 1, 4, b, 0, 3)).toBeGreaterThan(0);
  expect(compareBytes(b, 0, 3, a, 1, 4)).toBeLessThan(0);
  expect(compareBytes(a, 1, 3, b, 0, 3)).toBeLessThan(0);
  expect(compareBytes(b, 0, 3, a, 1, 3)).toBeGreaterThan(0);
  expect(compareBytes(a, 1, 3, b, 0, 2)).toBe(0);
});

test("what two runs have in common ends at the first difference, and at the end of the shorter", () => {
  expect(commonBytes(a, 1, 4, b, 0, 3)).toBe(2);
  expect(commonBytes(a, 1, 2, b, 0, 3)).toBe(1);
  expect(commonBytes(a, 0, 4, b, 0, 3)).toBe(0);
});

test.each([0, 1, 24, 25, 300])("%i bytes are copied, and no more", (length) => {
  const from = Uint8Array.from({ length: 310 }, (_, i) => i);
  const to = new Uint8Array(310);
  copyBytes(from, 5, length, to, 3);
  expect([...to]).toEqual([0, 0, 0, ...from.subarray(5, 5 + length), ...new Uint8Array(307 - length)]);
  const whole = new Uint8Array(length + 1);
  copyBytes(from.slice(0, length), 0, length, whole, 1);
  expect([...whole]).toEqual([0, ...from.subarray(0, length)]);
});

test("windows are in the order of the bytes, unsigned, a shorter run first or equal", () => {
  const runs = [
    [],
    [0],
    [0, 0, 0, 1],
    [1],
    [1, 0, 0, 0, 5],
    [1, 0, 1],
    [127, 255, 255, 255],
    [128],
    [255, 0],
    [255, 255, 255, 255],
  ];
  const windows = runs.map((run) => windowOf(Uint8Array.from([7, ...run]), 1, run.length + 1));
  expect(windows).toEqual(windows.toSorted((a, b) => a - b));
  expect(new Set(windows).size).toBe(8);
});
