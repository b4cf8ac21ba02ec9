import { expect, test } from "vitest";
import { judge, parseSkips } from "../closing-reporter.js";

test("a run in which everything listed passed has nothing wrong", () => {
  expect(judge({ passed: 3, failed: 0, skipped: [] }, [])).toEqual([]);
  expect(judge({ passed: 3, failed: 0, skipped: ["a.test.ts > one"] }, ["a.test.ts > one"])).toEqual([]);
});

test("a skipped test that is not listed is a complaint that names it", () => {
  expect(judge({ passed: 3, failed: 0, skipped: ["a.test.ts > one"] }, ["a.test.ts > two"])).toEqual([
    "skipped without a line in test/skips.txt: a.test.ts > one",
  ]);
});

test("a run of no test is a complaint", () => {
  expect(judge({ passed: 0, failed: 0, skipped: [] }, [])).toEqual(["no test ran"]);
});

test("comments and empty lines of the skip list are left out", () => {
  expect(parseSkips("# why\n\n  a.test.ts > one  \n# why not\n")).toEqual(["a.test.ts > one"]);
});
