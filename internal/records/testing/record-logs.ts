/** Record logs for tests: a clock that stands still, randomness that repeats, and notes of what failed. */
import { FakeClock } from "../../base/clock.js";
import { clusterId, epochId } from "../../base/ids.js";
import { silentLogger } from "../../base/logger.js";
import { epoch, epochMs, seq } from "../../base/position.js";
import { MemoryFileSystem } from "../../wal/memory-file-system.js";
import type { WalError } from "../../wal/wal-error.js";
import { type ProducedRecord, RecordLog, type RecordLogOptions } from "../record-log.js";

export const CLUSTER = clusterId("0123456789abcdef0123456789abcdef");
export const EPOCH_ID = epochId("00000000000000e1");
export const START_MS = 1_700_000_000_000;

export interface TestRecordLog {
  readonly log: RecordLog;
  readonly clock: FakeClock;
  readonly failures: WalError[];
}

export async function openRecordLog(options: Partial<RecordLogOptions> = {}): Promise<TestRecordLog> {
  const clock = new FakeClock(START_MS);
  const failures: WalError[] = [];
  let salt = 0;
  const log = await RecordLog.open({
    fileSystem: new MemoryFileSystem(),
    clock,
    random: { bytes: (length) => new Uint8Array(length).fill(++salt) },
    logger: silentLogger,
    clusterId: CLUSTER,
    segmentBytesMax: 1024 * 1024,
    onFailed: (error) => failures.push(error),
    ...options,
  });
  return { log, clock, failures };
}

/** Appends texts, each as if produced by itself: a seq above its offset, a millisecond after the one before. */
export function produce(log: RecordLog, ...texts: string[]): void {
  for (const text of texts) {
    const offset = log.end;
    log.append({
      offset,
      seq: seq(offset + 100),
      epoch: epoch(1 + Math.floor(offset / 50)),
      epochId: EPOCH_ID,
      timestampMs: epochMs(START_MS + offset),
      record: Buffer.from(text),
    });
  }
}

export const textOf = ({ record }: ProducedRecord): string => Buffer.from(record).toString();

/** The texts of all records from `from` on, read in pages. */
export async function textsOf(log: RecordLog, from = log.start, maxBytes = 1000): Promise<string[]> {
  const texts: string[] = [];
  for (let at = from; at < log.end;) {
    const records = await log.read(at, maxBytes, 100);
    for (const record of records) {
      if (record.offset !== at++) throw new Error(`record ${record.offset} was read where ${at - 1} was expected`);
      texts.push(textOf(record));
    }
  }
  return texts;
}
