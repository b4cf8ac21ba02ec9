import { describe, expect, test } from "vitest";
import { epoch, epochMs, seq } from "../base/position.js";
import { MemoryFileSystem } from "../wal/memory-file-system.js";
import { decodeRecords } from "../wal/record.js";
import { decodeRecord } from "./record-codec.js";
import { EPOCH_ID, openRecordLog, produce, START_MS, textOf, textsOf } from "./testing/record-logs.js";

const texts = (count: number, from = 0): string[] =>
  Array.from({ length: count }, (_, index) => `record ${from + index} ${"x".repeat((index * 37) % 90)}`);

describe("reading", () => {
  test("a record is read as it was produced, with where it comes from", async () => {
    const { log } = await openRecordLog();
    const record = Buffer.from([0, 255, 1]);
    log.append({
      offset: 0,
      seq: seq(2 ** 40 + 7),
      epoch: epoch(3),
      epochId: EPOCH_ID,
      timestampMs: epochMs(START_MS),
      record,
    });
    record.fill(9);
    const expected = {
      offset: 0,
      record: Buffer.from([0, 255, 1]),
      position: { epoch: 3, seq: 2 ** 40 + 7 },
      epochId: EPOCH_ID,
      timestampMs: START_MS,
    };
    expect(await log.read(0, 1000, 10)).toEqual([expected]);
    await log.flush();
    expect(await log.read(0, 1000, 10)).toEqual([expected]);
    await log.close();
  });

  test("a record is read before it is written", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openRecordLog({ fileSystem });
    produce(log, "a", "b");
    expect(log.unwrittenBytes).toBeGreaterThan(0);
    expect(await textsOf(log)).toEqual(["a", "b"]);
    expect(await textsOf(log, 1)).toEqual(["b"]);
    await log.written();
    expect(log.unwrittenBytes).toBe(0);
    expect(await textsOf(log)).toEqual(["a", "b"]);
    await log.close();
  });

  test("a page ends at its records and its bytes, and has one record at least", async () => {
    const { log } = await openRecordLog();
    produce(log, "aaaa", "bbbb", "cccc", "");
    for (const write of [async () => undefined, () => log.flush()]) {
      await write();
      const page = async (...args: [number, number, number]): Promise<string[]> =>
        (await log.read(...args)).map(textOf);
      expect(await page(0, 1000, 2)).toEqual(["aaaa", "bbbb"]);
      expect(await page(1, 1000, 1)).toEqual(["bbbb"]);
      expect(await page(0, 1, 10)).toEqual(["aaaa"]);
      expect(await page(2, 1000, 10)).toEqual(["cccc", ""]);
      expect(await page(4, 1000, 10)).toEqual([]);
    }
    await log.close();
  });

  test("below the start and beyond the end is out of range, and says what is there", async () => {
    const { log } = await openRecordLog();
    await expect(log.read(1, 1, 1)).rejects.toMatchObject({ code: "out_of_range", range: { start: 0, end: 0 } });
    produce(log, ...texts(5));
    await log.truncateBelow(2);
    const range = { start: 2, end: 5 };
    await expect(log.read(1, 1, 1)).rejects.toMatchObject({ name: "RecordLogError", code: "out_of_range", range });
    await expect(log.read(6, 1, 1)).rejects.toMatchObject({ code: "out_of_range", range });
    expect(await log.read(5, 1, 1)).toEqual([]);
    await log.close();
  });
});

describe("over a restart", () => {
  test("what was flushed is there, and the chain goes on", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openRecordLog({ fileSystem });
    produce(log, ...texts(20));
    await log.flush();
    const { chain } = log;
    produce(log, "lost");
    const { log: again } = await openRecordLog({ fileSystem: fileSystem.crash(), mustExist: true });
    expect(again).toMatchObject({ start: 0, end: 20, chain });
    expect(await textsOf(again)).toEqual(texts(20));
    produce(again, "lost");
    expect(again.chain).toBe(log.chain);
    await again.close();
    await log.close();
  });

  test("one that must exist, and does not, is refused", async () => {
    await expect(openRecordLog({ mustExist: true })).rejects.toMatchObject({ name: "WalError", code: "corrupt" });
  });
});

describe("going on from a place", () => {
  test("a second record log that begins there has the same records at the same offsets, and the same chain", async () => {
    const { log } = await openRecordLog();
    produce(log, ...texts(60));
    await log.truncateBelow(20);
    const start = await log.placeAt(20);
    expect(start).toMatchObject({ offset: 20, epoch: 1, timestampMs: START_MS + 19 });

    const fileSystem = new MemoryFileSystem();
    const { log: second } = await openRecordLog({ fileSystem, start });
    expect(second).toMatchObject({ start: 20, end: 20, place: start });
    for (const { position, ...record } of await log.read(20, 100_000, 100)) second.append({ ...record, ...position });
    expect(second).toMatchObject({ start: 20, end: 60, place: log.place });
    await second.flush();
    await second.close();
    const { log: again } = await openRecordLog({ fileSystem, mustExist: true });
    expect(again).toMatchObject({ start: 20, end: 60, place: log.place });
    expect(await textsOf(again)).toEqual(texts(60).slice(20));
    await again.close();
    await log.close();
  });

  test("there is no place outside of the log", async () => {
    const { log } = await openRecordLog();
    produce(log, ...texts(5));
    await log.truncateBelow(2);
    for (const offset of [1, 6]) {
      await expect(log.placeAt(offset)).rejects.toMatchObject({ code: "out_of_range", range: { start: 2, end: 5 } });
    }
    expect(await log.placeAt(5)).toEqual(log.place);
    await log.close();
  });

  test("the encoded records from there on are those of the log", async () => {
    const { log } = await openRecordLog();
    produce(log, ...texts(60));
    await log.flush();
    const encoded = await log.readEncoded(20, 100_000);
    const found = [...decodeRecords(encoded, true)].map((record) => textOf(decodeRecord(record)));
    expect(found).toEqual(texts(60).slice(20));
    await log.close();
  });
});

describe("truncating", () => {
  test("moves the start at once, and removes the segments below it", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openRecordLog({ fileSystem, segmentBytesMax: 1024 });
    produce(log, ...texts(100));
    await log.flush();
    const before = log.sizeBytes;
    const truncated = log.truncateBelow(60);
    expect(log.start).toBe(60);
    await truncated;
    expect(log.sizeBytes).toBeLessThan(before / 2);
    expect(await textsOf(log)).toEqual(texts(100).slice(60));
    await log.close();

    const { log: again } = await openRecordLog({ fileSystem, segmentBytesMax: 1024 });
    expect(again.start).toBeLessThanOrEqual(60);
    expect(again.start).toBeGreaterThan(40);
    await again.truncateBelow(60);
    expect(await textsOf(again)).toEqual(texts(100).slice(60));
    await again.close();
  });

  test("a start never moves back", async () => {
    const { log } = await openRecordLog();
    produce(log, ...texts(5));
    await log.truncateBelow(4);
    await log.truncateBelow(2);
    expect(log.start).toBe(4);
    await log.close();
  });

  test("all of it leaves an empty log whose next offset is the same as before", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openRecordLog({ fileSystem });
    produce(log, ...texts(100));
    await log.truncateBelow(100);
    expect(log).toMatchObject({ start: 100, end: 100 });
    expect(log.sizeBytes).toBeLessThan(1000);
    expect(log.oldestTimestampMs()).toBeUndefined();
    produce(log, "next");
    expect(await textsOf(log)).toEqual(["next"]);
    await log.close();
    const { log: again } = await openRecordLog({ fileSystem });
    expect(again).toMatchObject({ start: 100, end: 101, chain: log.chain });
    await again.close();
  });

  test("a read that is under way does not show what was truncated meanwhile", async () => {
    const { log } = await openRecordLog({ segmentBytesMax: 1024 });
    produce(log, ...texts(100));
    await log.flush();
    await log.close();
    const fileSystem = new MemoryFileSystem();
    const { log: first } = await openRecordLog({ fileSystem, segmentBytesMax: 1024 });
    produce(first, ...texts(100));
    await first.close();
    // Opened anew, nothing is in memory, and a read goes to the disk.
    const { log: again } = await openRecordLog({ fileSystem, segmentBytesMax: 1024 });
    const held = fileSystem.holdNext("read");
    const reading = again.read(1, 100, 10);
    await held.reached;
    const truncated = again.truncateBelow(90);
    held.release();
    await expect(reading).rejects.toMatchObject({ code: "out_of_range", range: { start: 90, end: 100 } });
    await truncated;
    await again.close();
  });
});

describe("cutting", () => {
  test("drops the records from the end on, and the chain is as if they had never been", async () => {
    const { log } = await openRecordLog({ segmentBytesMax: 1024 });
    produce(log, ...texts(30));
    const { chain } = log;
    produce(log, ...texts(50, 30));
    await log.cutAfter(30);
    expect(log).toMatchObject({ start: 0, end: 30, chain });
    expect(await textsOf(log)).toEqual(texts(30));
    produce(log, ...texts(50, 30));
    expect(await textsOf(log)).toEqual([...texts(30), ...texts(50, 30)]);
    await log.close();
  });

  test("a log can be cut to nothing, and to where it ends", async () => {
    const { log } = await openRecordLog();
    const { chain } = log;
    produce(log, "a");
    await log.cutAfter(1);
    expect(log.end).toBe(1);
    await log.cutAfter(0);
    expect(log).toMatchObject({ start: 0, end: 0, chain, place: { offset: 0, epoch: 0, timestampMs: 0 } });
    produce(log, "b");
    expect(await textsOf(log)).toEqual(["b"]);
    await log.close();
  });

  test("a cut among what is not written forgets what was written behind it", async () => {
    const { log } = await openRecordLog();
    for (let count = 1; count < 20; count++) {
      produce(log, ...texts(count));
      await log.written();
      produce(log, ...texts(3));
      const end = log.end - 4;
      await log.cutAfter(end);
      produce(log, "next");
      expect((await textsOf(log)).slice(end)).toEqual(["next"]);
    }
    await log.close();
  });

  test("the start is said anew after a cut below it", async () => {
    const { log } = await openRecordLog();
    produce(log, ...texts(30));
    await log.truncateBelow(20);
    await log.cutAfter(10);
    expect(log).toMatchObject({ start: 0, end: 10 });
    await log.close();
  });

  test("a cut to where the segments are gone is out of range, and changes nothing", async () => {
    const { log } = await openRecordLog({ segmentBytesMax: 1024 });
    produce(log, ...texts(100));
    await log.written();
    await log.truncateBelow(90);
    await expect(log.cutAfter(10)).rejects.toMatchObject({ code: "out_of_range", range: { start: 90, end: 100 } });
    expect(await textsOf(log)).toEqual(texts(100).slice(90));
    produce(log, "next");
    await log.close();
  });

  test("a read that is under way shows nothing of what was cut", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log: first } = await openRecordLog({ fileSystem });
    produce(first, ...texts(10));
    await first.close();
    const { log } = await openRecordLog({ fileSystem });
    const held = fileSystem.holdNext("read");
    const reading = log.read(5, 1000, 10);
    await held.reached;
    const cut = log.cutAfter(5);
    held.release();
    expect(await reading).toEqual([]);
    await cut;
    await log.close();
  });
});

describe("a full disk", () => {
  test("loses nothing that was appended, and it is written when there is room", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock, failures } = await openRecordLog({ fileSystem });
    produce(log, ...texts(3));
    await log.flush();
    fileSystem.capacityBytes = 0;
    produce(log, ...texts(3, 3));
    await expect(log.flush()).rejects.toMatchObject({ code: "disk_full" });
    expect(log.blocked).toMatchObject({ code: "disk_full" });
    // What comes while it is full has its chain value too, and can be read.
    produce(log, ...texts(3, 6));
    const { chain } = log;
    expect((await textsOf(log)).length).toBe(9);
    await expect(log.flush()).rejects.toMatchObject({ code: "disk_full" });

    const written = log.written();
    clock.advance(1000);
    await expect.poll(() => log.blocked).toBeDefined();
    fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
    clock.advance(1000);
    await written;
    expect(log.blocked).toBeUndefined();
    expect(log.chain).toBe(chain);
    await log.close();
    expect(failures).toEqual([]);

    const { log: again } = await openRecordLog({ fileSystem });
    expect(again).toMatchObject({ end: 9, chain });
    expect(await textsOf(again)).toEqual([...texts(3), ...texts(3, 3), ...texts(3, 6)]);
    await again.close();
  });

  test("a cut while it lasts drops what is only in memory as well", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock } = await openRecordLog({ fileSystem });
    produce(log, ...texts(3));
    await log.flush();
    fileSystem.capacityBytes = 0;
    produce(log, ...texts(2, 3));
    const { chain } = log;
    produce(log, ...texts(2, 5));
    await expect(log.flush()).rejects.toMatchObject({ code: "disk_full" });
    await log.cutAfter(5);
    expect(log).toMatchObject({ end: 5, chain });
    fileSystem.capacityBytes = Number.MAX_SAFE_INTEGER;
    clock.advance(1000);
    await log.flush();
    expect(await textsOf(log)).toEqual([...texts(3), ...texts(2, 3)]);
    await log.close();
  });
});

describe("what ends it", () => {
  test("a failed write is final, and is told", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, failures } = await openRecordLog({ fileSystem });
    fileSystem.failNext("write", "EIO");
    produce(log, "a");
    await expect(log.written()).rejects.toMatchObject({ name: "WalError", code: "failed" });
    expect(failures).toMatchObject([{ code: "failed" }]);
    expect(() => produce(log, "b")).toThrow(expect.objectContaining({ code: "failed" }) as Error);
    expect(log.end).toBe(1);
    await log.close();
  });

  test("a closed log refuses, and closing twice is closing once", async () => {
    const { log } = await openRecordLog();
    produce(log, "a");
    await Promise.all([log.close(), log.close()]);
    expect(() => produce(log, "b")).toThrow(expect.objectContaining({ code: "closed" }) as Error);
    await expect(log.read(0, 1, 1)).rejects.toMatchObject({ code: "closed" });
    await expect(log.truncateBelow(1)).rejects.toMatchObject({ code: "closed" });
    await expect(log.cutAfter(0)).rejects.toMatchObject({ code: "closed" });
    await expect(log.flush()).rejects.toMatchObject({ code: "closed" });
  });

  test("a hole in the offsets is a bug", async () => {
    const { log } = await openRecordLog();
    const record = {
      seq: seq(1),
      epoch: epoch(1),
      epochId: EPOCH_ID,
      timestampMs: epochMs(1),
      record: Buffer.from("a"),
    };
    expect(() => log.append({ ...record, offset: 1 })).toThrow("record 1 is appended where 0 is next");
    await log.close();
  });
});
