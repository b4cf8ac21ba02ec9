/**
 * The record log: what was produced, dense by offset, as a second state beside the engine. It is a log of `wal` in a directory
 * of its own, in which the offset n is the seq n + 1.
 *
 * Promises: what is appended is read at once, also before it is written; a disk that is full loses nothing, since what it has no
 * room for stays in memory until it has. What it does not do: make an append survive a crash before `flush`. The
 * store's own log holds what is produced, and brings it again: at a start it cuts this log to a place that it has
 * proof of, and appends what follows.
 *
 * `start` is not kept on the disk, only that whole segments are gone: the store says it again by `truncateBelow`.
 */
import { assert, must } from "../base/assert.js";
import type { Clock, Timer } from "../base/clock.js";
import type { ClusterId, EpochId, RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import { type Epoch, type EpochMs, seq as toSeq, type Seq } from "../base/position.js";
import type { FileSystem } from "../wal/file-system.js";
import { Log, type LogListener } from "../wal/log.js";
import { decodeRecords, encodeRecord, RECORD_HEADER_BYTES } from "../wal/record.js";
import { WalError } from "../wal/wal-error.js";
import { type Extent, Extents } from "./extents.js";
import { decodeRecord, encodePayload, type ProducedRecord } from "./record-codec.js";
import { type OffsetRange, RecordLogError } from "./record-log-error.js";
import { Unwritten, type UnwrittenRecord } from "./unwritten.js";

export type { Extent } from "./extents.js";
export type { ProducedRecord } from "./record-codec.js";
export { type OffsetRange, RecordLogError, type RecordLogErrorCode } from "./record-log-error.js";

const DIRECTORY = "records";
const TAIL_BYTES_MAX = 4 * 1024 * 1024;
/** Extents a segment: so exact is retention. */
const SEGMENT_EXTENTS = 16;
/** How long after a full disk the next write is tried. */
const RETRY_MS = 1000;
/** Only for the mode `interval`, which this log does not use. */
const SYNC_INTERVAL_MS = 1000;

export interface RecordLogOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  readonly clusterId: ClusterId;
  readonly segmentBytesMax: number;
  /** The caller knows that a record log was made here before: none then counts as corrupt instead of as new. */
  readonly mustExist?: boolean;
  /** Where a new record log goes on from, instead of beginning with offset 0; for a directory without one only. */
  readonly start?: RecordLogPlace;
  /** Cuts the log at its first corrupt place instead of refusing; what is cut is saved beside it. */
  readonly recover?: "truncate-tail";
  /** A write or sync has failed. Final: the process should exit. */
  readonly onFailed: (error: WalError) => void;
}

/** A place between two records: what the one at `offset` goes on from. */
export interface RecordLogPlace {
  readonly offset: number;
  /** Of the record before; as the chain value and the time. */
  readonly epoch: Epoch;
  readonly timestampMs: EpochMs;
  readonly chain: number;
}

/** A record on its way into the record log. */
export interface AppendedRecord {
  readonly offset: number;
  /** Position, epoch id and time of the store's record that it came with. */
  readonly seq: Seq;
  readonly epoch: Epoch;
  readonly epochId: EpochId;
  readonly timestampMs: EpochMs;
  /** As produced; copied. */
  readonly record: Uint8Array;
}

export class RecordLog {
  readonly #options: RecordLogOptions;
  readonly #log: Log;
  readonly #unwritten = new Unwritten();
  readonly #extents: Extents;
  #start: number;
  /** Invariant: start ≤ end. */
  #end: number;
  /** Of the last record. */
  #epoch: Epoch;
  #timestampMs: EpochMs;
  #chain: number;
  /** Set while the disk has no room; what is appended then is in `#unwritten` only, not in the log's queue. */
  #blocked: RecordLogError | undefined;
  #retry: Timer | undefined;
  #writeWaiters: { readonly offset: number; readonly settle: (error?: Error) => void }[] = [];
  /** Grows with every cut: what was read across one may be gone. */
  #cuts = 0;
  #cutting: Promise<void> | undefined;
  /** The last of the acts that take turns. */
  #turn: Promise<void> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(options: RecordLogOptions, log: Log, extents: Extents) {
    this.#options = options;
    this.#log = log;
    this.#extents = extents;
    this.#start = log.compactSeq;
    this.#end = log.lastSeq;
    this.#epoch = log.last.epoch;
    this.#timestampMs = log.lastTimestampMs;
    this.#chain = log.last.chain;
  }

  /**
   * Opens the record log of a data directory, or begins one. Its start is the lowest offset that the disk has. Rejects with
   * `WalError`, as `Log.open` does.
   */
  static async open(options: RecordLogOptions): Promise<RecordLog> {
    const extents = new Extents(Math.ceil(options.segmentBytesMax / SEGMENT_EXTENTS));
    // The log tells nothing before it is open.
    const told: { by?: RecordLog } = {};
    const listener: LogListener = {
      written: (seq) => must(told.by, "the record log is open").#wrote(seq),
      kept: () => undefined,
      dropped: (_firstSeq, error) => must(told.by, "the record log is open").#block(error),
      failed: (error) => must(told.by, "the record log is open").#fail(error),
    };
    const { onFailed: _, start, ...given } = options;
    const log = await Log.open({
      ...given,
      ...(start && { start: { ...start, seq: toSeq(start.offset) } }),
      directory: DIRECTORY,
      durability: "os",
      syncIntervalMs: SYNC_INTERVAL_MS,
      tailBytesMax: TAIL_BYTES_MAX,
      listener,
      replay: (record) => extents.add(record.seq - 1, record.byteLength, record.timestampMs),
    });
    told.by = new RecordLog(options, log, extents);
    return told.by;
  }

  /** The lowest offset that can be read. */
  get start(): number {
    return this.#start;
  }

  /** The offset of the next record. */
  get end(): number {
    return this.#end;
  }

  /** Equal on two nodes exactly when all that was produced up to `end` is. */
  get chain(): number {
    return this.#chain;
  }

  /** What the next record goes on from. */
  get place(): RecordLogPlace {
    return { offset: this.#end, epoch: this.#epoch, timestampMs: this.#timestampMs, chain: this.#chain };
  }

  /** Bytes on the disk, of records that are truncated and not yet removed too. */
  get sizeBytes(): number {
    return this.#log.sizeBytes;
  }

  /** Bytes that are appended and not yet written. */
  get unwrittenBytes(): number {
    return this.#unwritten.byteLength;
  }

  /** Why what is appended stays in memory for now: the disk is full. Then nothing more should be produced. */
  get blocked(): RecordLogError | undefined {
    return this.#blocked;
  }

  /** About the oldest record's time: up to an extent older. Undefined when there is none. */
  oldestTimestampMs(): EpochMs | undefined {
    return this.#extents.oldestMs;
  }

  /** Age and size along the offsets, for retention. */
  extents(): readonly Extent[] {
    return this.#extents.all;
  }

  /** Takes the next record. Its epoch and time must not go back. Throws `WalError` "failed", `RecordLogError` "closed". */
  append(record: AppendedRecord): void {
    this.#assertOpen();
    assert(!this.#cutting, "nothing is appended while the record log is being cut");
    assert(record.offset === this.#end, `record ${record.offset} is appended where ${this.#end} is next`);
    const { offset, epoch, timestampMs } = record;
    const payload = encodePayload(record.seq, record.epochId, record.record);
    const unwritten = { offset, epoch, timestampMs, payload };
    if (this.#blocked) {
      this.#chain = chainAfter(this.#chain, unwritten);
    } else {
      this.#log.append(unwritten);
      this.#chain = this.#log.last.chain;
    }
    this.#unwritten.add(unwritten);
    this.#extents.add(offset, RECORD_HEADER_BYTES + payload.length, timestampMs);
    this.#end = offset + 1;
    this.#epoch = epoch;
    this.#timestampMs = timestampMs;
  }

  /**
   * Records from `offset` on: up to `maxRecords`, and as many as have `maxBytes` bytes together, but at least one; none at
   * the end. There may be more than it gives. Rejects with `RecordLogError` "out_of_range" below the start and beyond
   * the end, "closed"; and with `WalError` "corrupt", "io".
   */
  async read(offset: number, maxBytes: number, maxRecords: number): Promise<ProducedRecord[]> {
    assert(maxBytes > 0 && maxRecords > 0, "one record at least is asked for");
    for (;;) {
      // Its failure is its caller's; what it left is judged below.
      while (this.#cutting) await this.#cutting.catch(() => undefined);
      if (this.#closing) throw closedError();
      if (offset < this.#start || offset > this.#end) throw this.#outOfRange(offset);
      if (offset === this.#end) return [];
      const firstUnwritten = this.#unwritten.firstOffset;
      if (firstUnwritten !== undefined && offset >= firstUnwritten) {
        return page(this.#unwritten.from(offset).map(toLogRecord), maxBytes, maxRecords);
      }
      const cuts = this.#cuts;
      const bytes = await this.#readLog(offset, maxRecords === 1 ? 1 : maxBytes);
      // What was cut or truncated meanwhile must not be shown; the next turn tells what is there instead.
      if (bytes && cuts === this.#cuts && offset >= this.#start) {
        return page(decodeRecords(bytes), maxBytes, maxRecords);
      }
    }
  }

  /**
   * What the record at `offset` goes on from, with which another record log can be begun there. Rejects with `RecordLogError`
   * "out_of_range" below the start and beyond the end, "disk_full" for what it has no room for yet, and "closed".
   */
  async placeAt(offset: number): Promise<RecordLogPlace> {
    this.#assertOpen();
    if (offset < this.#start || offset > this.#end) throw this.#outOfRange(offset);
    if (offset === this.#end) return this.place;
    if (offset > this.#log.lastSeq) throw must(this.#blocked, "what is not in the log waits for room");
    const { epoch, timestampMs, chain } = await this.#log.endAt(toSeq(offset));
    return { offset, epoch, timestampMs, chain };
  }

  /**
   * Records from `offset` on, as the log has them, encoded: as many as have `maxBytes` bytes, but at least one. Those below
   * the start too, as long as the disk has them. Whoever reads so keeps the record log from being cut meanwhile, and asks for
   * nothing that is not written. Rejects with `WalError` "out_of_range", "corrupt", "io".
   */
  readEncoded(offset: number, maxBytes: number): Promise<Uint8Array> {
    return this.#log.read(toSeq(offset), maxBytes);
  }

  /**
   * Makes `offset` the start, at once, and removes the segments that lie as a whole below it and below `removableBelow`, for
   * what a snapshot relies on must stay on the disk. The start never moves back. Resolves when they are removed; rejects
   * with `WalError` "io" when some could not be: they go with the next truncation.
   */
  async truncateBelow(offset: number, removableBelow = offset): Promise<void> {
    this.#assertOpen();
    assert(offset <= this.#end, `the start ${offset} is not beyond the end ${this.#end}`);
    if (offset > this.#start) {
      this.#start = offset;
      this.#extents.truncateBelow(offset);
    }
    await this.#inTurn(() => this.#removeSegments(Math.min(this.#start, removableBelow)));
  }

  /**
   * Drops every record from `end` on, durably. The start is then the lowest offset that the disk has, as after opening.
   * Nothing may be appended meanwhile. Rejects with `RecordLogError` "out_of_range" when the disk has nothing from below `end`
   * on any more, and with `WalError` "failed", which is final.
   */
  async cutAfter(end: number): Promise<void> {
    this.#assertOpen();
    assert(!this.#cutting, "the record log is cut once at a time");
    this.#cuts++;
    this.#cutting = this.#inTurn(() => this.#cut(end));
    try {
      await this.#cutting;
    } finally {
      this.#cutting = undefined;
    }
  }

  /** Resolves when what is appended is synced. Rejects with `RecordLogError` "disk_full", `WalError` "failed". */
  async flush(): Promise<void> {
    this.#assertOpen();
    if (this.#blocked) throw this.#blocked;
    try {
      await this.#log.flush();
    } catch (error) {
      throw this.#blocked ?? error;
    }
  }

  /**
   * Resolves when what is appended is written, so that appending in bulk does not fill the memory. Rejects with
   * `RecordLogError` "closed", `WalError` "failed".
   */
  written(): Promise<void> {
    if (this.#unwritten.firstOffset === undefined) return Promise.resolve();
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      this.#writeWaiters.push({ offset: this.#end, settle: (error) => (error ? reject(error) : resolve()) });
    });
  }

  /** Syncs, and closes the files. What the full disk has no room for is lost here, and the store brings it again. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#retry?.cancel();
    try {
      await this.#turn;
      await this.#log.close();
    } finally {
      this.#settleWriters(closedError());
    }
  }

  /** Undefined when the place was removed meanwhile. */
  async #readLog(offset: number, maxBytes: number): Promise<Uint8Array | undefined> {
    try {
      return await this.#log.read(toSeq(offset), maxBytes);
    } catch (error) {
      if (error instanceof WalError && error.code === "out_of_range") {
        assert(offset < this.#log.compactSeq, `record ${offset} is in the log`);
        return undefined;
      }
      throw error;
    }
  }

  /** Acts on whole segments, one after another. */
  #inTurn(act: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  async #removeSegments(below: number): Promise<void> {
    const seq = toSeq(below);
    if (this.#closing || seq <= this.#log.compactSeq) return;
    // Or else the last segment would keep its bytes until something is produced again.
    if (seq === this.#log.lastSeq) await this.#log.rotate();
    await this.#log.truncateBelow(seq);
  }

  async #cut(end: number): Promise<void> {
    if (end < this.#log.compactSeq) throw this.#outOfRange(end);
    await this.#log.cutAfter(toSeq(Math.min(end, this.#log.lastSeq)));
    // The write that came before the cut may have found the disk full.
    this.#unwritten.cutFrom(end);
    if (this.#unwritten.firstOffset === undefined) this.#unblock();
    this.#extents.cutFrom(end);
    this.#end = Math.min(end, this.#end);
    this.#start = this.#log.compactSeq;
    const { epoch, chain } = this.#log.last;
    this.#epoch = epoch;
    this.#timestampMs = this.#log.lastTimestampMs;
    this.#chain = chain;
    for (const record of this.#unwritten.from(this.#log.lastSeq)) {
      this.#epoch = record.epoch;
      this.#timestampMs = record.timestampMs;
      this.#chain = chainAfter(this.#chain, record);
    }
  }

  #wrote(seq: Seq): void {
    this.#unwritten.forgetBelow(seq);
    let settled = 0;
    for (const waiter of this.#writeWaiters) {
      if (waiter.offset > seq) break;
      waiter.settle();
      settled++;
    }
    this.#writeWaiters.splice(0, settled);
  }

  /** The log has forgotten what it had not written; here it is still known. */
  #block(cause: WalError): void {
    // It may have been a new segment for which there was no room, with nothing to write yet.
    if (this.#unwritten.firstOffset === undefined) return;
    this.#blocked = new RecordLogError(
      "disk_full",
      `the disk has no room for ${this.#unwritten.byteLength} bytes that were produced; free some, and they are written`,
      { cause },
    );
    this.#options.logger.error("the disk has no room for produced records; they stay in memory until it has", {
      from_offset: this.#unwritten.firstOffset,
      bytes: this.#unwritten.byteLength,
    });
    this.#retry = this.#options.clock.after(RETRY_MS, () => this.#writeAgain());
  }

  #unblock(): void {
    this.#blocked = undefined;
    this.#retry?.cancel();
  }

  #writeAgain(): void {
    if (this.#cutting) {
      this.#retry = this.#options.clock.after(RETRY_MS, () => this.#writeAgain());
      return;
    }
    this.#unblock();
    for (const { epoch, timestampMs, payload } of this.#unwritten.from(this.#log.lastSeq)) {
      this.#log.append({ epoch, timestampMs, payload });
    }
    assert(this.#log.last.chain === this.#chain, "what is written again is what was appended");
  }

  #fail(error: WalError): void {
    this.#retry?.cancel();
    this.#settleWriters(error);
    this.#options.onFailed(error);
  }

  #settleWriters(error: Error): void {
    for (const waiter of this.#writeWaiters.splice(0)) waiter.settle(error);
  }

  #assertOpen(): void {
    if (this.#closing) throw closedError();
  }

  #outOfRange(offset: number): RecordLogError {
    const range: OffsetRange = { start: this.#start, end: this.#end };
    return new RecordLogError(
      "out_of_range",
      `offset ${offset} is not in the record log, which has ${range.start} up to, but without, ${range.end}`,
      { range },
    );
  }
}

function toLogRecord({ offset, ...record }: UnwrittenRecord): Parameters<typeof decodeRecord>[0] {
  return { ...record, seq: toSeq(offset + 1) };
}

function page(
  records: Iterable<Parameters<typeof decodeRecord>[0]>,
  maxBytes: number,
  maxRecords: number,
): ProducedRecord[] {
  const found: ProducedRecord[] = [];
  let bytes = 0;
  for (const encoded of records) {
    const record = decodeRecord(encoded);
    bytes += record.record.length;
    if (found.length > 0 && bytes > maxBytes) break;
    found.push(record);
    if (found.length === maxRecords) break;
  }
  return found;
}

/** The chain value after a record that the log has not taken. */
function chainAfter(chain: number, { offset, epoch, timestampMs, payload }: UnwrittenRecord): number {
  const scratch = Buffer.allocUnsafe(RECORD_HEADER_BYTES + payload.length);
  return encodeRecord(scratch, 0, { seq: toSeq(offset + 1), epoch, timestampMs }, chain, payload);
}

function closedError(): RecordLogError {
  return new RecordLogError("closed", "the record log is closed");
}
