import { beforeEach, expect, test } from "vitest";
import { silentLogger } from "../base/logger.js";
import { CAMPAIGN, Complaints, MASTER } from "./complaints.js";

let said: string[];
let complaints: Complaints;
beforeEach(() => {
  said = [];
  complaints = new Complaints({
    ...silentLogger,
    warn: (message, fields) =>
      void said.push([message, fields?.["address"], fields?.["reason"]].filter(Boolean).join(" | ")),
  });
});

test("what stays the same is said once, and what changes again", () => {
  for (const reason of ["refused", "refused", "silent", "refused"]) complaints.complain("r:1", "no connection", reason);
  expect(said).toEqual([
    "no connection | r:1 | refused",
    "no connection | r:1 | silent",
    "no connection | r:1 | refused",
  ]);
});

test("each matter has a complaint of its own, and only that of an address names one", () => {
  complaints.complain("r:1", "no connection", "refused");
  complaints.complain(MASTER, "no master", "refused");
  complaints.complain(CAMPAIGN, "not master", "refused");
  expect(said).toEqual(["no connection | r:1 | refused", "no master | refused", "not master | refused"]);
});

test("what was well in between is said again", () => {
  complaints.complain(MASTER, "no master", "silent");
  complaints.settle(MASTER);
  complaints.complain(MASTER, "no master", "silent");
  expect(said).toHaveLength(2);
});

test("addresses that are of no interest any more are forgotten, and nothing else is", () => {
  for (const about of ["r:1", "r:2", MASTER, CAMPAIGN] as const) complaints.complain(about, "bad", "so");
  complaints.keepOnly((address) => address === "r:2");
  for (const about of ["r:1", "r:2", MASTER, CAMPAIGN] as const) complaints.complain(about, "bad", "so");
  expect(said.slice(4)).toEqual(["bad | r:1 | so"]);
});

test("a sentence is said once", () => {
  for (const sentence of ["one", "two", "one"]) complaints.sayOnce(sentence);
  expect(said).toEqual(["one", "two"]);
});
