/**
 * The log by itself, as a program uses it that wants a segmented log on disk and nothing else of Cambium: an example of every
 * act, on the files of this machine.
 */
import { randomBytes } from "node:crypto";
import fs from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { SystemClock } from "../base/clock.js";
import { newClusterId, type RandomSource } from "../base/ids.js";
import { silentLogger } from "../base/logger.js";
import { epoch, epochMs, seq, type Seq } from "../base/position.js";
import { Log, type LogOptions } from "./log.js";
import { NodeFileSystem } from "./node-file-system.js";
import { decodeRecords } from "./record.js";

const random: RandomSource = { bytes: (length) => new Uint8Array(randomBytes(length)) };
/** Marks whose log it is: the log of another program is refused, not read. */
const id = newClusterId(random);

function open(root: string, options: Partial<LogOptions> = {}): Promise<Log> {
  return Log.open({
    fileSystem: new NodeFileSystem(root),
    clock: new SystemClock(),
    random,
    logger: silentLogger,
    directory: "events",
    clusterId: id,
    durability: "always",
    syncIntervalMs: 0,
    segmentBytesMax: 4096,
    listener: { written: () => {}, kept: () => {}, dropped: () => {}, failed: () => {} },
    ...options,
  });
}

/** A program without masters has one epoch for ever. */
function append(log: Log, text: string): Seq {
  const timestampMs = epochMs(Math.max(Date.now(), log.lastTimestampMs));
  return log.append({ epoch: epoch(1), timestampMs, payload: Buffer.from(text) });
}

/** The record with a seq; "out_of_range" when the log does not hold it. */
async function readAt(log: Log, at: number): Promise<string> {
  await log.mark(seq(at));
  const [record] = decodeRecords(await log.read(seq(at - 1), 1));
  return Buffer.from(record!.payload).toString();
}

/** All records from a seq on. */
async function* scanFrom(log: Log, from: number): AsyncGenerator<string> {
  for (let after = from - 1; after < log.writtenSeq;) {
    for (const record of decodeRecords(await log.read(seq(after), 64 * 1024))) {
      yield Buffer.from(record.payload).toString();
      after = record.seq;
    }
  }
}

async function all(log: Log, from: number): Promise<string[]> {
  const texts: string[] = [];
  for await (const text of scanFrom(log, from)) texts.push(text);
  return texts;
}

test("a program appends, reads, scans, truncates, closes and opens again", async () => {
  const root = await fs.mkdtemp(path.join(os.tmpdir(), "cambium-"));
  const texts = Array.from({ length: 200 }, (_, i) => `event ${i + 1} ${".".repeat(80)}`);
  try {
    const log = await open(root);
    expect([log.firstSeq, log.lastSeq]).toEqual([1, 0]);
    expect(texts.map((text) => append(log, text))).toEqual(texts.map((_, i) => i + 1));
    await log.flush();
    expect([log.firstSeq, log.lastSeq, log.syncedSeq]).toEqual([1, 200, 200]);
    expect(await readAt(log, 1)).toBe(texts[0]);
    expect(await readAt(log, 200)).toBe(texts[199]);
    expect(await all(log, 150)).toEqual(texts.slice(149));

    // Whole segments go, so that the lowest is at or below what was asked for.
    await log.rotate();
    append(log, "last");
    await log.flush();
    await log.truncateBelow(seq(150));
    const lowest = log.firstSeq;
    expect(lowest).toBeGreaterThan(1);
    expect(lowest).toBeLessThanOrEqual(151);
    await log.close();

    const again = await open(root, { mustExist: true });
    expect([again.firstSeq, again.lastSeq]).toEqual([lowest, 201]);
    expect(again.recovery).toMatchObject({ cleanShutdown: true, tornBytes: 0 });
    expect(await all(again, lowest)).toEqual([...texts.slice(lowest - 1), "last"]);
    await expect(readAt(again, lowest - 2)).rejects.toMatchObject({ name: "WalError", code: "out_of_range" });
    await expect(again.read(seq(lowest - 2), 1)).rejects.toMatchObject({ code: "out_of_range" });
    await expect(readAt(again, 202)).rejects.toMatchObject({
      code: "out_of_range",
      message: `seq 202 is not in the log, which holds ${lowest} to 201`,
    });
    expect(append(again, "more")).toBe(202);
    await again.close();
    expect(() => append(again, "too late")).toThrow(expect.objectContaining({ code: "closed" }));

    // The log of another program is refused, untouched.
    await expect(open(root, { clusterId: newClusterId(random) })).rejects.toMatchObject({ code: "foreign_cluster" });
  } finally {
    await fs.rm(root, { recursive: true });
  }
});
