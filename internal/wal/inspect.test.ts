/** What looking at a log says of it, sound, torn, damaged, or being written to. */
import { expect, test } from "vitest";
import { crc32 } from "../base/crc32.js";
import { clusterId } from "../base/ids.js";
import { seq } from "../base/position.js";
import { inspectLog, type LogInspection, type LogInspectionOptions } from "./inspect.js";
import type { LogOptions } from "./log.js";
import { MemoryFileSystem } from "./memory-file-system.js";
import { readLog } from "./read-log.js";
import { ReadOnlyFileSystem } from "./read-only-file-system.js";
import { encodeSegmentHeader, indexName, segmentName } from "./segment-header.js";
import { decodeSegmentHeader } from "./segment-header.js";
import { appendText, CLUSTER, openLog, someTexts, textOf } from "./testing/logs.js";

const FIRST = `wal/${segmentName(seq(1))}`;

/** A log of several segments; closed in order unless it is to be as a killed process leaves it. */
async function madeLog({ killed = false, ...options }: Partial<LogOptions> & { killed?: boolean } = {}): Promise<{
  fileSystem: MemoryFileSystem;
  texts: string[];
  segments: string[];
}> {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, segmentBytesMax: 1024, ...options });
  const texts = someTexts(40);
  for (const text of texts) {
    appendText(log, text);
    await log.flush();
  }
  const left = killed ? fileSystem.copy() : fileSystem;
  await log.close();
  return { fileSystem: left, texts, segments: left.paths().filter((path) => path.endsWith(".wal")) };
}

function inspect(fileSystem: MemoryFileSystem, options: Partial<LogInspectionOptions> = {}): Promise<LogInspection> {
  return inspectLog({
    fileSystem,
    directory: "wal",
    isHeld: () => Promise.resolve(false),
    pause: () => Promise.resolve(),
    ...options,
  });
}

const held = { isHeld: () => Promise.resolve(true) };

function flipped(fileSystem: MemoryFileSystem, path: string, at: number, bit = 0): MemoryFileSystem {
  const copy = fileSystem.copy();
  const bytes = copy.bytes(path);
  bytes[at]! ^= 1 << bit;
  copy.setBytes(path, bytes);
  return copy;
}

function contentOf(fileSystem: MemoryFileSystem): Map<string, Buffer> {
  return new Map(fileSystem.paths().map((path) => [path, fileSystem.bytes(path)]));
}

test("a log that was closed in order is sound, and is told segment by segment", async () => {
  const { fileSystem, texts, segments } = await madeLog();
  const seen: string[] = [];
  const inspection = await inspect(fileSystem, { visitor: () => (record) => void seen.push(textOf(record)) });
  expect(inspection).toMatchObject({ clusterId: CLUSTER, before: { seq: 0 }, end: { seq: 40 }, findings: [] });
  expect(seen).toEqual(texts);
  expect(inspection.segments.map(({ file }) => file)).toEqual(segments);
  expect(segments.length).toBeGreaterThan(3);
  let next = 1;
  for (const segment of inspection.segments) {
    expect(segment).toMatchObject({ firstSeq: next, records: segment.lastSeq - next + 1 });
    expect(segment.dataBytes).toBe(segment.bytes);
    next = segment.lastSeq + 1;
  }
  expect(inspection.segments.map(({ clean }) => clean)).toEqual([...segments.slice(1).map(() => false), true]);
  expect(inspection.segments.at(-1)).toMatchObject({ syncedSeq: 40 });
});

test("looking changes nothing, and could not", async () => {
  const { fileSystem } = await madeLog({ killed: true });
  const before = contentOf(fileSystem);
  const operations = new Set<string>();
  fileSystem.onOperation = (operation) => operations.add(operation);
  await inspect(fileSystem);
  await readLog({ fileSystem, directory: "wal", afterSeq: 0, visit: () => Promise.resolve(true) });
  expect([...operations].sort()).toEqual(["list", "open", "read"]);
  expect(contentOf(fileSystem)).toEqual(before);

  const readOnly = new ReadOnlyFileSystem(fileSystem);
  const file = await readOnly.open(FIRST, "read");
  const refused = { code: "EROFS" };
  await expect(readOnly.open(FIRST, "write")).rejects.toMatchObject(refused);
  await expect(readOnly.open("wal/new", "create")).rejects.toMatchObject(refused);
  await expect(readOnly.remove(FIRST)).rejects.toMatchObject(refused);
  await expect(readOnly.rename(FIRST, "x")).rejects.toMatchObject(refused);
  await expect(readOnly.makeDirectory("x")).rejects.toMatchObject(refused);
  await expect(readOnly.syncDirectory("wal")).rejects.toMatchObject(refused);
  await expect(readOnly.lock()).rejects.toMatchObject(refused);
  await expect(file.write(Buffer.alloc(1), 0)).rejects.toMatchObject(refused);
  await expect(file.truncate(0)).rejects.toMatchObject(refused);
  await expect(file.datasync()).rejects.toMatchObject(refused);
  await file.close();
});

test("a torn end is told as what the next start repairs, and as in flight while the directory is held", async () => {
  const { fileSystem, segments } = await madeLog({ killed: true, durability: "os" });
  const last = segments.at(-1)!;
  const [{ dataBytes }] = (await inspect(fileSystem)).segments.slice(-1) as [LogInspection["segments"][number]];
  fileSystem.setBytes(last, fileSystem.bytes(last).subarray(0, dataBytes - 3));
  const torn = await inspect(fileSystem);
  expect(torn.findings).toMatchObject([{ kind: "torn", file: last }]);
  expect(torn.end!.seq).toBe(39);
  let asked = 0;
  const running = await inspect(fileSystem, { ...held, pause: () => Promise.resolve(void asked++) });
  expect(running.findings).toMatchObject([{ kind: "in_flight", file: last, offset: torn.findings[0]!.offset! }]);
  expect(asked).toBe(0);
});

test("every flipped bit of the first segment is found, at the frame that has it", async () => {
  const { fileSystem } = await madeLog();
  const size = fileSystem.bytes(FIRST).length;
  for (let at = 0; at < size; at++) {
    const { findings } = await inspect(flipped(fileSystem, FIRST, at, at % 8));
    expect(findings, `byte ${at}`).toMatchObject([{ kind: "corrupt", file: FIRST }]);
    expect(findings[0]!.offset).toBeLessThanOrEqual(at);
    expect([findings[0]!.expected, findings[0]!.found]).toEqual([expect.any(String), expect.any(String)]);
  }
});

test("damage in several segments is told of each", async () => {
  const { fileSystem, segments } = await madeLog();
  let damaged = flipped(fileSystem, segments[0]!, 30);
  damaged = flipped(damaged, segments[1]!, 200);
  damaged = flipped(damaged, segments[2]!, 20);
  damaged = flipped(damaged, segments.at(-1)!, 130);
  const { findings } = await inspect(damaged);
  expect(findings.map(({ kind, file }) => ({ kind, file }))).toEqual(
    [segments[0], segments[1], segments[2], segments.at(-1)].map((file) => ({ kind: "corrupt", file })),
  );
});

test("a last segment that was zeroed is damage, alone and behind other damage; one that was cut inside its header is torn", async () => {
  const { fileSystem, segments } = await madeLog();
  const last = segments.at(-1)!;
  for (const [kind, bytes] of [
    ["corrupt", Buffer.alloc(5000)],
    ["torn", Buffer.alloc(0)],
    ["torn", fileSystem.bytes(last).subarray(0, 79)],
  ] as const) {
    const harmed = fileSystem.copy();
    harmed.setBytes(last, bytes);
    expect((await inspect(harmed)).findings).toMatchObject([{ kind, file: last, offset: 0 }]);
    const both = await inspect(flipped(harmed, segments[1]!, 200));
    expect(both.findings).toMatchObject([
      { kind: "corrupt", file: segments[1] },
      { kind: "corrupt", file: last },
    ]);
    const lone = new MemoryFileSystem();
    lone.setBytes(FIRST, bytes);
    expect((await inspect(lone)).findings).toMatchObject([
      { kind: "corrupt", file: FIRST, offset: 0, found: `${bytes.length} bytes without one` },
    ]);
  }
});

test("damage that a living node's log shows twice is damage; what is gone at the second look was in flight", async () => {
  const { fileSystem, segments } = await madeLog();
  const damaged = flipped(fileSystem, segments[1]!, 200);
  expect((await inspect(damaged, held)).findings).toMatchObject([{ kind: "corrupt", file: segments[1] }]);
  const whole = fileSystem.bytes(segments[1]!);
  const pause = (): Promise<void> => Promise.resolve(damaged.setBytes(segments[1]!, whole));
  expect((await inspect(damaged, { ...held, pause })).findings).toEqual([]);
});

test("a damaged index is told; one that is missing, or was not finished, is not damage", async () => {
  const { fileSystem } = await madeLog();
  const index = `wal/${indexName(seq(1))}`;
  const size = fileSystem.bytes(index).length;
  for (let at = 0; at < size; at++) {
    expect((await inspect(flipped(fileSystem, index, at))).findings).toMatchObject([{ file: index, offset: at }]);
  }
  const wrong = flipped(fileSystem, index, 20);
  expect((await inspect(wrong)).findings).toMatchObject([
    { kind: "corrupt", expected: `CRC ${crc32(wrong.bytes(index).subarray(8))}` },
  ]);
  const short = fileSystem.copy();
  short.setBytes(index, fileSystem.bytes(index).subarray(0, 30));
  expect((await inspect(short)).findings).toMatchObject([{ kind: "torn", file: index, offset: 30 }]);
  await fileSystem.remove(index);
  expect((await inspect(fileSystem)).findings).toEqual([]);
});

test("a missing segment, a foreign log, a newer format and a lost log each have their place", async () => {
  const { fileSystem, segments } = await madeLog();
  const gap = fileSystem.copy();
  await gap.remove(segments[1]!);
  expect((await inspect(gap)).findings).toMatchObject([{ kind: "corrupt", file: segments[2], offset: 0 }]);

  const other = clusterId("f".repeat(32));
  expect((await inspect(fileSystem, { clusterId: other })).findings).toMatchObject([
    { kind: "foreign_cluster", file: FIRST, offset: 16, expected: other, found: CLUSTER },
  ]);

  const newer = fileSystem.copy();
  const bytes = newer.bytes(FIRST);
  const decoded = decodeSegmentHeader(bytes.subarray(0, 80));
  expect(decoded.kind === "header" && encodeSegmentHeader(decoded.header)).toEqual(bytes.subarray(0, 80));
  bytes.writeUInt32LE(2, 8);
  bytes.writeUInt32LE(crc32(Buffer.concat([bytes.subarray(0, 12), bytes.subarray(16, 80)])), 12);
  newer.setBytes(FIRST, bytes);
  expect((await inspect(newer)).findings).toMatchObject([{ kind: "newer_format", file: FIRST, offset: 8 }]);

  expect((await inspect(new MemoryFileSystem(), { mustExist: true })).findings).toMatchObject([
    { kind: "corrupt", file: "wal" },
  ]);
  expect(await inspect(new MemoryFileSystem())).toEqual({ segments: [], setAside: [], findings: [] });
});

test("a log that is written to is sound at every look", async () => {
  const fileSystem = new MemoryFileSystem();
  const { log } = await openLog({ fileSystem, segmentBytesMax: 2048 });
  for (let round = 0; round < 20; round++) {
    for (const text of someTexts(5, round * 5 + 1)) appendText(log, text);
    const { findings, end } = await inspect(fileSystem, held);
    expect(findings.filter(({ kind }) => kind !== "in_flight")).toEqual([]);
    expect(end?.seq ?? 0).toBeLessThanOrEqual(log.lastSeq);
    if (round === 10) await log.truncateBelow(seq(30));
  }
  await log.close();
  expect((await inspect(fileSystem, held)).end!.seq).toBe(100);
});

test("records are read from any seq on, as many as are wanted, up to the first damage", async () => {
  const { fileSystem, texts, segments } = await madeLog();
  const read = async (afterSeq: number, limit = Infinity, from = fileSystem): Promise<[string[], unknown]> => {
    const seen: string[] = [];
    const stop = await readLog({
      fileSystem: from,
      directory: "wal",
      afterSeq,
      visit: (records) => {
        seen.push(...records.map(textOf));
        return Promise.resolve(seen.length < limit);
      },
    });
    return [seen, stop];
  };
  expect(await read(0)).toEqual([texts, undefined]);
  expect(await read(17)).toEqual([texts.slice(17), undefined]);
  expect(await read(39)).toEqual([texts.slice(39), undefined]);
  expect(await read(40)).toEqual([[], undefined]);
  expect(await read(5, 1)).toEqual([texts.slice(5, 6), undefined]);
  const [seen, stop] = await read(0, Infinity, flipped(fileSystem, segments[1]!, 85));
  expect(stop).toMatchObject({ file: segments[1], offset: 80 });
  expect(seen).toEqual(texts.slice(0, seen.length));
});
