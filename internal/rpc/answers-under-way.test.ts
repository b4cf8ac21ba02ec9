import { expect, test } from "vitest";
import { AnswersUnderWay } from "./answers-under-way.js";
import type { Outlet } from "./http-answer.js";

/** An answer is nothing here but one that is not another. */
const some = (count: number): Outlet[] => Array.from({ length: count }, () => ({}) as Outlet);

test("gives the answers that were put in and not taken out, in their order", () => {
  const [a, b, c, d] = some(4) as [Outlet, Outlet, Outlet, Outlet];
  const answers = new AnswersUnderWay();
  expect(answers.isEmpty).toBe(true);
  const [takeA, takeB, takeC] = [a, b, c].map((outlet) => answers.add(outlet));
  expect([...answers]).toEqual([a, b, c]);
  takeB!();
  expect([...answers]).toEqual([a, c]);
  answers.add(d);
  takeA!();
  takeC!();
  expect([...answers]).toEqual([d]);
  expect(answers.isEmpty).toBe(false);
});

test("takes one out once, however often it is told to", () => {
  const [a, b] = some(2) as [Outlet, Outlet];
  const answers = new AnswersUnderWay();
  const takeA = answers.add(a);
  const takeB = answers.add(b);
  takeA();
  takeA();
  expect([...answers]).toEqual([b]);
  takeB();
  takeA();
  takeB();
  expect(answers.isEmpty).toBe(true);
});

test("goes through all that were there when it began, although they are taken out on the way", () => {
  const outlets = some(5);
  const answers = new AnswersUnderWay();
  const taking = new Map(outlets.map((outlet) => [outlet, answers.add(outlet)]));
  const seen: Outlet[] = [];
  for (const outlet of answers) {
    seen.push(outlet);
    for (const takeOut of taking.values()) takeOut();
  }
  expect(seen).toEqual(outlets);
  expect(answers.isEmpty).toBe(true);
});
