import fc from "fast-check";
import { expect, test } from "vitest";
import { formatDuration, formatSize, parseDuration, parseSize } from "./unit.js";

test.each([
  ["1ms", 1],
  ["250ms", 250],
  ["1s", 1000],
  ["0.5s", 500],
  ["0.1s", 100],
  ["1.5h", 5_400_000],
  ["5m", 300_000],
  ["2h", 7_200_000],
  ["1d", 86_400_000],
  ["0s", 0],
  ["10 s", 10_000],
])("the duration %s is %d ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each([
  "",
  "1",
  "s",
  "1S",
  "1w",
  "1 minute",
  "-1s",
  "+1s",
  "1e3s",
  "0.5ms",
  ".5s",
  "1.s",
  "1s ",
  " 1s",
  "1h30m",
  "9".repeat(30) + "d",
])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

test.each([
  ["0B", 0],
  ["512B", 512],
  ["1KB", 1000],
  ["4KiB", 4096],
  ["100MB", 100_000_000],
  ["64MiB", 67_108_864],
  ["1.5GiB", 1_610_612_736],
  ["2GB", 2_000_000_000],
  ["1TB", 1e12],
  ["1TiB", 1_099_511_627_776],
  ["100 MB", 100_000_000],
])("the size %s is %d bytes", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(["", "1", "MB", "1M", "1mb", "1Mb", "1 megabyte", "-1B", "0.5B", "1  MB", "99999TiB"])(
  "%j is no size",
  (text) => {
    expect(parseSize(text)).toBeUndefined();
  },
);

test("what is formatted is read back as the same number", () => {
  fc.assert(
    fc.property(fc.nat(), fc.constantFrom(1, 1000, 1024, 60_000, 1e6, 2 ** 20, 2 ** 30), (count, unit) => {
      const value = (count % 1000) * unit;
      expect(parseDuration(formatDuration(value))).toBe(value);
      expect(parseSize(formatSize(value))).toBe(value);
    }),
  );
});

test("numbers are formatted in the largest unit that takes them whole", () => {
  expect([0, 250, 1000, 90_000, 60_000, 86_400_000].map(formatDuration)).toEqual([
    "0ms",
    "250ms",
    "1s",
    "90s",
    "1m",
    "1d",
  ]);
  expect([0, 1, 1000, 1024, 100_000_000, 2 ** 20, 5_000_001].map(formatSize)).toEqual([
    "0B",
    "1B",
    "1KB",
    "1KiB",
    "100MB",
    "1MiB",
    "5000001B",
  ]);
});
