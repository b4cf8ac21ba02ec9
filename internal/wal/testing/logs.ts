/** Logs for tests: a clock that stands still, randomness that repeats, and a listener that takes notes. */
import { FakeClock } from "../../base/clock.js";
import { clusterId, type RandomSource } from "../../base/ids.js";
import { silentLogger } from "../../base/logger.js";
import { epoch, epochMs, type Seq } from "../../base/position.js";
import { Log, type LogListener, type LogOptions, type LogRecord } from "../log.js";
import { MemoryFileSystem } from "../memory-file-system.js";
import { asBuffer } from "../bytes.js";
import { decodeRecords } from "../record.js";
import type { WalError } from "../wal-error.js";

export const CLUSTER = clusterId("0123456789abcdef0123456789abcdef");

/** The same bytes in every run, different ones at every call. */
export class SeededRandom implements RandomSource {
  #state: number;

  constructor(seed = 1) {
    this.#state = seed;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => {
      // The generator of Numerical Recipes; its high byte is good enough for salts.
      this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
      return this.#state >>> 24;
    });
  }
}

/** Writes down what it is told. */
export class NotingListener implements LogListener {
  writtenSeq = 0;
  keptSeq = 0;
  readonly drops: { firstSeq: Seq; error: WalError }[] = [];
  readonly failures: WalError[] = [];

  written(seq: Seq): void {
    this.writtenSeq = seq;
  }
  kept(seq: Seq): void {
    this.keptSeq = seq;
  }
  dropped(firstSeq: Seq, error: WalError): void {
    this.drops.push({ firstSeq, error });
    this.writtenSeq = Math.min(this.writtenSeq, firstSeq - 1);
  }
  failed(error: WalError): void {
    this.failures.push(error);
  }
}

export interface TestLog {
  readonly log: Log;
  readonly clock: FakeClock;
  readonly listener: NotingListener;
}

export async function openLog(options: Partial<LogOptions> = {}): Promise<TestLog> {
  const clock = new FakeClock();
  const listener = new NotingListener();
  const log = await Log.open({
    fileSystem: new MemoryFileSystem(),
    clock,
    random: new SeededRandom(),
    logger: silentLogger,
    directory: "wal",
    clusterId: CLUSTER,
    durability: "always",
    syncIntervalMs: 100,
    segmentBytesMax: 16 * 1024,
    tailBytesMax: 64 * 1024,
    listener,
    ...options,
  });
  return { log, clock, listener };
}

/** Appends a record with this text. */
export function appendText(log: Log, text: string): Seq {
  return log.append({ epoch: epoch(1), timestampMs: epochMs(1_700_000_000_000), payload: Buffer.from(text) });
}

export function textOf(record: LogRecord): string {
  return asBuffer(record.payload).toString();
}

/** The texts of all records, read from the log's files or memory in pieces of about `maxBytes`. */
export async function textsOf(log: Log, maxBytes = 64 * 1024): Promise<string[]> {
  const texts: string[] = [];
  for (let after = log.compactSeq; after < log.writtenSeq;) {
    const records = await log.read(after, maxBytes);
    for (const record of decodeRecords(records, true)) {
      if (record.seq !== after + 1) throw new Error(`record ${record.seq} came after ${after}`);
      texts.push(textOf(record));
      after = record.seq;
    }
  }
  return texts;
}

/** `count` texts of different lengths. */
export function someTexts(count: number, from = 1): string[] {
  return Array.from({ length: count }, (_, i) => `record ${from + i} ${"x".repeat(((from + i) * 37) % 90)}`);
}

/** Waits for something that comes about by itself. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setImmediate(resolve));
}

/** Lets the log do whatever it would do now. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}
