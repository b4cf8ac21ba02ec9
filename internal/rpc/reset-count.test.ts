import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { ResetCount } from "./reset-count.js";

test("many calls may be broken off at once, and some all the time, but not many all the time", () => {
  const clock = new FakeClock();
  const count = new ResetCount(clock);
  expect(Array.from({ length: 300 }, () => count.add())).not.toContain(true);
  expect(count.add()).toBe(true);
  clock.advance(60_000);
  expect(Array.from({ length: 300 }, () => count.add())).not.toContain(true);
  for (let n = 0; n < 1000; n++) {
    clock.advance(25);
    expect(count.add()).toBe(false);
  }
});
