/**
 * The write-ahead log of one node: records, dense by seq, each continuing the chain of the one before.
 *
 * `append` queues and returns at once; what gathers while a write is in flight goes out together. The listener tells when
 * records are written (they survive the death of the process) and when they are kept (they survive what the durability mode
 * promises). Opening checks every byte, cuts only what a crash tore, and refuses everything else that is not as it
 * was written. The log knows nothing of what its payloads mean.
 */
import { assert } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import type { ClusterId, RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { epochMs, ORIGIN, seq as toSeq, type Epoch, type EpochMs, type LogMark, type Seq } from "../base/position.js";
import { asBuffer } from "./bytes.js";
import type { FileSystem } from "./file-system.js";
import { createSynced, directoryOf } from "./files.js";
import { ReadGate } from "./read-gate.js";
import {
  chainSeed,
  damageProblem,
  followRecord,
  followSoundRecords,
  lastSeqOf,
  logEndAt,
  type LogEnd,
  type RecordView,
} from "./record.js";
import { recoverLog, type RecoveredLog } from "./recovery.js";
import type { Segments } from "./segments.js";
import type { Durability } from "./sync-policy.js";
import { Tail } from "./tail.js";
import { translated, WalError } from "./wal-error.js";
import { type LogObserver, Writer } from "./writer.js";

export type { Durability } from "./sync-policy.js";
export type { LogEnd, LogRecord } from "./record.js";
export type { LogObserver } from "./writer.js";

const TAIL_BYTES_MAX = 8 * 1024 * 1024;
/** A segment has its header, a frame's, and room for some records. */
const SEGMENT_BYTES_MIN = 256;
const SAVE_CHUNK_BYTES = 1024 * 1024;
const NOTHING = Buffer.alloc(0);

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
  /** Absent: nobody measures. */
  readonly observer?: LogObserver;
  /**
   * How often somebody has read what the log's owner has. While that goes on, the event loop is left to the readers during a sync;
   * absent: there are none.
   */
  readonly readCount?: () => number;
  /** Cuts the log at its first corrupt place instead of refusing; what is cut is saved beside it. */
  readonly recover?: "truncate-tail";
  /**
   * Called for every record of the log, in order, in the same pass that checks it; the record is valid during the
   * call only. The event loop gets its turn between reads. A record is shown before the rest of the log is known to
   * be sound: when `open` then rejects, throw away what was made of them.
   */
  readonly replay?: (record: RecordView) => void;
  /** The caller knows that a log was made here before: none then counts as corrupt instead of as new. */
  readonly mustExist?: boolean;
  /** Where a new log goes on from, instead of beginning with seq 1; for a directory without a log only. */
  readonly start?: LogEnd;
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

export class Log {
  readonly #options: LogOptions;
  readonly #segments: Segments;
  readonly #tail: Tail;
  readonly #writer: Writer;
  readonly #gate = new ReadGate();
  readonly recovery: RecoveryReport;
  /** After the last record taken, queued ones included. */
  #end: LogEnd;
  #cutting = false;
  #closing: Promise<void> | undefined;

  private constructor(options: LogOptions, recovered: RecoveredLog, durationMs: number) {
    this.#options = options;
    this.#segments = recovered.segments;
    this.#end = recovered.end;
    this.#tail = new Tail(options.tailBytesMax ?? TAIL_BYTES_MAX, recovered.end.seq);
    this.#writer = new Writer({
      ...options,
      segments: recovered.segments,
      tail: this.#tail,
      end: recovered.end,
      appliedSeq: recovered.appliedSeq,
      clean: recovered.endsClean,
      listener: {
        written: (seq) => options.listener.written(seq),
        kept: (seq) => options.listener.kept(seq),
        dropped: (end, error) => {
          this.#end = end;
          options.listener.dropped(toSeq(end.seq + 1), error);
        },
        failed: (error) => options.listener.failed(error),
      },
    });
    this.recovery = {
      records: recovered.records,
      durationMs,
      tornBytes: recovered.tornBytes,
      ...(recovered.tornFile === undefined ? {} : { tornFile: recovered.tornFile }),
      cleanShutdown: recovered.cleanShutdown,
      appliedSeq: recovered.appliedSeq,
      syncedSeq: recovered.syncedSeq,
    };
  }

  /**
   * Opens the log in a directory, or begins one. Rejects with `WalError`: "corrupt", "newer_format" and "foreign_cluster" have
   * changed no byte; "disk_full" and "io" may be tried again. When it resolves, everything in the log is synced.
   */
  static async open(options: LogOptions): Promise<Log> {
    assert(options.segmentBytesMax >= SEGMENT_BYTES_MIN, `a segment needs ${SEGMENT_BYTES_MIN} bytes at least`);
    const startMs = options.clock.monotonicMs();
    const { fileSystem, directory } = options;
    try {
      await fileSystem.makeDirectory(directory);
      await fileSystem.syncDirectory(directoryOf(directory));
      const recovered = await recoverLog({ ...options, preallocates: options.durability === "always" });
      return new Log(options, recovered, options.clock.monotonicMs() - startMs);
    } catch (error) {
      throw translated(error, `opening the log in ${directory}`);
    }
  }

  get clusterId(): ClusterId {
    return this.#options.clusterId;
  }

  /** The first seq that can be read; `compactSeq + 1`. */
  get firstSeq(): Seq {
    return this.#segments.firstSeq;
  }

  get compactSeq(): Seq {
    return toSeq(this.#segments.firstSeq - 1);
  }

  /** The last record taken, queued ones included. */
  get lastSeq(): Seq {
    return this.#end.seq;
  }

  get last(): LogMark {
    return { epoch: this.#end.epoch, seq: this.#end.seq, chain: this.#end.chain };
  }

  /** Of the last record taken; 0 before the first. */
  get lastTimestampMs(): EpochMs {
    return this.#end.timestampMs;
  }

  /** `write()` has returned for everything up to here. */
  get writtenSeq(): Seq {
    return this.#writer.written.seq;
  }

  get syncedSeq(): Seq {
    return this.#writer.syncedSeq;
  }

  /** Safe as the durability mode promises. */
  get keptSeq(): Seq {
    return this.#writer.keptSeq;
  }

  /** Bytes of all segments, without what is preallocated. */
  get sizeBytes(): number {
    return this.#segments.byteLength;
  }

  /** Bytes of records that are taken and not yet written. */
  get queuedBytes(): number {
    return this.#tail.bytesAfter(this.#writer.written.seq);
  }

  /**
   * Takes a record as the next of the log, and returns its seq. Epoch and time must not go back. The payload is copied.
   * Throws `WalError` "failed" or "closed"; whether it is kept, the listener tells.
   */
  append(record: { epoch: Epoch; timestampMs: EpochMs; payload: Uint8Array }): Seq {
    this.#assertTaking();
    const before = this.#end;
    const { epoch, timestampMs, payload } = record;
    if (epoch < before.epoch || timestampMs < before.timestampMs) {
      assert(false, `epoch ${epoch} at ${timestampMs} ms goes back behind ${before.epoch} at ${before.timestampMs} ms`);
    }
    const end = { seq: (before.seq + 1) as Seq, epoch, timestampMs, chain: 0 };
    end.chain = this.#tail.add(end, before.chain, payload);
    this.#end = end;
    this.#writer.wake();
    return end.seq;
  }

  /**
   * Takes encoded records, as `read` gives them on another node, and returns the last seq. They are checked as a whole before
   * any is taken: CRCs, chain, and that they continue this log's end. They may be held on to, so nobody may change them
   * afterwards. Throws `WalError` "mismatch" when they do not, and "failed" or "closed".
   */
  appendRecords(records: Uint8Array): Seq {
    this.#assertTaking();
    const bytes = asBuffer(records);
    const end = { ...this.#end };
    const at = followSoundRecords(bytes, end);
    if (at < bytes.length) {
      const problem = damageProblem(bytes, at, bytes.length) ?? followRecord(bytes, at, bytes.length, end);
      assert(problem, `the record at byte ${at} is sound, and continues the log after ${end.seq}`);
      throw new WalError("mismatch", `records do not continue the log after ${end.seq}`, { offset: at, ...problem });
    }
    if (bytes.length > 0) {
      this.#tail.addEncoded(bytes);
      this.#end = end;
      this.#writer.wake();
    }
    return end.seq;
  }

  /** How far the engine has applied; later frames carry it, so that a restart may serve up to there at once. */
  setAppliedSeq(seq: Seq): void {
    assert(seq <= this.#end.seq, "only what is in the log is applied");
    this.#writer.setAppliedSeq(seq);
  }

  /**
   * Whole encoded records after `afterSeq` that are written, from memory: as many as lie in one piece and up to `maxBytes`
   * bytes, but at least one; empty when there are none; undefined when the place is no longer in memory. The bytes are a
   * view that stays as it is; do not change it.
   */
  readTail(afterSeq: Seq, maxBytes: number): Uint8Array | undefined {
    const writtenSeq = this.#writer.written.seq;
    if (afterSeq >= writtenSeq) return NOTHING;
    if (afterSeq + 1 < this.#tail.firstSeq) return undefined;
    return this.#tail.run(afterSeq + 1, writtenSeq, maxBytes).bytes;
  }

  /**
   * The same from memory or else from disk, where up to one segment is read. Rejects with `WalError`: "out_of_range" below
   * `compactSeq`, "corrupt" when the disk no longer gives what was written, "io".
   */
  async read(afterSeq: Seq, maxBytes: number): Promise<Uint8Array> {
    return this.readTail(afterSeq, maxBytes) ?? this.#gate.pass(() => this.#readDisk(afterSeq, maxBytes));
  }

  /**
   * Shows the records after `afterSeq` up to `upToSeq`, which are written, from the disk: for those who go through much of the log
   * and keep none of it. Whole encoded records at a time, as views that are valid during the call; at least one and up to some
   * `bytesMax` bytes, the rest is asked for again. `show` must hold each record that it uses to its chain value, as a `RecordRun` of
   * "chains" does, and throw where one is wrong: that tells of every byte, and nothing is summed twice. Rejects as `read` does, and with
   * what `show` throws where the bytes are those that were written.
   */
  async visit(afterSeq: Seq, upToSeq: Seq, bytesMax: number, show: (records: Uint8Array) => void): Promise<void> {
    await this.#gate.pass(async () => {
      // The log may have been cut at either end while this waited for its turn.
      const toSeq = Math.min(upToSeq, this.#writer.written.seq);
      if (afterSeq >= toSeq) return;
      if (afterSeq < this.compactSeq) throw this.#outOfRange(afterSeq);
      try {
        await this.#segments.visit(afterSeq + 1, toSeq, bytesMax, show);
      } catch (error) {
        throw translated(error, "reading the log");
      }
    });
  }

  /** Epoch and chain value at `seq`; seq 0 is before the first record. Rejects as `read` does, and past `lastSeq`. */
  async mark(seq: Seq): Promise<LogMark> {
    const { epoch, chain } = await this.endAt(seq);
    return { epoch, seq, chain };
  }

  /** The same with the record's time; seq 0 has the time 0. */
  async endAt(seq: Seq): Promise<LogEnd> {
    if (seq === 0) return { ...ORIGIN, timestampMs: epochMs(0), chain: chainSeed(this.clusterId) };
    return this.#endAt(seq);
  }

  /**
   * Removes every record after `seq`, durably. What is removed is saved before that, as encoded records, in the synced file
   * `saveAs` of the data directory. Nothing may be appended meanwhile. Rejects with `WalError`: "out_of_range" below
   * `compactSeq`; "disk_full" and "io" when it could not be saved, and nothing is cut; "failed" when the cut itself
   * failed, which is final.
   */
  async cutAfter(seq: Seq, saveAs?: string): Promise<void> {
    this.#assertTaking();
    if (seq < this.compactSeq) throw this.#outOfRange(seq);
    if (seq >= this.lastSeq) return;
    this.#cutting = true;
    try {
      await this.#writer.exclusive(() => this.#gate.alone(() => this.#cutNow(seq, saveAs)));
    } finally {
      this.#cutting = false;
    }
  }

  /** Begins a new segment, so that what came before can be removed as a whole; does nothing when the last one is empty. */
  async rotate(): Promise<void> {
    this.#assertTaking();
    await this.#writer.rotate();
  }

  /**
   * Removes the segments that hold only records up to `seq`; what remains of them, and the last segment, stays readable.
   * Rejects with `WalError` "io"; some segments may be removed then, from the first one on.
   */
  async truncateBelow(seq: Seq): Promise<void> {
    this.#assertTaking();
    await this.#gate
      .alone(() => this.#segments.removeBelow(seq))
      .catch((error: unknown) => {
        throw translated(error, `removing segments below ${seq}`);
      });
  }

  /** The seq before the first of as many last segments as have `bytes` at most together; the last one always counts. */
  seqBeforeLast(bytes: number): Seq {
    return this.#segments.seqBeforeLast(bytes);
  }

  /** Bytes of the segments that hold what follows `seq`. */
  bytesOfSegmentsAfter(seq: Seq): number {
    return this.#segments.bytesAfter(seq);
  }

  /** Nothing else is appended in this turn of the event loop: what waits for its end to be written together is written now. Whether something did. */
  endTurn(): boolean {
    return this.#writer.endTurn();
  }

  /** Resolves when all that is appended is synced, whatever the mode. Rejects with "failed", or "disk_full" when dropped. */
  flush(): Promise<void> {
    return this.#closing ?? this.#writer.flush();
  }

  /** Syncs, marks the log as closed in order, and closes its files. Idempotent. Rejects with "failed" if a sync failed. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    try {
      // A failed log has told its listener, and there is nothing left to bring to the disk.
      if (this.#writer.failure) return;
      await this.#writer.flush().catch(passDropped);
      await this.#writer.exclusive(() => this.#writer.markClean());
    } catch (error) {
      this.#writer.fail(error);
      throw this.#writer.failure ?? error;
    } finally {
      this.#writer.stop();
      await this.#gate.alone(() => this.#segments.close());
    }
  }

  async #readDisk(afterSeq: Seq, maxBytes: number): Promise<Uint8Array> {
    // The log may have been cut while this read waited for its turn.
    const writtenSeq = this.#writer.written.seq;
    if (afterSeq >= writtenSeq) return NOTHING;
    if (afterSeq < this.compactSeq) throw this.#outOfRange(afterSeq);
    try {
      return await this.#segments.read(afterSeq + 1, writtenSeq, maxBytes);
    } catch (error) {
      throw translated(error, "reading the log");
    }
  }

  async #endAt(seq: Seq): Promise<LogEnd> {
    if (seq === this.#end.seq) return this.#end;
    if (seq > this.#end.seq || seq < this.compactSeq) throw this.#outOfRange(seq);
    if (seq >= this.#tail.firstSeq) return logEndAt(this.#tail.run(seq, seq, 1).bytes, 0);
    return this.#gate.pass(() => {
      // The log may have been cut at either end while this waited for its turn.
      if (seq > this.#writer.written.seq || seq < this.compactSeq) throw this.#outOfRange(seq);
      return this.#segments.endAt(seq);
    });
  }

  async #cutNow(seq: Seq, saveAs: string | undefined): Promise<void> {
    const { fileSystem } = this.#options;
    const { written } = this.#writer;
    // What waited to be written may have been dropped for lack of room.
    if (seq >= written.seq) return;
    if (saveAs !== undefined) {
      try {
        await createSynced(fileSystem, saveAs, async (file) => {
          let at = 0;
          for (let next = seq + 1; next <= written.seq;) {
            const records = await this.#segments.read(next, written.seq, SAVE_CHUNK_BYTES);
            await file.write(records, at);
            at += records.length;
            next = lastSeqOf(records) + 1;
          }
        });
      } catch (error) {
        throw translated(error, `saving the records after ${seq} to ${saveAs}`);
      }
    }
    try {
      const end = await this.#segments.endAt(seq);
      await this.#segments.cutAfter(seq, this.#writer.appliedSeq);
      this.#tail.dropAfter(seq);
      this.#end = end;
      this.#writer.cutTo(end);
    } catch (error) {
      this.#writer.fail(error);
      throw this.#writer.failure ?? error;
    }
  }

  #assertTaking(): void {
    if (this.#writer.failure) throw this.#writer.failure;
    if (this.#closing) throw new WalError("closed", "the log is closed");
    assert(!this.#cutting, "nothing is appended while the log is being cut");
  }

  #outOfRange(seq: Seq): WalError {
    return new WalError(
      "out_of_range",
      `seq ${seq} is not in the log, which holds ${this.firstSeq} to ${this.lastSeq}`,
    );
  }
}

/** Records that were dropped have been reported; the rest of the log is still to be closed. */
function passDropped(error: unknown): void {
  if (!(error instanceof WalError) || error.code !== "disk_full") throw error;
}
