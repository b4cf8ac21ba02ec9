import { expect, test } from "vitest";
import { nearest } from "./suggestion.js";

const keys = ["directory", "durability", "sync_interval", "max_file_size"];

test.each([
  ["directry", "directory"],
  ["direcotry", "directory"],
  ["syncInterval", "sync_interval"],
  ["sync-interval", "sync_interval"],
  ["SYNC_INTERVAL", "sync_interval"],
  ["max_filesize", "max_file_size"],
  ["duribilty", "durability"],
])("%s was meant to be %s", (word, meant) => {
  expect(nearest(word, keys)).toBe(meant);
});

test.each(["", "x", "retention", "file", "🦊🦊🦊"])("%j is near to none", (word) => {
  expect(nearest(word, keys)).toBeUndefined();
});

test("an endless word is judged by its beginning", () => {
  expect(nearest("x".repeat(1_000_000), keys)).toBeUndefined();
});
