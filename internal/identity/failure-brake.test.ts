import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { FailureBrake } from "./failure-brake.js";

function failing(clock = new FakeClock()) {
  const brake = new FailureBrake(clock);
  let answered = 0;
  return {
    clock,
    brake,
    fail: (address: string, times = 1) =>
      Array.from({ length: times }, () => brake.fail(address, () => answered++)).filter((taken) => taken).length,
    answered: () => answered,
  };
}

test("the first wrong attempts of an address are answered at once, the next ones by and by, and many are cut off", () => {
  const { clock, fail, answered } = failing();
  expect(fail("192.0.2.1", 10)).toBe(10);
  expect(answered()).toBe(10);
  expect(fail("192.0.2.1", 100)).toBe(20);
  expect(answered()).toBe(10);
  clock.advance(250);
  expect(answered()).toBe(11);
  clock.advance(10_000);
  expect(answered()).toBe(30);
  // After a while it is as if nothing had been.
  expect(fail("192.0.2.1", 10)).toBe(10);
  expect(answered()).toBe(40);
});

test("another address is not held up, and all of one network of IPv6 are one", () => {
  const { fail, answered } = failing();
  fail("192.0.2.1", 20);
  expect(fail("192.0.2.2")).toBe(1);
  expect(answered()).toBe(11);
  fail("2001:db8::1", 5);
  fail("2001:db8:0:0:ffff::2", 5);
  expect(answered()).toBe(21);
  fail("2001:0db8::3");
  fail("2001:db8:1::1");
  expect(answered()).toBeGreaterThanOrEqual(22);
});

test("remembers so many addresses, and keeps so many waiting, and no more", () => {
  const { brake, fail, clock, answered } = failing();
  for (let n = 0; n < 20_000; n++) fail(`10.0.${n >> 8}.${n & 255}`);
  expect(brake.size).toBe(10_000);
  const before = answered();
  let waiting = 0;
  for (let n = 0; n < 300; n++) {
    fail(`10.1.${n >> 8}.${n & 255}`, 10);
    waiting += fail(`10.1.${n >> 8}.${n & 255}`, 10);
  }
  expect(waiting).toBe(1000);
  expect(answered()).toBe(before + 3000);
  clock.advance(10_000);
  expect(answered()).toBe(before + 4000);
});
