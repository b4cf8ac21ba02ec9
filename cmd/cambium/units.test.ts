import { InvalidArgumentError } from "commander";
import { expect, test } from "vitest";
import { counted, formatBytes, formatDuration, parseDurationMs, parseSizeBytes, wholeNumber } from "./units.js";

test.each([
  ["500ms", 500],
  ["30s", 30_000],
  ["1.5m", 90_000],
  ["2h", 7_200_000],
  ["7d", 604_800_000],
])("%s is %i ms", (text, ms) => {
  expect(parseDurationMs(text)).toBe(ms);
});

test.each(["", "5", "s", "-1s", "0s", "0.1ms", "1 week", "1e3s"])("%j is no duration", (text) => {
  expect(() => parseDurationMs(text)).toThrow(InvalidArgumentError);
});

test.each([
  ["0", 0],
  ["512B", 512],
  ["1KB", 1000],
  ["1KiB", 1024],
  ["1.5 MiB", 1_572_864],
  ["2GB", 2_000_000_000],
])("%s are %i bytes", (text, bytes) => {
  expect(parseSizeBytes(text)).toBe(bytes);
});

test.each(["", "x", "-1", "1TB", "1kb"])("%j is no size", (text) => {
  expect(() => parseSizeBytes(text)).toThrow(InvalidArgumentError);
});

test("whole numbers keep to their bounds", () => {
  const parse = wholeNumber(1, 64);
  expect(parse("1")).toBe(1);
  expect(parse("64")).toBe(64);
  for (const text of ["0", "65", "1.5", "x", "", "-1", "1e1"]) expect(() => parse(text)).toThrow(InvalidArgumentError);
});

test.each([
  [0, "0 B"],
  [999, "999 B"],
  [1023, "1 KiB"],
  [1536, "1.5 KiB"],
  [102_400, "100 KiB"],
  [1_048_575, "1 MiB"],
  [5e9, "4.7 GiB"],
])("%i bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, "0 ms"],
  [999, "999 ms"],
  [4_230, "4.2 s"],
  [59_940, "59.9 s"],
  [59_960, "1m 00s"],
  [125_000, "2m 05s"],
  [3_600_000, "1h 00m"],
  [90_000_000, "1d 01h"],
])("%i ms are %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});

test("a single thing has no s", () => {
  expect([counted(0, "file"), counted(1, "file"), counted(12_345, "file")]).toEqual([
    "0 files",
    "1 file",
    "12,345 files",
  ]);
});
