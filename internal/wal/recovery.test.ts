/** What opening makes of a log that did not end well. */
import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { crc32 } from "../base/crc32.js";
import { clusterId } from "../base/ids.js";
import { epoch, seq } from "../base/position.js";
import type { LogOptions } from "./log.js";
import { MemoryFileSystem, type CrashChoices } from "./memory-file-system.js";
import { segmentName, tornName } from "./segment-header.js";
import { appendText, openLog, SeededRandom, someTexts, textOf, textsOf, until, type TestLog } from "./testing/logs.js";

// Thousands of logs are opened here, and the machine may be busy with other things.
vi.setConfig({ testTimeout: 60_000 });

const FIRST = `wal/${segmentName(seq(1))}`;

interface WrittenLog {
  readonly fileSystem: MemoryFileSystem;
  readonly texts: readonly string[];
  /** Ends of the frames in the first segment: the header's, and then after each group. */
  readonly ends: readonly number[];
  /** Records in the log at each of these ends. */
  readonly counts: readonly number[];
}

/** A log of some groups of records, each synced, whose process was then killed. */
async function killedLog(groups: readonly number[], options: Partial<LogOptions> = {}): Promise<WrittenLog> {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, ...options });
  const ends = [log.sizeBytes];
  const counts = [0];
  const texts: string[] = [];
  for (const size of groups) {
    const group = someTexts(size, texts.length + 1);
    texts.push(...group);
    for (const text of group) appendText(log, text);
    await log.flush();
    ends.push(log.sizeBytes);
    counts.push(texts.length);
  }
  return { fileSystem: fileSystem.copy(), texts, ends, counts };
}

/** Opens a log and reads it, then appends, closes and opens it again: it must go on whatever happened to it. */
async function recovered(
  fileSystem: MemoryFileSystem,
  { recover, ...options }: Partial<LogOptions> = {},
): Promise<{ texts: string[]; log: TestLog["log"] }> {
  const replayed: string[] = [];
  const replay: LogOptions["replay"] = (record) => replayed.push(textOf(record));
  const { log } = await openLog({ fileSystem, ...options, ...(recover ? { recover } : {}), replay });
  const texts = await textsOf(log);
  expect(replayed).toEqual(texts);
  expect(log.recovery.records).toBe(texts.length);
  appendText(log, "after");
  await log.close();
  const again = await openLog({ fileSystem, ...options });
  expect(again.log.recovery).toMatchObject({ cleanShutdown: true, tornBytes: 0 });
  expect(await textsOf(again.log)).toEqual([...texts, "after"]);
  await again.log.close();
  return { texts, log };
}

function filesOf(fileSystem: MemoryFileSystem): Map<string, string> {
  return new Map(fileSystem.paths().map((path) => [path, fileSystem.bytes(path).toString("hex")]));
}

/** Expects that opening is refused and has changed no byte. */
async function expectRefused(
  fileSystem: MemoryFileSystem,
  refusal: Record<string, unknown>,
  options: Partial<LogOptions> = {},
): Promise<void> {
  const before = filesOf(fileSystem);
  await expect(openLog({ fileSystem, ...options })).rejects.toMatchObject({ name: "WalError", ...refusal });
  expect(filesOf(fileSystem)).toEqual(before);
}

describe("a log cut at any byte", () => {
  test("has the records of the frames wholly before the cut; what is dropped is saved and reported", async () => {
    const { fileSystem, texts, ends, counts } = await killedLog([1, 5, 3, 1, 2, 1]);
    const whole = fileSystem.bytes(FIRST);
    // Its header, and its last three frames.
    const cuts = [...range(0, 120), ...range(ends.at(-4)!, ends.at(-1)!)];
    for (const cut of cuts) {
      const image = fileSystem.copy();
      image.setBytes(FIRST, whole.subarray(0, cut));
      const frame = ends.findLastIndex((end) => end <= cut);
      const dropped = whole.subarray(frame < 0 ? 0 : ends[frame], cut);
      // No crash takes away a header that was synced before the segment had its name.
      if (frame < 0) await expectRefused(image, { code: "corrupt", file: FIRST, offset: 0 });
      const { texts: found, log } = await recovered(image, frame < 0 ? { recover: "truncate-tail" } : {});
      expect(found, `cut at ${cut}`).toEqual(texts.slice(0, frame < 0 ? 0 : counts[frame]));
      expect(log.recovery).toMatchObject({ tornBytes: dropped.length, cleanShutdown: false });
      if (dropped.length === 0) expect(log.recovery.tornFile).toBeUndefined();
      else expect(image.bytes(log.recovery.tornFile!), `cut at ${cut}`).toEqual(dropped);
    }
    expect(ends.at(-1)! - ends.at(-4)!).toBeGreaterThan(300);
  });

  test("is cut just so when it was closed in order", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem });
    const texts = someTexts(3);
    const ends: number[] = [];
    for (const text of texts) {
      appendText(log, text);
      await log.flush();
      ends.push(log.sizeBytes);
    }
    await log.close();
    const whole = fileSystem.bytes(FIRST);
    expect(whole.length).toBe(ends.at(-1)! + 40);
    for (const cut of range(ends[0]!, whole.length - 1)) {
      const image = fileSystem.copy();
      image.setBytes(FIRST, whole.subarray(0, cut));
      const { texts: found } = await recovered(image);
      expect(found, `cut at ${cut}`).toEqual(texts.slice(0, ends.findLastIndex((end) => end <= cut) + 1));
    }
  });

  test("never loses a record of an earlier segment", async () => {
    const { fileSystem, texts } = await killedLog([4, 4, 4, 4, 4, 4], { segmentBytesMax: 1024 });
    const last = fileSystem.paths().findLast((path) => path.endsWith(".wal"))!;
    const whole = fileSystem.bytes(last);
    const before = Number(/(\d+)\.wal/.exec(last)![1]) - 1;
    expect(before).toBeGreaterThan(8);
    for (const cut of range(0, 130)) {
      const image = fileSystem.copy();
      image.setBytes(last, whole.subarray(0, cut));
      const { texts: found, log } = await recovered(image, { segmentBytesMax: 1024 });
      expect(found, `cut at ${cut}`).toEqual(texts.slice(0, before));
      const dropped = whole.subarray(cut < 80 ? 0 : 80, cut);
      expect(log.recovery.tornBytes).toBe(dropped.length);
      if (dropped.length > 0) expect(image.bytes(log.recovery.tornFile!), `cut at ${cut}`).toEqual(dropped);
    }
  });
});

test("a log larger than what is read at once is read, judged and cut like a small one", async () => {
  const fileSystem = new MemoryFileSystem();
  const options = { segmentBytesMax: 100_000_000 };
  const { log } = await openLog({ fileSystem, ...options });
  const ends: number[] = [];
  for (let i = 0; i < 12; i++) {
    for (let j = 0; j < 500; j++) appendText(log, `${i} ${j} `.padEnd(1000, "x"));
    await log.flush();
    ends.push(log.sizeBytes);
  }
  await log.close();
  const whole = fileSystem.bytes(FIRST);
  expect(whole.length).toBeGreaterThan(6_000_000);
  let replayed = 0;
  const again = await openLog({ fileSystem, ...options, replay: (record) => (replayed += record.payload.length) });
  expect(replayed).toBe(6_000_000);
  expect(Buffer.from((await again.log.read(seq(5999), 1)).subarray(40, 47)).toString()).toBe("11 499 ");

  const [first, last] = [ends[0]!, ends[10]!];
  for (const [at, cause] of [
    [first + 100_000, "proves that this one was synced"],
    [whole.length - 30, "all its sectors were written"],
  ] as const) {
    const image = fileSystem.copy();
    image.setBytes(FIRST, Buffer.from(whole).fill(whole[at]! ^ 1, at, at + 1));
    await expect(openLog({ fileSystem: image, ...options })).rejects.toThrow(cause);
  }
  for (const cut of [last + 20, last + 300_000, 2 * 1024 * 1024, 2 * 1024 * 1024 + 39, 4 * 1024 * 1024 - 1]) {
    const image = fileSystem.copy();
    image.setBytes(FIRST, whole.subarray(0, cut));
    const { log: opened } = await openLog({ fileSystem: image, ...options });
    const groups = ends.findLastIndex((end) => end <= cut) + 1;
    expect(opened.recovery.records).toBeGreaterThanOrEqual(groups * 500);
    expect(opened.recovery.records).toBeLessThan((groups + 1) * 500);
    expect(image.bytes(opened.recovery.tornFile!).length).toBe(opened.recovery.tornBytes);
  }
});

describe("any bit flipped", () => {
  test("in a log that was closed is refused, with nothing changed; in an index it is put right", async () => {
    const fileSystem = new MemoryFileSystem();
    const options = { segmentBytesMax: 256 };
    const { log } = await openLog({ fileSystem, ...options });
    const texts = ["one", "t", "three"];
    for (const text of texts) {
      appendText(log, text);
      await log.flush();
    }
    await log.close();
    const paths = fileSystem.paths();
    expect(paths.map((path) => path.slice(-8))).toEqual(["01.index", "0001.wal", "0003.wal"]);

    for (const path of paths) {
      const sound = fileSystem.bytes(path);
      for (let bit = 0; bit < sound.length * 8; bit++) {
        const image = fileSystem.copy();
        const bytes = Buffer.from(sound);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        image.setBytes(path, bytes);
        if (path.endsWith(".wal")) {
          const offset = expect.any(Number);
          const error: unknown = await openLog({ fileSystem: image, ...options }).catch((error: unknown) => error);
          expect(error, `${path} bit ${bit}`).toMatchObject({ code: "corrupt", file: path, offset });
          expect(image.bytes(path).equals(bytes)).toBe(true);
          expect(image.paths()).toEqual(paths);
        } else {
          const again = await openLog({ fileSystem: image, ...options });
          expect(await textsOf(again.log)).toEqual(texts);
          expect(image.bytes(path).equals(sound), `${path} bit ${bit}`).toBe(true);
        }
      }
    }
  });

  test("in a log whose process was killed never loses a record that was synced", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock } = await openLog({ fileSystem });
    for (const text of ["one", "two", "three"]) {
      appendText(log, text);
      await log.flush();
    }
    // The idle log proves its last sync.
    const size = log.sizeBytes;
    clock.advance(50);
    await until(() => log.sizeBytes > size);
    const sound = fileSystem.bytes(FIRST);
    let refused = 0;
    for (let bit = 0; bit < (log.sizeBytes + 50) * 8; bit++) {
      const image = fileSystem.copy();
      const bytes = Buffer.from(sound);
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      image.setBytes(FIRST, bytes);
      try {
        const again = await openLog({ fileSystem: image });
        expect(await textsOf(again.log), `bit ${bit}`).toEqual(["one", "two", "three"]);
      } catch (error) {
        expect(error, `bit ${bit}`).toMatchObject({ code: "corrupt" });
        expect(image.bytes(FIRST).equals(bytes)).toBe(true);
        refused++;
      }
    }
    // Where a frame's header would come next, a bit that is not zero counts as damage too.
    expect(refused).toBe((log.sizeBytes + 40) * 8);
  });
});

describe("after a power cut in the middle of a write", () => {
  test("what was synced is there, whichever sectors of the write survived", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, listener } = await openLog({ fileSystem });
    const synced = someTexts(7);
    for (const text of synced) appendText(log, text);
    await log.flush();
    const hold = fileSystem.holdNext("datasync");
    const unsynced = someTexts(30, 8);
    for (const text of unsynced) appendText(log, text);
    await hold.reached;
    expect(listener).toMatchObject({ writtenSeq: 37, keptSeq: 7 });
    const firstSector = Math.floor(fileSystem.bytes(FIRST).indexOf("record 8 ") / 512);
    const sectors = Math.floor(log.sizeBytes / 512) - firstSector + 1;
    expect(sectors).toBeGreaterThan(4);

    const outcomes = new Map<number, number>();
    for (let subset = 0; subset < 2 ** sectors; subset++) {
      for (const keepsSize of [true, false]) {
        const sector: CrashChoices["sector"] = (_path, sector, versions) =>
          (subset >> (sector - firstSector)) & 1 ? versions : 0;
        const image = fileSystem.crash({ sector, keepsSize: () => keepsSize });
        const { texts } = await recovered(image);
        expect(texts, `sectors ${subset.toString(2)}`).toEqual([...synced, ...unsynced].slice(0, texts.length));
        outcomes.set(texts.length, (outcomes.get(texts.length) ?? 0) + 1);
      }
    }
    // All of the write or nothing of it; and all of it when all its sectors survived.
    expect([...outcomes.keys()].sort()).toEqual([37, 7]);
    hold.release();
    await log.close();
  });

  test("it is a beginning of what was written, whichever versions of the sectors of several writes survived", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock } = await openLog({ fileSystem, durability: "interval", segmentBytesMax: 100_000 });
    const texts = someTexts(60);
    for (const [i, text] of texts.entries()) {
      appendText(log, text);
      if (i % 3 === 0) await until(() => log.writtenSeq === i + 1);
      if (i === 9) {
        clock.advance(100);
        await until(() => log.syncedSeq === 10);
      }
    }
    await until(() => log.writtenSeq === 60);
    expect(log.syncedSeq).toBe(10);
    const lengths = new Set<number>();
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.boolean(), async (seed, keepsSize) => {
        const random = new SeededRandom(seed);
        const sector: CrashChoices["sector"] = (_path, _sector, versions) => random.bytes(1)[0]! % (versions + 1);
        const image = fileSystem.crash({ sector, keepsSize: () => keepsSize });
        const { texts: found } = await recovered(image);
        expect(found).toEqual(texts.slice(0, Math.max(10, found.length)));
        lengths.add(found.length);
      }),
      { numRuns: 200 },
    );
    expect(lengths.size).toBeGreaterThan(2);
    await log.close();
  });

  test("a frame that nothing proves and that was written whole is damaged, not torn", async () => {
    const { fileSystem, ends } = await killedLog([3, 3]);
    const bytes = fileSystem.bytes(FIRST);
    bytes[ends[1]! + 60]! ^= 1;
    fileSystem.setBytes(FIRST, bytes);
    await expectRefused(fileSystem, { code: "corrupt", file: FIRST, offset: ends[1] });
    await expect(openLog({ fileSystem })).rejects.toThrow(
      /the frame after record 3 is not what was written, and all its sectors were written.*expected body CRC \d+, found \d+/,
    );
  });

  test("a sector that is lost from a frame which a later one proves is damage", async () => {
    const { fileSystem, ends } = await killedLog([10, 40, 1, 1]);
    const bytes = fileSystem.bytes(FIRST);
    const sector = Math.ceil(ends[1]! / 512) * 512;
    bytes.fill(0, sector, sector + 512);
    fileSystem.setBytes(FIRST, bytes);
    await expectRefused(fileSystem, { code: "corrupt", file: FIRST, offset: ends[1] });
    // Without the frames that prove it, it is torn.
    fileSystem.setBytes(FIRST, bytes.subarray(0, ends[2]));
    const { texts } = await recovered(fileSystem);
    expect(texts).toHaveLength(10);
  });

  test("a value that looks like a frame proves nothing", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem });
    const texts = someTexts(9);
    for (const text of texts) appendText(log, text);
    await log.flush();
    const end = log.sizeBytes;
    appendText(log, "proof");
    await log.flush();
    // A real frame of this very file, which says that all before it is synced, many times inside a value.
    const proof = fileSystem.bytes(FIRST).subarray(end, log.sizeBytes).toString("latin1").repeat(20);
    const hold = fileSystem.holdNext("datasync");
    const payload = Buffer.from(proof, "latin1");
    log.append({ epoch: epoch(1), timestampMs: log.lastTimestampMs, payload });
    await hold.reached;
    const oddSectors: CrashChoices["sector"] = (_path, sector, versions) => (sector % 2 ? versions : 0);
    const image = fileSystem.crash({ sector: oddSectors, keepsSize: () => true });
    expect(image.bytes(FIRST).indexOf(payload.subarray(0, 85), end + 85)).toBeGreaterThan(0);
    expect((await recovered(image)).texts).toEqual([...texts, "proof"]);
    hold.release();
    await log.close();
  });
});

describe("what may not have reached the disk", () => {
  test("after a sync that failed is copied and synced before the log serves", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, listener } = await openLog({ fileSystem });
    const texts = someTexts(20);
    for (const text of texts.slice(0, 12)) appendText(log, text);
    await log.flush();
    fileSystem.failNext("datasync", "EIO");
    for (const text of texts.slice(12)) appendText(log, text);
    await expect(log.flush()).rejects.toMatchObject({ code: "failed" });
    expect(listener.keptSeq).toBe(12);
    await log.close();

    // The next process reads the records well, but no sync would bring them to the disk where they stand.
    const next = fileSystem.copy();
    expect(next.crash().bytes(FIRST).includes("record 13 ")).toBe(false);
    const again = await openLog({ fileSystem: next });
    expect(again.log.recovery).toMatchObject({ records: 20, syncedSeq: 12, cleanShutdown: false, tornBytes: 0 });
    expect(next.paths()).toContain(`wal/${segmentName(seq(13))}`);
    const afterPowerCut = await openLog({ fileSystem: next.crash() });
    expect(await textsOf(afterPowerCut.log)).toEqual(texts);
    expect(afterPowerCut.log.recovery).toMatchObject({ syncedSeq: 20, tornBytes: 0 });
  });

  test("is not copied when it is proven, and a mark whose sync failed is written again", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem });
    // The mark ends with its sector, so that nothing that comes after it writes that sector again.
    const text = "x".repeat(512 - 80 - 40 - 40 - 40);
    appendText(log, text);
    await log.flush();
    fileSystem.failNext("datasync", "EIO");
    await expect(log.close()).rejects.toMatchObject({ code: "failed" });
    expect(log.sizeBytes).toBe(512);
    const next = fileSystem.copy();
    const again = await openLog({ fileSystem: next });
    expect(again.log.recovery).toMatchObject({ cleanShutdown: true, syncedSeq: 1 });
    appendText(again.log, "after");
    await again.log.flush();
    expect(next.paths()).toEqual([FIRST]);
    const { texts } = await recovered(next.crash());
    expect(texts).toEqual([text, "after"]);
  });

  test("is written again where it stays before what is copied: nothing that comes after it there would write it", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log, clock } = await openLog({ fileSystem });
    // The frame that proves it, without records, ends with its sector.
    const text = "x".repeat(512 - 80 - 40 - 40 - 40);
    appendText(log, text);
    await log.flush();
    clock.advance(50);
    await until(() => fileSystem.bytes(FIRST).indexOf(0, 512 - 40) > 0 && log.sizeBytes === 512);
    fileSystem.failNext("datasync", "EIO");
    appendText(log, "lost");
    await expect(log.flush()).rejects.toMatchObject({ code: "failed" });
    await log.close();

    const next = fileSystem.copy();
    const again = await openLog({ fileSystem: next });
    expect(next.paths()).toContain(`wal/${segmentName(seq(2))}`);
    // What was copied goes, and the old segment is the last once more.
    await again.log.cutAfter(seq(1));
    appendText(again.log, "after");
    await again.log.flush();
    expect(next.paths()).not.toContain(`wal/${segmentName(seq(2))}`);
    expect((await recovered(next.crash())).texts).toEqual([text, "after"]);
  });

  test.each([
    ["within a segment", 100_000],
    ["a whole segment", 6000],
  ])("survives a crash at any moment of being copied: %s", async (_what, segmentBytesMax) => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem, durability: "os", segmentBytesMax });
    const texts = someTexts(100);
    for (const text of texts.slice(0, 40)) appendText(log, text);
    await log.flush();
    for (const text of texts.slice(40)) appendText(log, text);
    await until(() => log.writtenSeq === 100);
    expect(log.syncedSeq).toBeLessThan(90);
    const killed = fileSystem.copy();
    const images = imagesDuring(killed);
    const again = await openLog({ fileSystem: killed, segmentBytesMax });
    expect(await textsOf(again.log)).toEqual(texts);
    const lengths = new Set<number>();
    for (const { fileSystem: image } of images()) {
      // What the new segment took over does not come back when that is cut off again.
      const other = image.copy();
      const { log: cut } = await openLog({ fileSystem: other, segmentBytesMax });
      await cut.cutAfter(seq(40));
      appendText(cut, "other");
      await cut.flush();
      const { texts: cutTexts } = await recovered(other.copy(), { segmentBytesMax });
      expect(cutTexts).toEqual([...texts.slice(0, 40), "other"]);
      const { texts: found } = await recovered(image, { segmentBytesMax });
      expect(found).toEqual(texts.slice(0, Math.max(log.syncedSeq, found.length)));
      lengths.add(found.length);
    }
    expect(lengths).toContain(100);
    const { texts: found } = await recovered(killed.crash(), { segmentBytesMax });
    expect(found).toEqual(texts);
  });

  test("is a name as well: what a killed process had renamed is durable before the log serves", async () => {
    const fileSystem = new MemoryFileSystem();
    const options = { segmentBytesMax: 256 };
    const { log } = await openLog({ fileSystem, ...options });
    appendText(log, "x".repeat(90));
    await log.flush();
    const sync = fileSystem.holdNext("syncDirectory");
    appendText(log, "y".repeat(90));
    await sync.reached;
    const next = fileSystem.copy();
    expect(segmentsOf(next)).toHaveLength(2);
    const again = await openLog({ fileSystem: next, ...options });
    appendText(again.log, "z");
    await again.log.flush();
    expect((await recovered(next.crash(), options)).texts).toEqual(["x".repeat(90), "z"]);
    sync.release();
    await log.close();
  });
});

test("a new segment proves the one before it, even when nothing is in it yet", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log, clock } = await openLog({ fileSystem, durability: "os" });
  for (const text of someTexts(5)) appendText(log, text);
  await until(() => log.writtenSeq === 5);
  log.setAppliedSeq(seq(4));
  await log.rotate();
  const killed = await openLog({ fileSystem: fileSystem.copy() });
  expect(killed.log.recovery).toMatchObject({ records: 5, syncedSeq: 5, cleanShutdown: false });
  // And gone idle, it says what the one before said, which may be removed.
  clock.advance(50);
  await until(() => fileSystem.bytes(`wal/${segmentName(seq(6))}`).length === 120);
  await log.truncateBelow(seq(5));
  const again = await openLog({ fileSystem: fileSystem.copy() });
  expect(again.log.recovery).toMatchObject({ records: 0, syncedSeq: 5, appliedSeq: 4 });
  await log.close();
});

test("a cut of the log survives a crash at any of its moments: it ends where it did, or where it was cut, or between", async () => {
  const options = { segmentBytesMax: 1500 };
  for (const last of [1, 3, 4, 5, 11, 28]) {
    const { fileSystem, texts } = await killedLog(Array<number>(15).fill(2), options);
    const { log } = await openLog({ fileSystem, ...options });
    const images = imagesDuring(fileSystem);
    await log.cutAfter(seq(last), "diverged.log");
    const lengths = new Set<number>();
    for (const { fileSystem: image } of images()) {
      const { texts: found } = await recovered(image, options);
      expect(found.length).toBeGreaterThanOrEqual(last);
      expect(found).toEqual(texts.slice(0, found.length));
      lengths.add(found.length);
      // Nothing is cut before it is saved.
      if (found.length < 30) expect(image.paths()).toContain("diverged.log");
    }
    expect(lengths.has(30)).toBe(true);
    expect((await recovered(fileSystem.crash(), options)).texts).toEqual(texts.slice(0, last));
  }
});

test("a rotation survives a crash at any of its moments", async () => {
  const options = { segmentBytesMax: 1024, durability: "os" } as const;
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, ...options });
  const texts = someTexts(40);
  const images = imagesDuring(fileSystem, () => log.syncedSeq);
  for (const text of texts) {
    appendText(log, text);
    await until(() => log.writtenSeq === log.lastSeq);
  }
  await log.close();
  expect(fileSystem.paths().length).toBeGreaterThan(6);
  for (const { fileSystem: image, floor } of images()) {
    const { texts: found } = await recovered(image, options);
    expect(found.length).toBeGreaterThanOrEqual(floor);
    expect(found).toEqual(texts.slice(0, found.length));
  }
});

describe("refused with no byte changed", () => {
  const options = { segmentBytesMax: 1024 };

  async function threeSegments(): Promise<MemoryFileSystem> {
    const { fileSystem } = await killedLog([5, 5, 5, 5, 5], options);
    expect(segmentsOf(fileSystem).length).toBeGreaterThan(2);
    return fileSystem;
  }

  test("a log with a segment missing", async () => {
    const fileSystem = await threeSegments();
    await fileSystem.remove(segmentsOf(fileSystem)[1]!);
    await expectRefused(fileSystem, { code: "corrupt", file: segmentsOf(fileSystem)[1] }, options);
    await expect(openLog({ fileSystem })).rejects.toThrow("one between them may be missing");
  });

  test("a log whose segments have each other's names", async () => {
    const fileSystem = await threeSegments();
    const [, second, third] = segmentsOf(fileSystem);
    const bytes = fileSystem.bytes(second!);
    fileSystem.setBytes(second!, fileSystem.bytes(third!));
    fileSystem.setBytes(third!, bytes);
    await expectRefused(fileSystem, { code: "corrupt", file: second, expected: third!.slice(4) }, options);
  });

  test("a log with another history's segment in its place", async () => {
    const fileSystem = await threeSegments();
    const last = segmentsOf(fileSystem).at(-1)!;
    const other = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem: other, ...options });
    // The same lengths, so that the same seqs begin the segments; only the chains differ.
    for (let i = 0; i < 25; i += 5) {
      for (const text of someTexts(5, i + 1)) appendText(log, text.toUpperCase());
      await log.flush();
    }
    expect(segmentsOf(other)).toEqual(segmentsOf(fileSystem));
    fileSystem.setBytes(last, other.bytes(last));
    await expectRefused(fileSystem, { code: "corrupt", file: last, offset: 0 }, options);
  });

  test("a log of a newer format, whatever else is wrong with it, even when told to cut", async () => {
    const fileSystem = await threeSegments();
    const [first, second] = segmentsOf(fileSystem);
    const newer = fileSystem.bytes(second!);
    newer.writeUInt32LE(2, 8);
    newer.writeUInt32LE(crc32(newer.subarray(16, 80), crc32(newer.subarray(0, 12))), 12);
    fileSystem.setBytes(second!, newer);
    const damaged = fileSystem.bytes(first!);
    damaged[100]! ^= 1;
    fileSystem.setBytes(first!, damaged);
    const refusal = { code: "newer_format", file: second, expected: "format version 1 or lower", found: "2" };
    await expectRefused(fileSystem, refusal, options);
    await expectRefused(fileSystem, refusal, { ...options, recover: "truncate-tail" });
  });

  test("a log of another cluster", async () => {
    const fileSystem = await threeSegments();
    const other = clusterId("f".repeat(32));
    await expectRefused(fileSystem, { code: "foreign_cluster", expected: other }, { ...options, clusterId: other });
  });

  test("no log where one must be, and an index without its segment", async () => {
    await expectRefused(new MemoryFileSystem(), { code: "corrupt", file: "wal" }, { mustExist: true });
    const fileSystem = await threeSegments();
    for (const path of segmentsOf(fileSystem)) await fileSystem.remove(path);
    await expectRefused(fileSystem, { code: "corrupt", file: "wal" }, options);
  });

  test("a log whose only segment has lost its header, which it had before its name; told to cut, it begins anew", async () => {
    for (const bytes of [Buffer.alloc(0), Buffer.alloc(10, "x"), Buffer.alloc(5000)]) {
      const fileSystem = new MemoryFileSystem();
      fileSystem.setBytes(FIRST, bytes);
      const refusal = { code: "corrupt", file: FIRST, offset: 0, expected: "a header" };
      await expectRefused(fileSystem, refusal);
      // Who knows that there was a log does not take an empty one for it, not even when told to cut.
      await expectRefused(fileSystem, refusal, { mustExist: true, recover: "truncate-tail" });
      expect((await recovered(fileSystem, { recover: "truncate-tail" })).texts).toEqual([]);
      const saved = fileSystem.paths().filter((path) => path.endsWith(".torn"));
      expect(saved).toEqual(bytes.length > 0 ? [`wal/${tornName(seq(1), 0)}`] : []);
    }
  });

  test("a log whose last segment was zeroed; told to cut, it saves it and goes on", async () => {
    const fileSystem = new MemoryFileSystem();
    const { log } = await openLog({ fileSystem, ...options });
    const texts = someTexts(8);
    for (const text of texts.slice(0, 5)) appendText(log, text);
    await log.flush();
    await log.rotate();
    for (const text of texts.slice(5)) appendText(log, text);
    await log.flush();
    await log.close();
    const [, last, ...others] = segmentsOf(fileSystem);
    expect([last, ...others]).toEqual([`wal/${segmentName(seq(6))}`]);
    const whole = fileSystem.bytes(last!);
    for (const harmed of [Buffer.alloc(80), Buffer.alloc(whole.length)]) {
      const image = fileSystem.copy();
      image.setBytes(last!, harmed);
      const found = `${harmed.length} bytes without one`;
      await expectRefused(image, { code: "corrupt", file: last, offset: 0, expected: "a header", found }, options);
      const { texts: kept, log: again } = await recovered(image, { ...options, recover: "truncate-tail" });
      expect(kept).toEqual(texts.slice(0, 5));
      expect(again.recovery).toMatchObject({ tornBytes: harmed.length, cleanShutdown: false });
      const saved = [`wal/${tornName(seq(6), 0)}`];
      expect(image.paths().filter((path) => path.endsWith(".torn"))).toEqual(saved);
      for (const path of saved) expect(image.bytes(path)).toEqual(harmed);
    }
  });

  test("a segment with a zeroed header and frames after it", async () => {
    const { fileSystem } = await killedLog([3]);
    const bytes = fileSystem.bytes(FIRST);
    fileSystem.setBytes(FIRST, bytes.fill(0, 0, 80));
    await expectRefused(fileSystem, { code: "corrupt", file: FIRST, offset: 0 });
  });

  test("a disk that cannot be read", async () => {
    const fileSystem = await threeSegments();
    fileSystem.failNext("read", "EIO", { after: 3 });
    await expectRefused(fileSystem, { code: "io" }, options);
    fileSystem.failNext("list", "EACCES");
    await expectRefused(fileSystem, { code: "io" }, options);
    expect((await recovered(fileSystem, options)).texts).toHaveLength(25);
  });
});

test("zeros end a log only when nothing else comes after them", async () => {
  const { fileSystem, ends } = await killedLog([3, 3]);
  const bytes = fileSystem.bytes(FIRST);
  expect(bytes.length).toBeGreaterThan(ends[2]! + 10_000);
  bytes[bytes.length - 1] = 1;
  fileSystem.setBytes(FIRST, bytes);
  const { texts, log } = await recovered(fileSystem);
  expect(texts).toHaveLength(6);
  // Unproven and with sectors that were never written: torn, and saved with the byte that should not be there.
  expect(log.recovery.tornBytes).toBe(bytes.length - ends[2]!);
  expect(fileSystem.bytes(log.recovery.tornFile!).at(-1)).toBe(1);
});

test("what a crash left unfinished beside the log is removed, and strangers' files are let alone", async () => {
  const { fileSystem } = await killedLog([3]);
  for (const name of ["00000000000000000004.wal.new", "00000000000000000009.index", "notes.txt", "x.wal"]) {
    fileSystem.setBytes(`wal/${name}`, Buffer.from("?"));
  }
  expect((await recovered(fileSystem)).texts).toHaveLength(3);
  const names = await fileSystem.list("wal");
  expect(names).toContain("notes.txt");
  expect(names).toContain("x.wal");
  expect(names.filter((name) => name.endsWith(".new") || name.endsWith(".index"))).toEqual([]);
});

describe("told to cut a damaged log", () => {
  const options = { segmentBytesMax: 1024, recover: "truncate-tail" } as const;

  test("it keeps what comes before the damage, and saves the rest", async () => {
    const { fileSystem, texts } = await killedLog([5, 5, 5, 5, 5, 5], { segmentBytesMax: 1024 });
    const [first, second, ...later] = segmentsOf(fileSystem);
    const before = filesOf(fileSystem);
    const bytes = fileSystem.bytes(second!);
    bytes[bytes.indexOf("record") + 2]! ^= 1;
    fileSystem.setBytes(second!, bytes);
    await expectRefused(fileSystem, { code: "corrupt", file: second }, { segmentBytesMax: 1024 });

    const { texts: found, log } = await recovered(fileSystem, options);
    const kept = Number(/(\d+)\.wal/.exec(second!)![1]) - 1;
    expect(found).toEqual(texts.slice(0, kept));
    expect(log.recovery.cleanShutdown).toBe(false);
    expect(fileSystem.bytes(first!).toString("hex")).toBe(before.get(first!));
    const saved = fileSystem.paths().filter((path) => path.includes(".torn"));
    expect(saved).toHaveLength(later.length + 1);
    expect(fileSystem.bytes(second!.replace(".wal", ".80.torn")).equals(bytes.subarray(80))).toBe(true);
    for (const path of later) {
      expect(fileSystem.bytes(path.replace(".wal", ".0.torn")).toString("hex")).toBe(before.get(path));
    }
    const sizes = saved.reduce((sum, path) => sum + fileSystem.bytes(path).length, 0);
    expect(log.recovery.tornBytes).toBe(sizes);
  });

  test("it keeps everything before a segment whose header is damaged or that is missing", async () => {
    for (const harm of ["header", "missing"]) {
      const { fileSystem, texts } = await killedLog([5, 5, 5, 5, 5, 5], { segmentBytesMax: 1024 });
      const second = segmentsOf(fileSystem)[1]!;
      if (harm === "missing") await fileSystem.remove(second);
      else fileSystem.setBytes(second, fileSystem.bytes(second).fill(7, 20, 30));
      const { texts: found } = await recovered(fileSystem, options);
      expect(found).toEqual(texts.slice(0, Number(/(\d+)\.wal/.exec(second)![1]) - 1));
    }
  });

  test("it does not give up the whole log because its first header is damaged", async () => {
    const { fileSystem } = await killedLog([5, 5], { segmentBytesMax: 1024 });
    fileSystem.setBytes(FIRST, fileSystem.bytes(FIRST).fill(7, 20, 30));
    await expectRefused(fileSystem, { code: "corrupt", file: FIRST, offset: 0 }, options);
  });

  test("it leaves a sound log as it is", async () => {
    const { fileSystem, texts } = await killedLog([5, 5]);
    const { texts: found, log } = await recovered(fileSystem, { recover: "truncate-tail" });
    expect(found).toEqual(texts);
    expect(log.recovery.tornBytes).toBe(0);
  });
});

function segmentsOf(fileSystem: MemoryFileSystem): string[] {
  return fileSystem.paths().filter((path) => path.endsWith(".wal"));
}

interface Image {
  readonly fileSystem: MemoryFileSystem;
  /** The highest of what `floor` said while a power cut would have left this. */
  floor: number;
}

/** What a power cut could leave, before each operation from now on; each of it once. */
function imagesDuring(fileSystem: MemoryFileSystem, floor: () => number = () => 0): () => Iterable<Image> {
  const images = new Map<string, Image>();
  const latest = (_path: string, _sector: number, versions: number): number => versions;
  const odd = (_path: string, sector: number, versions: number): number => (sector % 2 ? versions : 0);
  const newest = { keepsSize: () => true, names: (changes: number) => changes };
  const choices: CrashChoices[] = [
    {},
    { names: newest.names },
    { ...newest, sector: latest },
    { ...newest, sector: odd },
  ];
  fileSystem.onOperation = () => {
    for (const choice of choices) {
      const image = fileSystem.crash(choice);
      const key = JSON.stringify([...filesOf(image)]);
      const known = images.get(key) ?? { fileSystem: image, floor: 0 };
      known.floor = Math.max(known.floor, floor());
      images.set(key, known);
    }
  };
  return () => images.values();
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
