/** Logs that go on from a place which another log has reached. */
import { afterEach, expect, test } from "vitest";
import { epoch, epochMs, seq } from "../base/position.js";
import type { LogEnd } from "./log.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { appendText, openLog, textsOf, type TestLog } from "./testing/logs.js";

const open: TestLog[] = [];
afterEach(async () => {
  for (const { log } of open.splice(0)) await log.close();
});

async function opened(options: Parameters<typeof openLog>[0]): Promise<TestLog> {
  const test = await openLog(options);
  open.push(test);
  return test;
}

const start: LogEnd = { seq: seq(41), epoch: epoch(1), timestampMs: epochMs(1_600_000_000_000), chain: 12345 };

test("a log that is given its start goes on from there, also after a restart", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem, start });
  expect(log).toMatchObject({ firstSeq: 42, compactSeq: 41, lastSeq: 41, lastTimestampMs: start.timestampMs });
  expect(log.last).toEqual({ seq: 41, epoch: 1, chain: 12345 });
  expect(await log.endAt(seq(41))).toEqual(start);
  expect(appendText(log, "first")).toBe(42);
  await log.flush();
  expect([log.writtenSeq, log.syncedSeq, log.keptSeq]).toEqual([42, 42, 42]);
  const mark = await log.mark(seq(42));
  await log.close();

  const again = (await opened({ fileSystem })).log;
  expect(again).toMatchObject({ compactSeq: 41, lastSeq: 42 });
  expect(await textsOf(again)).toEqual(["first"]);
  expect(await again.mark(seq(42))).toEqual(mark);
  expect(await again.endAt(seq(41))).toEqual(start);
});

test("a log that is given its start and closed empty is found so", async () => {
  const fileSystem = new MemoryFileSystem();
  await (await opened({ fileSystem, start })).log.close();
  const { log } = await opened({ fileSystem, mustExist: true });
  expect(log.last).toEqual({ seq: 41, epoch: 1, chain: 12345 });
  expect(log.recovery).toMatchObject({ records: 0, cleanShutdown: true });
  await log.cutAfter(seq(41));
  expect(appendText(log, "first")).toBe(42);
});

test("a log that is there already is given no start", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem });
  appendText(log, "a");
  await log.close();
  const before = fileSystem.bytes(fileSystem.paths()[0]!);
  await expect(openLog({ fileSystem, start })).rejects.toThrow("only a log that is not there yet");
  expect(fileSystem.bytes(fileSystem.paths()[0]!)).toEqual(before);
});

test("the end at a seq carries the record's time", async () => {
  const { log } = await opened({});
  appendText(log, "a");
  appendText(log, "b");
  await log.flush();
  const ends = await Promise.all([0, 1, 2].map((at) => log.endAt(seq(at))));
  const marks = await Promise.all([0, 1, 2].map((at) => log.mark(seq(at))));
  expect(ends.map(({ epoch, seq, chain }) => ({ epoch, seq, chain }))).toEqual(marks);
  expect(ends.map(({ timestampMs }) => timestampMs)).toEqual([0, 1_700_000_000_000, 1_700_000_000_000]);
  await expect(log.endAt(seq(3))).rejects.toMatchObject({ code: "out_of_range" });
});
