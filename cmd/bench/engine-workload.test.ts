import { expect, test } from "vitest";
import { KEY_BYTES, makeKeys, makeOrder, makeZipfOrder } from "./engine-workload.js";

test("keys are all different", () => {
  const keys = makeKeys(10_000);
  const names = Array.from({ length: 10_000 }, (_, n) => keys.toString("latin1", n * KEY_BYTES, (n + 1) * KEY_BYTES));
  expect(new Set(names).size).toBe(10_000);
});

test("an order by Zipf's law has the first number most often, the second half as often, and all of them now and then", () => {
  const length = 200_000;
  const counts = new Uint32Array(1000);
  for (const n of makeZipfOrder(1000, 1, length)) counts[n]!++;
  // 1 + 1/2 + … + 1/1000
  const share = 7.485;
  for (const n of [0, 1, 3, 9]) expect(Math.abs((counts[n]! * share * (n + 1)) / length - 1)).toBeLessThan(0.1);
  expect(counts.every((count) => count > 0)).toBe(true);
});

test("an order by chance has every number about equally often", () => {
  const counts = new Uint32Array(100);
  for (const n of makeOrder(100, 100_000)) counts[n]!++;
  expect(counts.every((count) => count > 800 && count < 1200)).toBe(true);
});
