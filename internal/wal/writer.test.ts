/** When a log writes, syncs and says so; and what it does when the disk does not do its part. */
import { describe, expect, test } from "vitest";
import { seq } from "../base/position.js";
import type { Log } from "./log.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { decodeRecords } from "./record.js";
import { segmentName } from "./segment-header.js";
import { appendText, NotingListener, openLog, someTexts, type TestLog, textsOf, turn, until } from "./testing/logs.js";

const FIRST = `wal/${segmentName(seq(1))}`;

/** How the log's disk is written to. */
const WAYS = [
  { name: "by another thread", atOnce: false },
  { name: "while the thread stands still", atOnce: true },
];

describe("records are kept", () => {
  test("once they are synced, under always", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, listener } = await openLog({ fileSystem, durability: "always" });
    const write = fileSystem.holdNext("write");
    appendText(log, "a");
    expect(log).toMatchObject({ lastSeq: 1, writtenSeq: 0, keptSeq: 0 });
    await write.reached;
    expect(listener).toMatchObject({ writtenSeq: 0, keptSeq: 0 });
    const sync = fileSystem.holdNext("datasync");
    write.release();
    await sync.reached;
    expect(listener).toMatchObject({ writtenSeq: 1, keptSeq: 0 });
    expect(log).toMatchObject({ writtenSeq: 1, syncedSeq: 0, keptSeq: 0 });
    sync.release();
    await until(() => listener.keptSeq === 1);
    expect(log).toMatchObject({ writtenSeq: 1, syncedSeq: 1, keptSeq: 1 });
    const { log: afterPowerCut } = await openLog({ fileSystem: fileSystem.crash() });
    expect(await textsOf(afterPowerCut)).toEqual(["a"]);
  });

  test("once they are written, under interval; and are synced once in every interval", async () => {
    const fileSystem = new MemoryFileSystem();
    let syncs = 0;
    const { log, clock, listener } = await openLog({ fileSystem, durability: "interval", syncIntervalMs: 200 });
    fileSystem.onOperation = (operation) => void (syncs += operation === "datasync" ? 1 : 0);
    for (let i = 1; i <= 5; i++) {
      appendText(log, `${i}`);
      await until(() => listener.keptSeq === i);
    }
    expect(log).toMatchObject({ writtenSeq: 5, syncedSeq: 0, keptSeq: 5 });
    clock.advance(199);
    await turn();
    expect([syncs, log.syncedSeq]).toEqual([0, 0]);
    clock.advance(1);
    await until(() => log.syncedSeq === 5);
    expect(syncs).toBe(1);
    // Nothing to sync, nothing synced.
    clock.advance(10_000);
    await turn();
    expect(syncs).toBe(1);
    appendText(log, "6");
    await until(() => listener.keptSeq === 6);
    clock.advance(200);
    await until(() => log.syncedSeq === 6);
    expect(syncs).toBe(2);
    await log.close();
  });

  test("once they are written, under os; and are synced at rotation, flush and close only", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock, listener } = await openLog({ fileSystem, durability: "os", segmentBytesMax: 1024 });
    for (let i = 1; i <= 5; i++) {
      appendText(log, "x".repeat(100));
      await until(() => listener.keptSeq === i);
    }
    clock.advance(60_000);
    await turn();
    expect(log.syncedSeq).toBe(0);
    appendText(log, "y".repeat(300));
    await until(() => listener.keptSeq === 6);
    expect(log.syncedSeq).toBe(5);
    expect(await textsOf((await openLog({ fileSystem: fileSystem.crash() })).log)).toHaveLength(5);
    // The new segment proves the old one.
    expect((await openLog({ fileSystem: fileSystem.copy() })).log.recovery).toMatchObject({ records: 6, syncedSeq: 5 });
    await log.flush();
    expect(log.syncedSeq).toBe(6);
    appendText(log, "z");
    await log.close();
    expect(await textsOf((await openLog({ fileSystem: fileSystem.crash() })).log)).toHaveLength(7);
  });
});

test("all that gathers while a write is in flight goes out in one write and one sync", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log, listener } = await openLog({ fileSystem, segmentBytesMax: 10_000_000 });
  const operations: string[] = [];
  const sync = fileSystem.holdNext("datasync");
  appendText(log, "first");
  await sync.reached;
  fileSystem.onOperation = (operation) => operations.push(operation);
  // More than one frame holds.
  for (let i = 0; i < 2000; i++) appendText(log, "x".repeat(500));
  expect(log.queuedBytes).toBe(2000 * 540);
  sync.release();
  await until(() => listener.keptSeq === 2001);
  expect(operations.filter((operation) => operation === "write" || operation === "datasync").slice(0, 3)).toEqual([
    // Zeros ahead of what comes, since the write before was small.
    "write",
    "write",
    "datasync",
  ]);
  expect(log.queuedBytes).toBe(0);
  await log.close();
});

test("readTail shows nothing before it is written", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem });
  appendText(log, "a");
  await log.flush();
  const write = fileSystem.holdNext("write");
  appendText(log, "b");
  await write.reached;
  appendText(log, "c");
  expect(seqsOf(log.readTail(seq(0), 1000))).toEqual([1]);
  expect(log.readTail(seq(1), 1000)).toHaveLength(0);
  write.release();
  await log.flush();
  expect(seqsOf(log.readTail(seq(0), 1000))).toEqual([1, 2, 3]);
  expect(seqsOf(log.readTail(seq(1), 1))).toEqual([2]);
});

describe("a log gone idle", () => {
  test("proves its last sync and how far was applied, once", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock } = await openLog({ fileSystem });
    for (const text of someTexts(5)) appendText(log, text);
    await log.flush();
    const size = log.sizeBytes;
    clock.advance(49);
    await turn();
    expect(log.sizeBytes).toBe(size);
    clock.advance(1);
    await until(() => log.sizeBytes === size + 40);
    const next = fileSystem.copy();
    expect((await openLog({ fileSystem: next })).log.recovery).toMatchObject({ syncedSeq: 5, cleanShutdown: false });
    expect(next.paths()).toEqual([FIRST]);

    clock.advance(1000);
    await turn();
    expect(log.sizeBytes).toBe(size + 40);
    log.setAppliedSeq(seq(4));
    clock.advance(50);
    await until(() => log.sizeBytes === size + 80);
    expect((await openLog({ fileSystem: fileSystem.copy() })).log.recovery).toMatchObject({
      appliedSeq: 4,
      syncedSeq: 5,
    });
    await log.close();
    expect(clock.pendingTimers).toBe(0);
  });

  test("writes nothing while it is busy", async () => {
    const { log, clock } = await openLog();
    for (let i = 0; i < 10; i++) {
      appendText(log, "x");
      await log.flush();
      clock.advance(30);
      await turn();
    }
    expect(log.sizeBytes).toBe(80 + 10 * 81);
  });

  test("never says more than is true", async () => {
    // Committed by others before this node has written it: no frame of this node may claim it.
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem });
    const write = fileSystem.holdNext("write");
    appendText(log, "a");
    await write.reached;
    appendText(log, "b");
    log.setAppliedSeq(seq(2));
    write.release();
    await log.flush();
    const again = await openLog({ fileSystem: fileSystem.copy() });
    expect(again.log.recovery).toMatchObject({ records: 2, appliedSeq: 1 });
  });
});

describe.each(WAYS)("on a full disk, $name", ({ atOnce }) => {
  test("what did not fit is dropped and not in the log, and writes return when there is room", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log, listener } = await openLog({ fileSystem, durability: "interval" });
    const kept = someTexts(20);
    for (const text of kept) appendText(log, text);
    await log.flush();
    const { last, sizeBytes } = log;
    fileSystem.capacityBytes = sizeBytes + 500;
    for (const text of someTexts(50, 21)) appendText(log, text);
    expect(log.lastSeq).toBe(70);
    const flushed = log.flush();
    await expect(flushed).rejects.toMatchObject({ name: "WalError", code: "disk_full" });
    expect(listener.drops).toMatchObject([{ firstSeq: 21, error: { code: "disk_full" } }]);
    expect(listener).toMatchObject({ writtenSeq: 20, keptSeq: 20, failures: [] });
    expect(log).toMatchObject({ last, lastSeq: 20, writtenSeq: 20, sizeBytes });
    // The part that was written is cut.
    expect(fileSystem.bytes(FIRST)).toHaveLength(sizeBytes);
    expect(await textsOf(log)).toEqual(kept);

    // What is small enough goes on at once, and everything when there is room.
    expect(appendText(log, "small")).toBe(21);
    await log.flush();
    fileSystem.capacityBytes = 1_000_000;
    const more = someTexts(50, 22);
    for (const text of more) appendText(log, text);
    await log.close();
    const again = await openLog({ fileSystem });
    expect(again.log.recovery).toMatchObject({ cleanShutdown: true, tornBytes: 0 });
    expect(await textsOf(again.log)).toEqual([...kept, "small", ...more]);
  });

  test("nothing of the dropped records is left, even when the power is cut right after", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log, listener } = await openLog({ fileSystem, durability: "os" });
    for (const text of someTexts(3)) appendText(log, text);
    await until(() => listener.keptSeq === 3);
    fileSystem.capacityBytes = log.sizeBytes + 700;
    for (const text of someTexts(30, 4)) appendText(log, text);
    await until(() => listener.drops.length === 1);
    fileSystem.capacityBytes = 100_000;
    appendText(log, "other");
    await until(() => listener.keptSeq === 4);
    for (const keepsNew of [false, true]) {
      const image = fileSystem.crash({
        sector: (_path, _sector, versions) => (keepsNew ? versions : 0),
        keepsSize: () => keepsNew,
      });
      const texts = await textsOf((await openLog({ fileSystem: image })).log);
      expect(texts).toEqual(keepsNew ? [...someTexts(3), "other"] : someTexts(3));
    }
    await log.close();
  });

  test("a rotation without room drops what waits and leaves the old segment in use", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log, listener } = await openLog({ fileSystem, segmentBytesMax: 1024 });
    appendText(log, "x".repeat(800));
    await log.flush();
    fileSystem.capacityBytes = log.sizeBytes + 60;
    appendText(log, "y".repeat(300));
    await until(() => listener.drops.length === 1);
    expect(fileSystem.paths()).toEqual([FIRST]);
    expect(log.lastSeq).toBe(1);
    fileSystem.capacityBytes = 100_000;
    appendText(log, "z");
    appendText(log, "y".repeat(300));
    await log.flush();
    expect(fileSystem.paths()).toHaveLength(3);
    await log.close();
    expect(await textsOf((await openLog({ fileSystem })).log)).toEqual(["x".repeat(800), "z", "y".repeat(300)]);
  });

  test("a segment that was begun just before the disk filled up gets its mark at the close", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const options = { fileSystem, segmentBytesMax: 1024 };
    const first = await openLog(options);
    appendText(first.log, "x".repeat(900));
    await first.log.close();
    const { log, listener } = await openLog(options);
    // Room for the header of a segment, and no more.
    fileSystem.capacityBytes = log.sizeBytes + 80;
    appendText(log, "y".repeat(100));
    await until(() => listener.drops.length === 1);
    fileSystem.capacityBytes = 100_000;
    expect(fileSystem.paths().filter((path) => path.endsWith(".wal"))).toHaveLength(2);
    const killed = await openLog({ ...options, fileSystem: fileSystem.copy() });
    expect(killed.log.recovery.cleanShutdown).toBe(false);
    await log.close();
    expect((await openLog(options)).log.recovery).toMatchObject({ records: 1, cleanShutdown: true });
  });

  test("zeros are not written ahead, and the log goes on", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log, listener } = await openLog({ fileSystem, durability: "always", segmentBytesMax: 100_000 });
    fileSystem.capacityBytes = 1000;
    for (let i = 1; i <= 5; i++) {
      appendText(log, "x".repeat(50));
      await until(() => listener.keptSeq === i);
    }
    expect(fileSystem.bytes(FIRST)).toHaveLength(log.sizeBytes);
    await log.close();
  });

  test("a log can be closed without the mark of an orderly close", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log } = await openLog({ fileSystem, durability: "os" });
    appendText(log, "a");
    await log.flush();
    fileSystem.capacityBytes = log.sizeBytes + 10;
    await log.close();
    const again = await openLog({ fileSystem: fileSystem.copy() });
    expect(again.log.recovery).toMatchObject({ records: 1, cleanShutdown: false, tornBytes: 0 });
  });

  test("a log can be opened, and what was not proven to be synced is synced", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log } = await openLog({ fileSystem });
    const texts = someTexts(20);
    for (const text of texts.slice(0, 10)) appendText(log, text);
    await log.flush();
    fileSystem.failNext("datasync", "EIO");
    for (const text of texts.slice(10)) appendText(log, text);
    await expect(log.flush()).rejects.toMatchObject({ code: "failed" });
    const next = fileSystem.copy();
    next.capacityBytes = 0;
    expect(await textsOf((await openLog({ fileSystem: next })).log)).toEqual(texts);
    expect(await textsOf((await openLog({ fileSystem: next.crash() })).log)).toEqual(texts);
    expect(next.paths()).toEqual([FIRST]);
  });

  test("records that cannot be saved are not cut", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log } = await openLog({ fileSystem });
    for (const text of someTexts(20)) appendText(log, text);
    await log.flush();
    fileSystem.capacityBytes = fileSystem.bytes(FIRST).length + 100;
    await expect(log.cutAfter(seq(3), "diverged.log")).rejects.toMatchObject({ code: "disk_full" });
    expect(fileSystem.paths()).toEqual([FIRST]);
    expect(await textsOf(log)).toEqual(someTexts(20));
    fileSystem.capacityBytes = 1_000_000;
    appendText(log, "more");
    await log.flush();
    await log.cutAfter(seq(3), "diverged.log");
    expect(await textsOf(log)).toEqual(someTexts(3));
  });
});

test("a file that is there already is not written over by what is cut", async () => {
  const fileSystem = new MemoryFileSystem();
  fileSystem.setBytes("diverged.log", Buffer.from("of an earlier cut"));
  const { log } = await openLog({ fileSystem });
  for (const text of someTexts(5)) appendText(log, text);
  await expect(log.cutAfter(seq(3), "diverged.log")).rejects.toMatchObject({ code: "io" });
  expect(fileSystem.bytes("diverged.log").toString()).toBe("of an earlier cut");
  expect(await textsOf(log)).toEqual(someTexts(5));
});

describe.each(WAYS)("is final, $name", ({ atOnce }) => {
  test.each(["always", "interval", "os"] as const)("a sync that failed: %s", async (durability) => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log, clock, listener } = await openLog({ fileSystem, durability });
    appendText(log, "a");
    await log.flush();
    fileSystem.failNext("datasync", "EIO");
    appendText(log, "b");
    const flushed = log.flush();
    appendText(log, "c");
    await expect(flushed).rejects.toMatchObject({ name: "WalError", code: "failed" });
    expect(listener.failures).toMatchObject([{ code: "failed" }]);
    expect(listener.failures[0]!.message).toContain("datasync of wal/");
    expect(log.syncedSeq).toBe(1);
    if (durability === "always") expect(log.keptSeq).toBe(1);
    const before = fileSystem.bytes(FIRST);
    const refusal = expect.objectContaining({ code: "failed" });
    expect(() => appendText(log, "d")).toThrow(refusal);
    expect(() => log.appendRecords(Buffer.alloc(0))).toThrow(refusal);
    await expect(log.flush()).rejects.toMatchObject({ code: "failed" });
    await expect(log.cutAfter(seq(0))).rejects.toMatchObject({ code: "failed" });
    clock.advance(10_000);
    await turn();
    await log.close();
    expect(fileSystem.bytes(FIRST).equals(before)).toBe(true);
    expect(listener.failures).toHaveLength(1);
    expect(clock.pendingTimers).toBe(0);
  });

  test("a write that failed for another reason than a full disk", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const { log, listener } = await openLog({ fileSystem });
    appendText(log, "a");
    await log.flush();
    fileSystem.failNext("write", "EIO");
    appendText(log, "b");
    await until(() => listener.failures.length === 1);
    expect(listener).toMatchObject({ writtenSeq: 1, keptSeq: 1 });
    await log.close();
    expect(await textsOf((await openLog({ fileSystem })).log)).toEqual(["a"]);
  });

  test.each(["truncate", "datasync", "open", "rename", "syncDirectory"] as const)(
    "a rotation that failed at its %s; what was synced is there",
    async (operation) => {
      const fileSystem = new MemoryFileSystem({ atOnce });
      const { log, listener } = await openLog({ fileSystem, segmentBytesMax: 1024 });
      appendText(log, "x".repeat(500));
      await log.flush();
      fileSystem.failNext(operation, "EIO");
      appendText(log, "y".repeat(500));
      await until(() => listener.failures.length === 1);
      expect(listener.keptSeq).toBe(1);
      await log.close();
      for (const image of [fileSystem.copy(), fileSystem.crash()]) {
        expect(await textsOf((await openLog({ fileSystem: image })).log)).toEqual(["x".repeat(500)]);
      }
    },
  );

  test("a cut that failed half-way; what was to stay is there", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce });
    const options = { segmentBytesMax: 1024 };
    const { log, listener } = await openLog({ fileSystem, ...options });
    const texts = someTexts(40);
    for (const text of texts) {
      appendText(log, text);
      await log.flush();
    }
    fileSystem.failNext("remove", "EIO", { after: 2 });
    await expect(log.cutAfter(seq(5))).rejects.toMatchObject({ code: "failed" });
    expect(listener.failures).toHaveLength(1);
    await log.close();
    const found = await textsOf((await openLog({ fileSystem, ...options })).log);
    expect(found.length).toBeLessThan(40);
    expect(found).toEqual(texts.slice(0, Math.max(5, found.length)));
  });
});

test("short writes are completed", async () => {
  const fileSystem = new MemoryFileSystem({ writeBytesMax: 7 });
  const { log } = await openLog({ fileSystem, segmentBytesMax: 2000 });
  const texts = someTexts(60);
  for (const text of texts) appendText(log, text);
  await log.flush();
  await log.cutAfter(seq(45), "diverged.log");
  await log.close();
  expect([...decodeRecords(fileSystem.bytes("diverged.log"), true)]).toHaveLength(15);
  const again = await openLog({ fileSystem });
  expect(again.log.recovery).toMatchObject({ cleanShutdown: true, tornBytes: 0 });
  expect(await textsOf(again.log)).toEqual(texts.slice(0, 45));
});

test("an index that cannot be written costs nothing but a warning", async () => {
  const fileSystem = new MemoryFileSystem();
  const warnings: string[] = [];
  const logger = { debug() {}, info() {}, warn: (message: string) => void warnings.push(message), error() {} };
  const { log } = await openLog({ fileSystem, segmentBytesMax: 1024, logger });
  fileSystem.failNext("open", "EIO", { path: /index$/ });
  fileSystem.failNext("open", "EIO", { path: /index$/ });
  const texts = someTexts(30);
  for (const text of texts) {
    appendText(log, text);
    await log.flush();
  }
  expect(warnings).toHaveLength(2);
  expect(await textsOf(log)).toEqual(texts);
  await log.close();
  const before = fileSystem.paths().length;
  await openLog({ fileSystem, segmentBytesMax: 1024 });
  expect(fileSystem.paths()).toHaveLength(before + 2);
});

test("bytes that changed on the disk while the log was open are not given out", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, tailBytesMax: 1, segmentBytesMax: 20_000 });
  const texts = someTexts(400);
  for (const text of texts) appendText(log, text);
  await log.flush();
  expect(log.readTail(seq(10), 100)).toBeUndefined();
  const bytes = fileSystem.bytes(FIRST);
  const at = bytes.indexOf("record 11 ");
  bytes[at]! ^= 1;
  fileSystem.setBytes(FIRST, bytes);
  await expect(log.read(seq(10), 1000)).rejects.toMatchObject({
    code: "corrupt",
    file: FIRST,
    offset: expect.any(Number),
  });
  bytes[at]! ^= 1;
  fileSystem.setBytes(FIRST, bytes);
  expect(seqsOf(await log.read(seq(10), 1))).toEqual([11]);
  await log.close();
});

function seqsOf(records: Uint8Array | undefined): number[] {
  return [...decodeRecords(records!, true)].map((record) => record.seq);
}

describe("the thread stands still for a sync", () => {
  /** Appends something; resolves to whether its sync goes through another thread, which alone can be held, and lets it go on. */
  async function isLeftToAnother(fileSystem: MemoryFileSystem, { log }: TestLog, text = "a"): Promise<boolean> {
    const sync = fileSystem.holdNext("datasync");
    let isReached = false;
    void sync.reached.then(() => (isReached = true));
    const appended = appendText(log, text);
    await until(() => isReached || log.keptSeq === appended);
    const isHeld = log.keptSeq < appended;
    sync.release();
    await until(() => log.keptSeq === appended);
    // The hold is used up in any case.
    if (!isHeld) await log.rotate();
    return isHeld;
  }

  test("while nobody reads, and leaves it to another when somebody has", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce: true });
    let readCount = 0;
    const test = await openLog({ fileSystem, readCount: () => readCount });
    expect(await isLeftToAnother(fileSystem, test)).toBe(false);
    readCount++;
    expect(await isLeftToAnother(fileSystem, test)).toBe(true);
    expect(await isLeftToAnother(fileSystem, test)).toBe(false);
    await test.log.close();
  });

  test("not for a large group", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce: true });
    const test = await openLog({ fileSystem, segmentBytesMax: 1 << 20, tailBytesMax: 1 << 20 });
    expect(await isLeftToAnother(fileSystem, test, "x".repeat(70_000))).toBe(true);
    await test.log.close();
  });

  test("not on a slow disk, which is tried again after a while", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce: true });
    const test = await openLog({ fileSystem });
    fileSystem.onOperation = (operation) => {
      if (operation === "datasync") test.clock.advance(20);
    };
    expect(await isLeftToAnother(fileSystem, test)).toBe(false);
    expect(await isLeftToAnother(fileSystem, test)).toBe(true);
    fileSystem.onOperation = undefined;
    test.clock.advance(1000);
    expect(await isLeftToAnother(fileSystem, test)).toBe(false);
    await test.log.close();
  });

  test("once in a turn of the event loop, however fast records come", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce: true });
    const listener = new NotingListener();
    let left = 100;
    let log: Log | undefined = undefined;
    listener.kept = (kept) => {
      listener.keptSeq = kept;
      if (log && left-- > 0) appendText(log, "another");
    };
    ({ log } = await openLog({ fileSystem, listener }));
    appendText(log, "the first");
    let turns = 0;
    for (; left > 0; turns++) await new Promise((resolve) => setImmediate(resolve));
    expect(turns).toBeGreaterThanOrEqual(100);
    await log.flush();
    await log.close();
  });

  test("and also for a write in the modes in which that is all that callers wait for", async () => {
    for (const durability of ["interval", "os"] as const) {
      const fileSystem = new MemoryFileSystem({ atOnce: true });
      const { log } = await openLog({ fileSystem, durability });
      let isReached = false;
      const write = fileSystem.holdNext("write");
      void write.reached.then(() => (isReached = true));
      const appended = appendText(log, "a");
      await until(() => isReached || log.writtenSeq === appended);
      expect(isReached).toBe(false);
      write.release();
      await log.close();
    }
  });

  test("in no mode in which nobody waits for it", async () => {
    const fileSystem = new MemoryFileSystem({ atOnce: true });
    const { log } = await openLog({ fileSystem, durability: "os" });
    const sync = fileSystem.holdNext("datasync");
    appendText(log, "a");
    const flushed = log.flush();
    await sync.reached;
    expect(log.syncedSeq).toBe(0);
    sync.release();
    await flushed;
    await log.close();
  });
});

test("writes what waits for the end of the turn as soon as nothing else comes in it, and once", async () => {
  const fileSystem = new MemoryFileSystem({ atOnce: true });
  const { log } = await openLog({ fileSystem });
  const groups: number[] = [];
  fileSystem.onOperation = (operation) => {
    if (operation === "datasync") groups.push(log.writtenSeq);
  };
  expect(log.endTurn()).toBe(false);
  let isTurnOver = false;
  setImmediate(() => (isTurnOver = true));
  appendText(log, "a");
  const last = appendText(log, "b");
  expect(log.endTurn()).toBe(true);
  expect(log.endTurn()).toBe(false);
  for (let i = 0; i < 100 && log.keptSeq < last; i++) await Promise.resolve();
  expect(log.keptSeq).toBe(last);
  expect(isTurnOver).toBe(false);
  await new Promise((resolve) => setImmediate(resolve));
  await log.flush();
  expect(groups).toEqual([last]);
  fileSystem.onOperation = undefined;
  await log.close();
});
