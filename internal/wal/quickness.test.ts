import { expect, test } from "vitest";
import { FakeClock } from "../base/clock.js";
import { Quickness } from "./quickness.js";

function newQuickness(): { readonly clock: FakeClock; readonly quickness: Quickness } {
  const clock = new FakeClock();
  return { clock, quickness: new Quickness(clock) };
}

test("a disk is quick until it shows that it is not", () => {
  const { quickness } = newQuickness();
  expect(quickness.isQuick).toBe(true);
  for (let i = 0; i < 1000; i++) quickness.stoodStill(0.9);
  expect(quickness.isQuick).toBe(true);
});

test("one call that is late by some milliseconds is forgiven, a long one and many are not", () => {
  const { quickness } = newQuickness();
  for (let i = 0; i < 100; i++) quickness.stoodStill(i % 20 === 0 ? 5 : 0.1);
  expect(quickness.isQuick).toBe(true);
  quickness.stoodStill(20);
  expect(quickness.isQuick).toBe(false);
  const { quickness: other } = newQuickness();
  for (let i = 0; i < 8; i++) other.stoodStill(3);
  expect(other.isQuick).toBe(false);
});

test("a slow disk is tried again after a second, then after two, and a minute at most", () => {
  const { clock, quickness } = newQuickness();
  const pauses: number[] = [];
  for (let i = 0; i < 8; i++) {
    quickness.stoodStill(20);
    let pauseMs = 0;
    for (; !quickness.isQuick; pauseMs += 500) clock.advance(500);
    pauses.push(pauseMs);
  }
  expect(pauses).toEqual([1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  quickness.stoodStill(0.1);
  quickness.stoodStill(20);
  clock.advance(1000);
  expect(quickness.isQuick).toBe(true);
});
