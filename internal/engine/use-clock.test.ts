import { expect, test } from "vitest";
import { Chance } from "./chance.js";
import { COUNT_NEW, UseClock } from "./use-clock.js";

test("moments tell how many uses ago they were", () => {
  const clock = new UseClock(new Chance(1));
  const moment = clock.use();
  for (let i = 0; i < 8000; i++) clock.use();
  expect(clock.since(moment)).toBe(1000);
  expect([clock.placeOf(moment), clock.placeOf(clock.use())]).toEqual([0, 1000]);
  // Moments begin anew after 2^32 of them.
  expect(clock.since(2 ** 32 - 5)).toBe(1005);
});

test("a count rises the more rarely the higher it is", () => {
  const clock = new UseClock(new Chance(3));
  const countAfter = (uses: number): number => {
    let count = COUNT_NEW;
    for (let i = 0; i < uses; i++) count = clock.raised(count);
    return count;
  };
  expect(countAfter(1)).toBe(COUNT_NEW + 1);
  const counts = [10, 100, 1000, 100_000].map(countAfter);
  expect(counts).toEqual(counts.toSorted((a, b) => a - b));
  expect(counts[1]).toBeLessThan(15);
  expect(counts[3]).toBeGreaterThan(100);
  expect(countAfter(3_000_000)).toBe(255);
});

test("a count falls with what others are used meanwhile, to nothing at last", () => {
  const clock = new UseClock(new Chance(3));
  const entries = 1000;
  expect(clock.fallen(20, 999, entries)).toBe(20);
  expect(clock.fallen(20, 1000, entries)).toBe(19);
  expect(clock.fallen(20, 5000, entries)).toBe(15);
  expect(clock.fallen(20, 500_000, entries)).toBe(0);
});
