/** The write-ahead log of one node. */
import type { Clock } from "../base/clock.js";
import type { ClusterId, RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { Epoch, EpochMs, LogMark, Seq } from "../base/position.js";
import type { FileSystem } from "./file-system.js";
import type { LogRecord } from "./record.js";
import type { WalError } from "./wal-error.js";

/**
 * When a write counts as kept: `always`: once it is synced. `interval`: once it is written; synced every
 * `syncIntervalMs`. `os`: once it is written; synced when the kernel likes, and at rotation and close.
 */
export type Durability = "always" | "interval" | "os";

/** What the log tells its owner. Called from within the log's write loop: be short, and do not throw. */
export interface LogListener {
  /** `write()` has returned for every record up to `seq`. */
  written(seq: Seq): void;
  /** The kept seq has moved. */
  kept(seq: Seq): void;
  /** Records from `firstSeq` on could not be written (a full disk) and are not in the log: `lastSeq` is `firstSeq - 1` again. */
  dropped(firstSeq: Seq, error: WalError): void;
  /** A write or sync has failed. Final: nothing is kept any more, and the process should exit. */
  failed(error: WalError): void;
}

export interface LogOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  /** Inside the file system, such as "wal". */
  readonly directory: string;
  readonly clusterId: ClusterId;
  readonly durability: Durability;
  readonly syncIntervalMs: number;
  readonly segmentBytesMax: number;
  /** Encoded records held in memory for `readTail`; 8 MiB when absent. */
  readonly tailBytesMax?: number;
  readonly listener: LogListener;
  /** Cuts the log at its first corrupt place instead of refusing; what is cut is saved beside it. */
  readonly recover?: "truncate-tail";
  /**
   * Called for every record of the log, in order, in the same pass that checks it; the record's payload is valid during the
   * call only. The event loop gets its turn between reads. A record is shown before the rest of the log is known to
   * be sound: when `open` then rejects, throw away what was made of them.
   */
  readonly replay?: (record: LogRecord) => void;
  /** The caller knows that a log was made here before: none then counts as corrupt instead of as new. */
  readonly mustExist?: boolean;
}

/** What opening found and did. */
export interface RecoveryReport {
  readonly records: number;
  readonly durationMs: number;
  /** Bytes of a torn (or, with `truncate-tail`, corrupt) end that were cut; 0 when there was none. */
  readonly tornBytes: number;
  /** Where they were saved. */
  readonly tornFile?: string;
  /** The log ended with the mark of an orderly close. */
  readonly cleanShutdown: boolean;
  /** The highest applied seq that its frames carry. */
  readonly appliedSeq: Seq;
  /** The highest seq that was proven to be synced when the log was opened. */
  readonly syncedSeq: Seq;
}

const notBuilt = (): never => {
  throw new Error("the log is not built yet");
};

export class Log {
  static open(_options: LogOptions): Promise<Log> {
    return Promise.reject(new Error("the log is not built yet"));
  }

  get recovery(): RecoveryReport {
    return notBuilt();
  }
  get clusterId(): ClusterId {
    return notBuilt();
  }
  /** The first seq that can be read; `compactSeq + 1`. */
  get firstSeq(): Seq {
    return notBuilt();
  }
  get compactSeq(): Seq {
    return notBuilt();
  }
  /** The last record taken, queued ones included. */
  get lastSeq(): Seq {
    return notBuilt();
  }
  get last(): LogMark {
    return notBuilt();
  }
  get lastTimestampMs(): EpochMs {
    return notBuilt();
  }
  get writtenSeq(): Seq {
    return notBuilt();
  }
  get syncedSeq(): Seq {
    return notBuilt();
  }
  get keptSeq(): Seq {
    return notBuilt();
  }
  /** Bytes of all segments, without what is preallocated. */
  get sizeBytes(): number {
    return notBuilt();
  }

  append(_record: { epoch: Epoch; timestampMs: EpochMs; payload: Uint8Array }): Seq {
    return notBuilt();
  }
  appendRecords(_records: Uint8Array): Seq {
    return notBuilt();
  }
  setAppliedSeq(_seq: Seq): void {
    notBuilt();
  }
  readTail(_afterSeq: Seq, _maxBytes: number): Uint8Array | undefined {
    return notBuilt();
  }
  read(_afterSeq: Seq, _maxBytes: number): Promise<Uint8Array> {
    return notBuilt();
  }
  mark(_seq: Seq): Promise<LogMark> {
    return notBuilt();
  }
  cutAfter(_seq: Seq, _saveAs?: string): Promise<void> {
    return notBuilt();
  }
  flush(): Promise<void> {
    return notBuilt();
  }
  close(): Promise<void> {
    return notBuilt();
  }
}
