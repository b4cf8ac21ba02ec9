import { expect, test } from "vitest";
import { markdownOf, textOf } from "./blocks.js";
import { type Goal, goalBlocks, outcomeOf } from "./section.js";
import { sections } from "./sections.js";

const ratio: Goal<number> = { figure: "a / b", unit: "×", atLeast: 1, aim: 1.1, measured: (result) => result };
const pause: Goal<number> = { figure: "a pause", unit: "ms", atMost: 10, measured: (result) => result };

test("a goal is met at its bound, missed beyond it, and neither when nothing was measured", () => {
  expect([0.99, 1, NaN].map((measured) => outcomeOf(ratio, measured).isMet)).toEqual([false, true, null]);
  expect([10, 10.1, -Infinity].map((measured) => outcomeOf(pause, measured).isMet)).toEqual([true, false, null]);
  expect(JSON.stringify(outcomeOf(ratio, NaN))).toContain('"measured":null');
});

test("the goals of a run are one table, in which a missed one stands out", () => {
  const text = textOf(goalBlocks([outcomeOf(ratio, 0.5), outcomeOf(pause, 4), outcomeOf(pause, NaN)]));
  expect(text).toMatch(/a \/ b +│ +0\.50 × │ +≥ 1\.00 × │ +1\.10 │ +NO │/);
  expect(text).toMatch(/a pause +│ +4\.00 ms │ +≤ 10\.0 ms │ +│ +yes │/);
  expect(text).toMatch(/a pause +│ +– │ +≤ 10\.0 ms │ +│ +not measured │/);
});

test("the same blocks are Markdown, with numbers to the right", () => {
  const table = { head: ["what", "where", "how many"], wordColumns: 2, rows: [["a|b", "c", "1,000"]] };
  expect(markdownOf(["Some words.", table])).toBe(
    "Some words.\n\n| what | where | how many |\n| --- | --- | ---: |\n| a\\|b | c | 1,000 |\n",
  );
});

test("every section has a name of its own and says what it measures", () => {
  const names = sections.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
  for (const { description } of sections) expect(description).toMatch(/^\S.*[^.]$/);
});
