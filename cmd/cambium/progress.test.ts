import { expect, test } from "vitest";
import { FakeClock } from "../../internal/base/clock.js";
import { Progress, renderProgress } from "./progress.js";
import { MemoryStream } from "./testing/test-terminal.js";

const state = { label: "importing", files: 50, bytes: 1_048_576, elapsedMs: 10_000 };

test("the bar shows share, counts, rate and the time that is left", () => {
  expect(renderProgress({ ...state, total: { files: 100, bytes: 2_097_152 } }, 120)).toBe(
    "importing [###############---------------]  50%  50/100 files, 1 MiB/2 MiB, 102 KiB/s, 10 s left",
  );
});

test("without a known end there is no bar", () => {
  expect(renderProgress(state, 120)).toBe("importing 50 files, 1 MiB, 102 KiB/s");
});

test("a narrow terminal gets the numbers, cut to its width", () => {
  const line = renderProgress({ ...state, total: { files: 100, bytes: 2_097_152 } }, 40);
  expect(line).toBe("importing  50%  50/100 files, 1 MiB/2 Mi");
});

test("work that is done, or empty, or more than was foreseen, is at 100 % and has no time left", () => {
  const done = { ...state, files: 120, total: { files: 100, bytes: 1_048_576 } };
  expect(renderProgress(done, 120)).toContain("100%  120/100 files, 1 MiB/1 MiB, 102 KiB/s");
  expect(renderProgress({ ...state, total: { bytes: 2_097_152 } }, 120)).toBe(
    "importing [###############---------------]  50%  1 MiB/2 MiB, 102 KiB/s, 10 s left",
  );
  const empty = { label: "exporting", files: 0, bytes: 0, elapsedMs: 0, total: { files: 0, bytes: 0 } };
  expect(renderProgress(empty, 120)).toMatch(/100% {2}0\/0 files, 0 B\/0 B, 0 B\/s$/);
});

test("on a terminal one line redraws itself, makes way for notes, and is gone at the end", () => {
  const clock = new FakeClock();
  const stream = new MemoryStream({ isTTY: true });
  const progress = new Progress({ stream, clock, label: "importing" });
  progress.add(1, 10);
  clock.advance(100);
  progress.note("skipped x: a socket");
  progress.close();
  clock.advance(1000);
  const line = "importing 1 file, 10 B, 100 B/s";
  expect(stream.bytes.toString()).toBe(`\r\u001b[K${line}\r\u001b[Kskipped x: a socket\n\r\u001b[K${line}\r\u001b[K`);
  expect(clock.pendingTimers).toBe(0);
});

test("elsewhere a plain line comes every five seconds", () => {
  const clock = new FakeClock();
  const stream = new MemoryStream();
  const progress = new Progress({ stream, clock, label: "listing keys" });
  clock.advance(4_999);
  expect(stream.bytes.toString()).toBe("");
  progress.begin("exporting", { files: 2, bytes: 20 });
  progress.add(1, 10);
  clock.advance(1);
  progress.note("a note");
  progress.close();
  expect(stream.bytes.toString()).toMatch(/^exporting \[#{15}-{15}\] {2}50% .* 5 s left\na note\n$/);
});
