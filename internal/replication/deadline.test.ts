import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { deadlineOf } from "./deadline.js";

test("a deadline ends when its time is over, by the clock that it was given", () => {
  const clock = new FakeClock();
  const { signal } = deadlineOf(clock, { ms: 100, error: () => new Error(`late at ${clock.monotonicMs()}`) });
  clock.advance(99);
  expect(signal.aborted).toBe(false);
  clock.advance(1);
  expect(signal.reason).toEqual(new Error("late at 100"));
});

test("a deadline ends with the signal that it was given, before its time or from the start, with that one's reason", () => {
  const clock = new FakeClock();
  const patience = new AbortController();
  const options = { ms: 100, signal: patience.signal, error: () => new Error("late") };
  const deadline = deadlineOf(clock, options);
  patience.abort(new Error("enough"));
  expect(deadline.signal.reason).toEqual(new Error("enough"));
  clock.advance(100);
  expect(deadline.signal.reason).toEqual(new Error("enough"));
  expect(deadlineOf(clock, options).signal.reason).toEqual(new Error("enough"));
});

test("a deadline that is cancelled never ends, and leaves no timer", () => {
  const clock = new FakeClock();
  const patience = new AbortController();
  const deadline = deadlineOf(clock, { ms: 100, signal: patience.signal, error: () => new Error("late") });
  deadline.cancel();
  expect(clock.pendingTimers).toBe(0);
  patience.abort(new Error("enough"));
  expect(deadline.signal.aborted).toBe(false);
});
