import { describe, expect, test } from "vitest";
import { seq } from "../../base/position.js";
import { type CommitMode, committedSeq } from "./commit.js";

function committed(mode: CommitMode, own: number, others: number[], firstSeq = 1): number | undefined {
  return committedSeq({ mode, ownKeptSeq: seq(own), othersMatchSeq: others.map(seq), firstSeq: seq(firstSeq) });
}

describe("what is committed", () => {
  test.each([
    ["master", 7, [], 7],
    ["master", 7, [9, 9], 7],
    ["majority", 7, [], 7],
    ["majority", 7, [3], 3],
    ["majority", 7, [5, 3], 5],
    ["majority", 7, [0, 0], undefined],
    ["majority", 7, [9, 9], 7],
    ["majority", 7, [6, 5, 4], 5],
    ["majority", 7, [6, 5, 4, 3], 5],
  ] as const)("under %s, with %d kept here and %j by the others, is %d", (mode, own, others, expected) => {
    expect(committed(mode, own, [...others])).toBe(expected);
  });

  test("is nothing before a record of the own epoch is", () => {
    expect(committed("majority", 9, [7, 7], 8)).toBeUndefined();
    expect(committed("majority", 9, [8, 7], 8)).toBe(8);
  });
});
