/**
 * The codec of produced records. In the record log, the record with the offset n is the log's record with seq n + 1; epoch and
 * time are those of the store's record that produced it. Its payload:
 *
 *       0                 8                 16
 *      ┌─────────────────┬─────────────────┬─────────┐
 *      │ seq in the      │ epoch id        │ record  │
 *      │ store's log     │                 │ …       │
 *      └─────────────────┴─────────────────┴─────────┘
 *       u64               8 bytes           as produced
 *
 * Numbers are little-endian. Seq and epoch id together name the record of the store's log, in its one history, that the
 * produced record came with.
 */
import { assert } from "../base/assert.js";
import { type EpochId, epochId, idFromBytes, idToBytes } from "../base/ids.js";
import { type EpochMs, type Position, type Seq, seq as toSeq } from "../base/position.js";
import { asBuffer, readU64, writeU64 } from "../wal/bytes.js";
import { type LogRecord, PAYLOAD_BYTES_MAX } from "../wal/record.js";

const EPOCH_ID_OFFSET = 8;
export const PREFIX_BYTES = 16;
/** The largest record that can be produced, whatever the limits of requests are. */
export const RECORD_BYTES_MAX = PAYLOAD_BYTES_MAX - PREFIX_BYTES;

/** A record that was produced, as it is read. */
export interface ProducedRecord {
  /** 0, 1, 2, …: its place in the record log, dense. */
  readonly offset: number;
  /** The bytes as they were produced. They stay as they are; do not change them. */
  readonly record: Uint8Array;
  /** The record of the store's log that it came with; records that were produced together share it. */
  readonly position: Position;
  readonly epochId: EpochId;
  /** The master's time; never goes back from one offset to the next. */
  readonly timestampMs: EpochMs;
}

/** The payload of a produced record; the record is copied. */
export function encodePayload(seq: Seq, id: EpochId, record: Uint8Array): Buffer {
  assert(record.length <= RECORD_BYTES_MAX, `a record of ${record.length} bytes is within ${RECORD_BYTES_MAX}`);
  const payload = Buffer.allocUnsafe(PREFIX_BYTES + record.length);
  writeU64(payload, seq, 0);
  payload.set(idToBytes(id), EPOCH_ID_OFFSET);
  payload.set(record, PREFIX_BYTES);
  return payload;
}

/** The produced record that a record of the log carries; its bytes are a view into it. */
export function decodeRecord(record: Pick<LogRecord, "seq" | "epoch" | "timestampMs" | "payload">): ProducedRecord {
  const payload = asBuffer(record.payload);
  // The log has summed these bytes, so that nobody but this codec can have made them.
  assert(payload.length >= PREFIX_BYTES, `the payload of record ${record.seq} has its prefix`);
  return {
    offset: record.seq - 1,
    record: payload.subarray(PREFIX_BYTES),
    position: { epoch: record.epoch, seq: toSeq(readU64(payload, 0)) },
    epochId: epochId(idFromBytes(payload.subarray(EPOCH_ID_OFFSET, PREFIX_BYTES))),
    timestampMs: record.timestampMs,
  };
}
