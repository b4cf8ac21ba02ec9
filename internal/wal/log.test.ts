/** How a log behaves when nothing goes wrong; on every file system. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { clusterId } from "../base/ids.js";
import { epoch, epochMs, seq } from "../base/position.js";
import type { File, FileSystem } from "./file-system.js";
import type { Durability, LogRecord } from "./log.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { NodeFileSystem } from "./node-file-system.js";
import { FRAME_HEADER_BYTES } from "./frame.js";
import { chainSeed, decodeRecords, RecordRun } from "./record.js";
import { SEGMENT_HEADER_BYTES } from "./segment-header.js";
import { appendText, CLUSTER, openLog, someTexts, textOf, textsOf, turn, type TestLog } from "./testing/logs.js";

const roots: string[] = [];
const open: TestLog[] = [];

afterEach(async () => {
  for (const { log } of open.splice(0)) await log.close();
  for (const root of roots.splice(0)) await rm(root, { recursive: true });
});

async function opened(options: Parameters<typeof openLog>[0]): Promise<TestLog> {
  const test = await openLog(options);
  open.push(test);
  return test;
}

/** On which each write stops after some bytes, as one may on any system. */
class ShortWritingFileSystem extends MemoryFileSystem {
  override async open(path: string, mode: "read" | "write" | "create"): Promise<File> {
    const file = await super.open(path, mode);
    return {
      read: (into, position) => file.read(into, position),
      write: (content, position) => file.write(content.subarray(0, 1000), position),
      datasync: () => file.datasync(),
      truncate: (size) => file.truncate(size),
      size: () => file.size(),
      close: () => file.close(),
    };
  }
}

const makers: [string, () => Promise<FileSystem>][] = [
  ["MemoryFileSystem", async () => new MemoryFileSystem()],
  ["MemoryFileSystem whose writes are short", async () => new ShortWritingFileSystem()],
  [
    "NodeFileSystem",
    async () => {
      const root = await mkdtemp(join(tmpdir(), "cambium-"));
      roots.push(root);
      return new NodeFileSystem(root);
    },
  ],
];

test("whichever byte of a log has changed since it was opened is found by who is shown its records, and called corrupt", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem, segmentBytesMax: 100_000 });
  const texts = someTexts(9);
  for (const [n, text] of texts.entries()) {
    appendText(log, text);
    if (n % 3 === 2) await log.flush();
  }
  const [name] = await fileSystem.list("wal");
  const file = await fileSystem.open(`wal/${name}`, "write");
  const visited = async (): Promise<string[]> => {
    const found: string[] = [];
    await log.visit(seq(0), seq(9), 1 << 20, (records) => {
      const run = new RecordRun(records, "chains");
      while (run.next()) found.push(textOf(run.record));
    });
    return found;
  };
  expect(await visited()).toEqual(texts);
  let [found, passed] = [0, 0];
  for (let at = SEGMENT_HEADER_BYTES; at < log.sizeBytes; at++) {
    const byte = Buffer.alloc(1);
    await file.read(byte, at);
    await file.write(Buffer.of(byte[0]! ^ 0x10), at);
    const outcome = await visited().catch((error: unknown) => error);
    // Of a record only the CRC of its own header may be wrong, which nobody needs whose bytes are vouched for.
    if (Array.isArray(outcome)) {
      expect(outcome).toEqual(texts);
      passed++;
    } else {
      expect(outcome).toMatchObject({ code: "corrupt" });
      found++;
    }
    await file.write(byte, at);
  }
  expect(await visited()).toEqual(texts);
  await file.close();
  // Four bytes of each record; and frames that carry no record may stand at the end.
  expect(passed).toBeLessThanOrEqual(9 * 4 + 3 * FRAME_HEADER_BYTES);
  expect(found).toBeGreaterThan(9 * 40);
});

describe.each(makers)("a log on %s", (_name, makeFileSystem) => {
  test.each<Durability>(["always", "interval", "os"])(
    "keeps what was appended over a close: %s",
    async (durability) => {
      const fileSystem = await makeFileSystem();
      const texts = someTexts(300);
      const first = await opened({ fileSystem, durability });
      expect(first.log.recovery).toMatchObject({
        records: 0,
        tornBytes: 0,
        cleanShutdown: true,
        appliedSeq: 0,
        syncedSeq: 0,
      });
      for (const text of texts) appendText(first.log, text);
      expect(first.log.lastSeq).toBe(300);
      await first.log.flush();
      expect(first.log.syncedSeq).toBe(300);
      expect(first.listener).toMatchObject({ writtenSeq: 300, keptSeq: 300 });
      expect(await textsOf(first.log)).toEqual(texts);
      const { last, lastTimestampMs } = first.log;
      await first.log.close();
      await first.log.close();

      const again = await opened({ fileSystem, durability });
      expect(again.log.recovery).toMatchObject({ records: 300, tornBytes: 0, cleanShutdown: true, syncedSeq: 300 });
      expect(again.log).toMatchObject({
        last,
        lastTimestampMs,
        firstSeq: 1,
        compactSeq: 0,
        writtenSeq: 300,
        keptSeq: 300,
      });
      expect(await textsOf(again.log)).toEqual(texts);
      expect(appendText(again.log, "more")).toBe(301);
      await again.log.flush();
      expect(await textsOf(again.log)).toEqual([...texts, "more"]);
    },
  );

  test("is read in pieces of any size, from memory and from disk alike", async () => {
    const fileSystem = await makeFileSystem();
    const { log } = await opened({ fileSystem, segmentBytesMax: 3000, tailBytesMax: 1 });
    const texts = someTexts(200);
    for (const text of texts) {
      appendText(log, text);
      if (log.lastSeq % 7 === 0) await log.flush();
    }
    await log.flush();
    for (const maxBytes of [1, 100, 700, 5000, 1_000_000]) expect(await textsOf(log, maxBytes)).toEqual(texts);

    // Of a run that is in memory, the disk gives the same bytes.
    const after = seq(195);
    const inMemory = Buffer.from(log.readTail(after, 10_000)!);
    await log.close();
    const again = await opened({ fileSystem, segmentBytesMax: 3000 });
    expect(again.log.readTail(after, 10_000)).toBeUndefined();
    let onDisk = Buffer.alloc(0);
    for (let at: number = after; at < 200; at = lastSeqIn(onDisk)) {
      onDisk = Buffer.concat([onDisk, await again.log.read(seq(at), 10_000)]);
    }
    expect(onDisk.equals(inMemory)).toBe(true);
    expect(await again.log.read(seq(200), 100)).toHaveLength(0);
    expect(again.log.readTail(seq(200), 100)).toHaveLength(0);
  });

  test("takes records larger than a frame, a block of memory or a segment", async () => {
    const fileSystem = await makeFileSystem();
    const { log } = await opened({ fileSystem, segmentBytesMax: 100_000 });
    const texts = ["a", "b".repeat(99_000), "c".repeat(1_500_000), "", "d".repeat(300_000), "e"];
    for (const text of texts) appendText(log, text);
    await log.flush();
    expect(await textsOf(log, 1)).toEqual(texts);
    await log.close();
    const again = await opened({ fileSystem });
    expect(await textsOf(again.log, 1)).toEqual(texts);
  });

  test("goes over to a new segment when one is full, each with its index", async () => {
    const fileSystem = await makeFileSystem();
    const { log } = await opened({ fileSystem, segmentBytesMax: 2000 });
    for (const text of someTexts(100)) {
      appendText(log, text);
      await log.flush();
    }
    await log.close();
    const names = await fileSystem.list("wal");
    const segments = names.filter((name) => name.endsWith(".wal"));
    expect(segments.length).toBeGreaterThan(3);
    expect(names.filter((name) => name.endsWith(".index"))).toEqual(
      segments.slice(0, -1).map((name) => name.replace(".wal", ".index")),
    );
    let total = 0;
    for (const name of segments) {
      const file = await fileSystem.open(`wal/${name}`, "read");
      const size = await file.size();
      await file.close();
      // One empty frame may come on top.
      expect(size).toBeLessThanOrEqual(2000 + 40);
      total += size;
    }
    expect(log.sizeBytes).toBe(total);
  });

  test("shows every record to the replay of its opening, in order", async () => {
    const fileSystem = await makeFileSystem();
    const texts = someTexts(150);
    const first = await opened({ fileSystem, segmentBytesMax: 2000 });
    for (const text of texts) appendText(first.log, text);
    await first.log.close();

    const seen: Pick<LogRecord, "seq" | "epoch" | "chain">[] = [];
    const seenTexts: string[] = [];
    const replay = (record: LogRecord): void => {
      // The record itself is valid during the call only.
      const { seq, epoch, chain } = record;
      seen.push({ seq, epoch, chain });
      seenTexts.push(textOf(record));
    };
    const again = await opened({ fileSystem, segmentBytesMax: 2000, replay });
    expect(seenTexts).toEqual(texts);
    expect(seen.map((record) => record.seq)).toEqual(texts.map((_, i) => i + 1));
    expect(seen.at(-1)).toMatchObject({ chain: again.log.last.chain, epoch: 1 });
  });

  test("shows the records of any part, from whatever frames and segments, as they are read", async () => {
    const fileSystem = await makeFileSystem();
    const texts = someTexts(150);
    const { log } = await opened({ fileSystem, segmentBytesMax: 2000 });
    for (const [i, text] of texts.entries()) {
      appendText(log, text);
      // Frames of one record, and of many.
      if (i % 7 === 0 || i > 100) await log.flush();
    }
    await log.flush();
    for (const bytesMax of [1, 500, 1 << 20]) {
      for (const [after, upTo] of [
        [0, 150],
        [0, 1],
        [3, 4],
        [5, 99],
        [99, 150],
        [149, 150],
        [150, 150],
      ] as const) {
        const found: string[] = [];
        for (let at = after as number; at < upTo;) {
          const before = at;
          await log.visit(seq(at), seq(upTo), bytesMax, (records) => {
            for (const record of decodeRecords(records, true)) {
              expect(record.seq).toBe(++at);
              found.push(textOf(record));
            }
          });
          expect(at).toBeGreaterThan(before);
        }
        expect(found).toEqual(texts.slice(after, upTo));
      }
    }
    await log.truncateBelow(seq(100));
    await expect(log.visit(seq(1), seq(150), 1000, () => {})).rejects.toMatchObject({ code: "out_of_range" });
    await log.close();
  });

  test("gives the mark of every seq it holds, and of the beginning", async () => {
    const fileSystem = await makeFileSystem();
    const first = await opened({ fileSystem, segmentBytesMax: 2000 });
    const marks = [await first.log.mark(seq(0))];
    expect(marks).toEqual([{ epoch: 0, seq: 0, chain: chainSeed(CLUSTER) }]);
    for (let i = 1; i <= 60; i++) {
      const payload = Buffer.from(`record ${i}`);
      first.log.append({ epoch: epoch(1 + Math.floor(i / 20)), timestampMs: epochMs(i), payload });
      marks.push(first.log.last);
    }
    expect(await Promise.all(marks.map((mark) => first.log.mark(mark.seq)))).toEqual(marks);
    await first.log.close();
    const again = await opened({ fileSystem, segmentBytesMax: 2000 });
    for (const mark of marks) expect(await again.log.mark(mark.seq)).toEqual(mark);
    await expect(again.log.mark(seq(61))).rejects.toMatchObject({ code: "out_of_range" });
  });

  test("is the same on another node that takes its records", async () => {
    const master = await opened({ fileSystem: await makeFileSystem(), segmentBytesMax: 5000, tailBytesMax: 20_000 });
    const replica = await opened({ fileSystem: await makeFileSystem(), segmentBytesMax: 3000 });
    const texts = someTexts(500);
    for (const text of texts) appendText(master.log, text);
    await master.log.flush();
    while (replica.log.lastSeq < 500) {
      const records = await master.log.read(replica.log.lastSeq, 1500);
      expect(replica.log.appendRecords(records)).toBe(replica.log.lastSeq);
    }
    expect(replica.log.appendRecords(new Uint8Array())).toBe(500);
    await replica.log.flush();
    expect(replica.log).toMatchObject({ last: master.log.last, lastTimestampMs: master.log.lastTimestampMs });
    expect(await textsOf(replica.log)).toEqual(texts);
    for (let i = 0; i <= 500; i += 50) expect(await replica.log.mark(seq(i))).toEqual(await master.log.mark(seq(i)));
  });

  test.each([0, 1, 9, 10, 11, 37, 59, 60, 61, 99])("is cut after %i, and what is cut is saved", async (last) => {
    const fileSystem = await makeFileSystem();
    const { log } = await opened({ fileSystem, segmentBytesMax: 3000 });
    const texts = someTexts(100);
    for (const text of texts) {
      appendText(log, text);
      // Frames of ten records: cuts fall between and inside them.
      if (log.lastSeq % 10 === 0) await log.flush();
    }
    log.setAppliedSeq(seq(100));
    const mark = await log.mark(seq(last));
    await log.cutAfter(seq(last), "diverged-1.log");
    expect(log).toMatchObject({ lastSeq: last, writtenSeq: last, syncedSeq: last, keptSeq: last, last: mark });
    expect(await textsOf(log)).toEqual(texts.slice(0, last));
    const saved = await contentOf(fileSystem, "diverged-1.log");
    expect([...decodeRecords(saved, true)].map(textOf)).toEqual(texts.slice(last));

    appendText(log, "another history");
    await log.flush();
    await log.close();
    const again = await opened({ fileSystem, segmentBytesMax: 3000 });
    expect(again.log.recovery).toMatchObject({ cleanShutdown: true, tornBytes: 0, appliedSeq: last });
    expect(await textsOf(again.log)).toEqual([...texts.slice(0, last), "another history"]);
  });

  test("is cut while records wait to be written and readers read", async () => {
    const { log } = await opened({ fileSystem: await makeFileSystem(), tailBytesMax: 1 });
    const texts = someTexts(2000);
    for (const text of texts) appendText(log, text);
    await log.flush();
    for (const text of someTexts(100, 2001)) appendText(log, text);
    const reads = Array.from({ length: 20 }, (_, i) => log.read(seq(i * 100), 100_000));
    await log.cutAfter(seq(1500));
    for (const records of await Promise.all(reads)) expect(lastSeqIn(Buffer.from(records))).toBeGreaterThan(0);
    expect(await textsOf(log)).toEqual(texts.slice(0, 1500));
  });

  test("carries how far the engine has applied", async () => {
    const fileSystem = await makeFileSystem();
    const first = await opened({ fileSystem });
    for (const text of someTexts(10)) appendText(first.log, text);
    await first.log.flush();
    first.log.setAppliedSeq(seq(7));
    first.log.setAppliedSeq(seq(3));
    await first.log.close();
    const again = await opened({ fileSystem });
    expect(again.log.recovery.appliedSeq).toBe(7);
  });
});

test("a cut waits for the reads that are under way, and reads wait for the cut", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem, tailBytesMax: 1 });
  const texts = someTexts(500);
  for (const text of texts) appendText(log, text);
  await log.flush();
  const read = fileSystem.holdNext("read");
  const before = log.read(seq(2), 1000);
  await read.reached;
  const rename = fileSystem.holdNext("rename");
  const cut = log.cutAfter(seq(3));
  await turn();
  expect(log.lastSeq).toBe(500);
  const during = log.read(seq(2), 1000);
  read.release();
  expect([...decodeRecords(await before, true)][0]).toMatchObject({ seq: 3 });
  await rename.reached;
  rename.release();
  await cut;
  expect([...decodeRecords(await during, true)].map((record) => record.seq)).toEqual([3]);
});

test("a mark that waited while its segment was removed is refused like one that is asked for too late", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem, tailBytesMax: 1 });
  for (const text of someTexts(100)) appendText(log, text);
  await log.rotate();
  for (const text of someTexts(100, 101)) appendText(log, text);
  await log.flush();
  const remove = fileSystem.holdNext("remove");
  const compaction = log.truncateBelow(seq(100));
  await remove.reached;
  const mark = expect(log.mark(seq(50))).rejects.toMatchObject({ code: "out_of_range" });
  remove.release();
  await compaction;
  await mark;
  expect(await log.mark(seq(100))).toMatchObject({ seq: 100 });
});

test("a read that is under way in the last segment outlives the rotation that closes it", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem, tailBytesMax: 1 });
  const texts = someTexts(500);
  for (const text of texts) appendText(log, text);
  await log.flush();
  const read = fileSystem.holdNext("read");
  const slow = log.read(seq(2), 1000);
  await read.reached;
  // Writers do not wait for it either.
  await log.rotate();
  appendText(log, "in the next segment");
  await log.flush();
  read.release();
  expect([...decodeRecords(await slow, true)][0]).toMatchObject({ seq: 3 });
  expect((await textsOf(log)).slice(-2)).toEqual([texts.at(-1), "in the next segment"]);
});

test("nothing is appended while the log is being cut, which would be a bug of the caller", async () => {
  const { log } = await opened({});
  for (const text of someTexts(5)) appendText(log, text);
  const cut = log.cutAfter(seq(3));
  expect(() => appendText(log, "x")).toThrow("while the log is being cut");
  await cut;
  expect(appendText(log, "x")).toBe(4);
});

test("records that do not continue the log are refused, and nothing of them is taken", async () => {
  const master = await opened({});
  const replica = await opened({});
  const stranger = await opened({ clusterId: clusterId("f".repeat(32)) });
  for (const text of someTexts(20)) {
    appendText(master.log, text);
    appendText(stranger.log, text);
  }
  await Promise.all([master.log.flush(), stranger.log.flush()]);
  const all = Buffer.from(await master.log.read(seq(0), 100_000));
  const refusal = expect.objectContaining({ name: "WalError", code: "mismatch" });
  for (const at of [0, 9, 17, 35, 45, all.length - 1]) {
    const damaged = Buffer.from(all);
    damaged[at]! ^= 4;
    expect(() => replica.log.appendRecords(damaged), `byte ${at}`).toThrow(refusal);
  }
  expect(() => replica.log.appendRecords(all.subarray(0, all.length - 1))).toThrow(refusal);
  const foreign = Buffer.from(await stranger.log.read(seq(0), 100_000));
  expect(() => replica.log.appendRecords(foreign)).toThrow(refusal);
  const later = Buffer.from(await master.log.read(seq(1), 100_000));
  expect(() => replica.log.appendRecords(later)).toThrow("records do not continue the log after 0");
  expect(replica.log.lastSeq).toBe(0);

  expect(replica.log.appendRecords(all)).toBe(20);
  expect(() => replica.log.appendRecords(all)).toThrow(refusal);
  expect(replica.log.last).toEqual(master.log.last);
});

test("epochs and times do not go back, which would be a bug of the caller", async () => {
  const { log } = await opened({});
  log.append({ epoch: epoch(2), timestampMs: epochMs(50), payload: Buffer.from("a") });
  expect(() => log.append({ epoch: epoch(1), timestampMs: epochMs(60), payload: Buffer.from("b") })).toThrow(
    "goes back",
  );
  expect(() => log.append({ epoch: epoch(2), timestampMs: epochMs(49), payload: Buffer.from("b") })).toThrow(
    "goes back",
  );
  expect(log.append({ epoch: epoch(3), timestampMs: epochMs(50), payload: Buffer.from("b") })).toBe(2);
  expect(() => log.setAppliedSeq(seq(3))).toThrow("only what is in the log is applied");
});

test("a payload is copied, so that its owner may go on using it", async () => {
  const { log } = await opened({});
  const payload = Buffer.from("before");
  log.append({ epoch: epoch(1), timestampMs: epochMs(1), payload });
  payload.fill("x");
  await log.flush();
  expect(await textsOf(log)).toEqual(["before"]);
});

test("a closed log takes nothing more", async () => {
  const { log } = await opened({});
  appendText(log, "a");
  await log.close();
  const refusal = expect.objectContaining({ code: "closed" });
  expect(() => appendText(log, "b")).toThrow(refusal);
  expect(() => log.appendRecords(Buffer.from("b"))).toThrow(refusal);
  await expect(log.cutAfter(seq(0))).rejects.toMatchObject({ code: "closed" });
  await log.flush();
});

test("a log that is opened and closed without a change does not grow", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await opened({ fileSystem });
  appendText(log, "a");
  await log.close();
  const bytes = fileSystem.bytes(fileSystem.paths()[0]!);
  for (let i = 0; i < 3; i++) {
    const again = await openLog({ fileSystem });
    expect(again.log.recovery.cleanShutdown).toBe(true);
    await again.log.close();
  }
  expect(fileSystem.bytes(fileSystem.paths()[0]!)).toEqual(bytes);
});

function lastSeqIn(records: Buffer): number {
  return [...decodeRecords(records, true)].at(-1)?.seq ?? 0;
}

async function contentOf(fileSystem: FileSystem, path: string): Promise<Buffer> {
  const file = await fileSystem.open(path, "read");
  try {
    const bytes = Buffer.alloc(await file.size());
    await file.read(bytes, 0);
    return bytes;
  } finally {
    await file.close();
  }
}
