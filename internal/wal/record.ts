/**
 * The codec of records. A record is the same bytes on every node and the only thing of the log that travels between nodes.
 *
 *       0        4        8        12       16                24                32                40
 *      ┌────────┬────────┬────────┬────────┬─────────────────┬─────────────────┬─────────────────┬─────────┐
 *      │ header │ chain  │ payload│ chain  │ seq             │ epoch           │ timestamp       │ payload │
 *      │ CRC    │        │ length │ before │                 │                 │ ms              │ …       │
 *      └────────┴────────┴────────┴────────┴─────────────────┴─────────────────┴─────────────────┴─────────┘
 *       u32      u32      u32      u32      u64               u64               u64
 *
 * All numbers are little-endian. `header CRC` is the CRC-32 of bytes 4..40, so that a length is never believed unchecked.
 * `chain` is the CRC-32 of bytes 8..end, continued from `chain before`, which is the chain of the record before, and
 * `chainSeed(clusterId)` for the first: a missing, swapped or foreign record breaks the chain. The payload length must
 * stand between the seed and its copy in `chain before`: a CRC that runs straight over its own value forgets it.
 */
import { assert } from "../base/assert.js";
import { crc32, crc32Range, crc32View } from "../base/crc32.js";
import { idToBytes, type ClusterId } from "../base/ids.js";
import type { Epoch, EpochMs, LogMark, Seq } from "../base/position.js";
import { asBuffer, readI32, readU32, readU64, writeU64 } from "./bytes.js";
import { WalError } from "./wal-error.js";

export const RECORD_HEADER_BYTES = 40;
/** The largest payload of one record. */
export const PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

/** One atomic change as it stands in the log. */
export interface LogRecord {
  readonly seq: Seq;
  readonly epoch: Epoch;
  /** By the master's clock; never goes back along the log. */
  readonly timestampMs: EpochMs;
  readonly chainBefore: number;
  readonly chain: number;
  /** A view into the bytes that were decoded; copy what must outlive them. */
  readonly payload: Uint8Array;
  /** Of the whole record, header included. */
  readonly byteLength: number;
}

/** The chain value before the first record of a cluster's log. */
export function chainSeed(clusterId: ClusterId): number {
  return crc32(idToBytes(clusterId));
}

/** The end of a log: what the next record must continue. */
export interface LogEnd extends LogMark {
  readonly timestampMs: EpochMs;
}

/** A `LogEnd` that moves along a log. */
export type MovingLogEnd = { -readonly [K in keyof LogEnd]: LogEnd[K] };

/** Writes one record into `into` at `offset`, where there must be room, and returns its chain value. */
export function encodeRecord(
  into: Buffer,
  offset: number,
  record: { readonly seq: Seq; readonly epoch: Epoch; readonly timestampMs: EpochMs },
  chainBefore: number,
  payload: Uint8Array,
): number {
  const end = offset + RECORD_HEADER_BYTES + payload.length;
  assert(payload.length <= PAYLOAD_BYTES_MAX && end <= into.length, "a record has room and a payload within the limit");
  into.writeUInt32LE(payload.length, offset + 8);
  into.writeUInt32LE(chainBefore, offset + 12);
  writeU64(into, record.seq, offset + 16);
  writeU64(into, record.epoch, offset + 24);
  writeU64(into, record.timestampMs, offset + 32);
  into.set(payload, offset + RECORD_HEADER_BYTES);
  const chain = crc32Range(into, offset + 8, end, chainBefore);
  into.writeUInt32LE(chain, offset + 4);
  into.writeUInt32LE(crc32Range(into, offset + 4, offset + RECORD_HEADER_BYTES), offset);
  return chain;
}

/** Where the record at `offset` ends by its own length, which may lie past the bytes; the header must be whole. */
export function recordEnd(bytes: Buffer, offset: number): number {
  return offset + RECORD_HEADER_BYTES + readU32(bytes, offset + 8);
}

export function recordSeq(bytes: Buffer, offset: number): number {
  return readU64(bytes, offset + 16);
}

/**
 * The record at `offset`, which must be whole and known to be sound: its numbers are taken as they stand, since whoever
 * calls has compared them with what is expected, or has checked their CRC.
 */
export function recordAt(bytes: Buffer, offset: number): LogRecord {
  const length = readU32(bytes, offset + 8);
  return {
    seq: readU64(bytes, offset + 16) as Seq,
    epoch: readU64(bytes, offset + 24) as Epoch,
    timestampMs: readU64(bytes, offset + 32) as EpochMs,
    chainBefore: readU32(bytes, offset + 12),
    chain: readU32(bytes, offset + 4),
    payload: new Uint8Array(bytes.buffer, bytes.byteOffset + offset + RECORD_HEADER_BYTES, length),
    byteLength: RECORD_HEADER_BYTES + length,
  };
}

/** A record where it lies: what it says is of the place that it was moved to last, and no object is made for any. */
export class RecordView implements LogRecord {
  bytes: Buffer = Buffer.alloc(0);
  #offset = 0;

  /** Moves to the record at `offset`, which must be whole and known to be sound. */
  moveTo(bytes: Buffer, offset: number): void {
    this.bytes = bytes;
    this.#offset = offset;
  }

  get seq(): Seq {
    return readU64(this.bytes, this.#offset + 16) as Seq;
  }

  get epoch(): Epoch {
    return readU64(this.bytes, this.#offset + 24) as Epoch;
  }

  get timestampMs(): EpochMs {
    return readU64(this.bytes, this.#offset + 32) as EpochMs;
  }

  get chainBefore(): number {
    return readU32(this.bytes, this.#offset + 12);
  }

  get chain(): number {
    return readU32(this.bytes, this.#offset + 4);
  }

  get byteLength(): number {
    return recordEnd(this.bytes, this.#offset) - this.#offset;
  }

  /** The first byte of the payload; 0 when that is empty. */
  get firstByte(): number {
    return this.byteLength > RECORD_HEADER_BYTES ? this.bytes[this.#offset + RECORD_HEADER_BYTES]! : 0;
  }

  get payload(): Uint8Array {
    return recordAt(this.bytes, this.#offset).payload;
  }
}

/** The log's end after the record at `offset`, which must be whole and known to be sound. */
export function logEndAt(bytes: Buffer, offset: number): LogEnd {
  return {
    seq: readU64(bytes, offset + 16) as Seq,
    epoch: readU64(bytes, offset + 24) as Epoch,
    chain: readU32(bytes, offset + 4),
    timestampMs: readU64(bytes, offset + 32) as EpochMs,
  };
}

/** The last seq in whole records that lie one after another. */
export function lastSeqOf(records: Buffer): number {
  let last = 0;
  for (let at = 0; at < records.length; at = recordEnd(records, at)) last = recordSeq(records, at);
  return last;
}

/** What was expected of a record and what was found instead. */
export interface RecordProblem {
  readonly expected: string;
  readonly found: string;
}

/**
 * Moves `log` over the record at `offset` when a whole record stands there, before `end`, that continues it: in its length,
 * seq, chain, epoch and time. Otherwise leaves `log` and says what is wrong. Nothing is summed: this is for bytes
 * that a CRC has vouched for.
 */
export function followRecord(bytes: Buffer, offset: number, end: number, log: MovingLogEnd): RecordProblem | undefined {
  if (end - offset < RECORD_HEADER_BYTES) {
    return { expected: `a record header of ${RECORD_HEADER_BYTES} bytes`, found: `${end - offset} bytes` };
  }
  const length = readU32(bytes, offset + 8);
  if (length > PAYLOAD_BYTES_MAX || offset + RECORD_HEADER_BYTES + length > end) {
    return { expected: `a payload of at most ${end - offset - RECORD_HEADER_BYTES} bytes`, found: `${length}` };
  }
  const seq = readU64(bytes, offset + 16);
  if (seq !== log.seq + 1) return { expected: `seq ${log.seq + 1}`, found: `${seq}` };
  const chainBefore = readU32(bytes, offset + 12);
  if (chainBefore !== log.chain) return { expected: `seq ${seq} after chain ${log.chain}`, found: `${chainBefore}` };
  const epoch = readU64(bytes, offset + 24);
  if (epoch < log.epoch || !Number.isSafeInteger(epoch)) {
    return { expected: `epoch ${log.epoch} or later at seq ${seq}`, found: `${epoch}` };
  }
  const timestampMs = readU64(bytes, offset + 32);
  if (timestampMs < log.timestampMs || !Number.isSafeInteger(timestampMs)) {
    return { expected: `a time of ${log.timestampMs} ms or later at seq ${seq}`, found: `${timestampMs}` };
  }
  log.seq = seq as Seq;
  log.epoch = epoch as Epoch;
  log.timestampMs = timestampMs as EpochMs;
  log.chain = readU32(bytes, offset + 4);
  return undefined;
}

/**
 * Moves `log` over records that lie one after another, as far as each is sound by its CRCs and continues the one before; gives where
 * that ends. What is wrong there, `damageProblem` or `followRecord` says. All that a replica is sent comes by here, so that nothing
 * is made or called for a record beside its sums.
 */
export function followSoundRecords(bytes: Buffer, log: MovingLogEnd): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let { seq, epoch, timestampMs }: { seq: number; epoch: number; timestampMs: number } = log;
  // Signed, as all sums here: the larger half of unsigned ones would be an object each.
  let chain = log.chain | 0;
  let at = 0;
  while (bytes.length - at >= RECORD_HEADER_BYTES) {
    const length = view.getUint32(at + 8, true);
    const end = at + RECORD_HEADER_BYTES + length;
    if (length > PAYLOAD_BYTES_MAX || end > bytes.length) break;
    if (view.getInt32(at + 12, true) !== chain || u64At(view, at + 16) !== seq + 1) break;
    const nextEpoch = u64At(view, at + 24);
    const nextTimestampMs = u64At(view, at + 32);
    if (nextEpoch < epoch || nextEpoch > Number.MAX_SAFE_INTEGER) break;
    if (nextTimestampMs < timestampMs || nextTimestampMs > Number.MAX_SAFE_INTEGER) break;
    if (crc32View(view, at + 4, at + RECORD_HEADER_BYTES) !== view.getInt32(at, true)) break;
    const nextChain = view.getInt32(at + 4, true);
    if (crc32View(view, at + 8, end, chain) !== nextChain) break;
    seq++;
    epoch = nextEpoch;
    timestampMs = nextTimestampMs;
    chain = nextChain;
    at = end;
  }
  log.seq = seq as Seq;
  log.epoch = epoch as Epoch;
  log.timestampMs = timestampMs as EpochMs;
  log.chain = chain >>> 0;
  return at;
}

/** As `readU64`. */
function u64At(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getUint32(offset + 4, true) * 2 ** 32;
}

/**
 * What the chain value says against the record at `offset`, which must be whole; undefined when nothing. It is over all but the
 * header's CRC: enough where a CRC vouches for the bytes as they were written, since it tells whether they were right then.
 */
export function chainProblem(bytes: Buffer, offset: number): RecordProblem | undefined {
  const chain = readU32(bytes, offset + 4);
  const expected = crc32Range(bytes, offset + 8, recordEnd(bytes, offset), readU32(bytes, offset + 12));
  return chain === expected ? undefined : { expected: `chain ${expected}`, found: `${chain}` };
}

/** What the CRCs say against the record at `offset`, which must lie before `end`; undefined when nothing. */
export function damageProblem(bytes: Buffer, offset: number, end: number): RecordProblem | undefined {
  if (end - offset < RECORD_HEADER_BYTES) {
    return { expected: `a record header of ${RECORD_HEADER_BYTES} bytes`, found: `${end - offset} bytes` };
  }
  const headerCrc = readU32(bytes, offset);
  const expectedCrc = crc32Range(bytes, offset + 4, offset + RECORD_HEADER_BYTES);
  if (headerCrc !== expectedCrc) return { expected: `header CRC ${expectedCrc}`, found: `${headerCrc}` };
  const recordEndOffset = recordEnd(bytes, offset);
  if (recordEndOffset > end) {
    return { expected: `a record of at most ${end - offset} bytes`, found: `${recordEndOffset - offset}` };
  }
  return chainProblem(bytes, offset);
}

/**
 * Goes through whole records that lie one after another, without an object for each: its numbers are those of the record at
 * which it stands, from `next` to `next`. That each continues the one before is checked in any case, and the first may continue
 * anything; besides, each's CRCs, or its chain value alone (see `chainProblem`), or nothing.
 */
export class RecordRun {
  readonly bytes: Buffer;
  readonly #view: DataView;
  readonly #checked: "crcs" | "chains" | "nothing";
  readonly #log: MovingLogEnd;
  /** Where in `bytes` the record begins, and where it ends. */
  #start = 0;
  #end = 0;

  constructor(bytes: Uint8Array, checked: "crcs" | "chains" | "nothing") {
    this.bytes = asBuffer(bytes);
    this.#view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
    this.#checked = checked;
    this.#log = claimedStart(this.bytes);
  }

  get seq(): Seq {
    return this.#log.seq;
  }

  get epoch(): Epoch {
    return this.#log.epoch;
  }

  get timestampMs(): EpochMs {
    return this.#log.timestampMs;
  }

  get byteLength(): number {
    return this.#end - this.#start;
  }

  get payloadStart(): number {
    return this.#start + RECORD_HEADER_BYTES;
  }

  get payloadEnd(): number {
    return this.#end;
  }

  /** The record by itself. */
  get record(): LogRecord {
    return recordAt(this.bytes, this.#start);
  }

  /** Whether the chain value of the record at a place is right, as `chainProblem` has it. */
  #isChained(offset: number): boolean {
    const { bytes } = this;
    return (
      crc32View(this.#view, offset + 8, recordEnd(bytes, offset), readI32(bytes, offset + 12)) ===
      readI32(bytes, offset + 4)
    );
  }

  /** Goes on to the next record; false at the end. Throws `WalError` "mismatch" where the bytes are no run of records. */
  next(): boolean {
    const { bytes } = this;
    const offset = this.#end;
    if (offset === bytes.length) return false;
    const problem =
      (this.#checked === "crcs" ? damageProblem(bytes, offset, bytes.length) : undefined) ??
      followRecord(bytes, offset, bytes.length, this.#log) ??
      (this.#checked === "chains" && !this.#isChained(offset) ? chainProblem(bytes, offset) : undefined);
    if (problem) throw new WalError("mismatch", "these bytes are not a run of records", { offset, ...problem });
    this.#start = offset;
    this.#end = recordEnd(bytes, offset);
    return true;
  }
}

/**
 * The records in `bytes`, one after another. With `verify`, the CRCs of each are checked. That each continues the one before is
 * checked in any case; the first may continue anything. Throws `WalError` "mismatch" where that fails, or where the
 * bytes end inside a record.
 */
export function* decodeRecords(bytes: Uint8Array, verify = false): Generator<LogRecord> {
  const run = new RecordRun(bytes, verify ? "crcs" : "nothing");
  while (run.next()) yield run.record;
}

/** The end of the log that the first of these records says it continues. */
function claimedStart(records: Buffer): MovingLogEnd {
  const whole = records.length >= RECORD_HEADER_BYTES;
  return {
    seq: (whole ? recordSeq(records, 0) - 1 : 0) as Seq,
    epoch: 0 as Epoch,
    timestampMs: 0 as EpochMs,
    chain: whole ? readU32(records, 12) : 0,
  };
}
