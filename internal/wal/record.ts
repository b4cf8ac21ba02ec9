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
import { crc32 } from "../base/crc32.js";
import { idToBytes, type ClusterId } from "../base/ids.js";
import { epoch, epochMs, seq, type Epoch, type EpochMs, type Seq } from "../base/position.js";
import { WalError } from "./wal-error.js";

export const RECORD_HEADER_BYTES = 40;
/** The largest payload of one record. */
export const PAYLOAD_BYTES_MAX = 64 * 1024 * 1024;

const TWO_32 = 2 ** 32;

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

export function recordBytes(payloadBytes: number): number {
  return RECORD_HEADER_BYTES + payloadBytes;
}

/** What goes into a record's header beside what is computed. */
export interface RecordFields {
  readonly seq: Seq;
  readonly epoch: Epoch;
  readonly timestampMs: EpochMs;
  readonly chainBefore: number;
}

/** Writes one record into `into` at `offset`, where there must be room; returns its chain value. */
export function encodeRecord(into: Buffer, offset: number, fields: RecordFields, payload: Uint8Array): number {
  const end = offset + RECORD_HEADER_BYTES + payload.length;
  assert(payload.length <= PAYLOAD_BYTES_MAX, `a payload of ${payload.length} bytes exceeds ${PAYLOAD_BYTES_MAX}`);
  assert(end <= into.length, `a record that ends at ${end} does not fit into ${into.length} bytes`);
  into.writeUInt32LE(payload.length, offset + 8);
  into.writeUInt32LE(fields.chainBefore, offset + 12);
  writeU64(into, fields.seq, offset + 16);
  writeU64(into, fields.epoch, offset + 24);
  writeU64(into, fields.timestampMs, offset + 32);
  into.set(payload, offset + RECORD_HEADER_BYTES);
  const chain = crc32(into.subarray(offset + 8, end), fields.chainBefore);
  into.writeUInt32LE(chain, offset + 4);
  into.writeUInt32LE(crc32(into.subarray(offset + 4, offset + RECORD_HEADER_BYTES)), offset);
  return chain;
}

/**
 * The record at `offset`, checked for its structure only; undefined when the bytes end inside it. Header CRC and chain
 * are `recordDamage`'s.
 */
export function decodeRecord(bytes: Buffer, offset: number): LogRecord | undefined {
  if (bytes.length - offset < RECORD_HEADER_BYTES) return undefined;
  const end = offset + RECORD_HEADER_BYTES + bytes.readUInt32LE(offset + 8);
  if (end > bytes.length) return undefined;
  return {
    seq: seq(readU64(bytes, offset + 16)),
    epoch: epoch(readU64(bytes, offset + 24)),
    timestampMs: epochMs(readU64(bytes, offset + 32)),
    chainBefore: bytes.readUInt32LE(offset + 12),
    chain: bytes.readUInt32LE(offset + 4),
    payload: bytes.subarray(offset + RECORD_HEADER_BYTES, end),
    byteLength: end - offset,
  };
}

/** What is wrong with a whole record's own bytes; undefined when nothing is. */
export function recordDamage(bytes: Buffer, offset: number): { expected: string; found: string } | undefined {
  const headerCrc = crc32(bytes.subarray(offset + 4, offset + RECORD_HEADER_BYTES));
  const foundCrc = bytes.readUInt32LE(offset);
  if (headerCrc !== foundCrc) return { expected: `header CRC ${headerCrc}`, found: `${foundCrc}` };
  const end = offset + RECORD_HEADER_BYTES + bytes.readUInt32LE(offset + 8);
  const chain = crc32(bytes.subarray(offset + 8, end), bytes.readUInt32LE(offset + 12));
  const foundChain = bytes.readUInt32LE(offset + 4);
  if (chain !== foundChain) return { expected: `chain ${chain}`, found: `${foundChain}` };
  return undefined;
}

/**
 * The records in `bytes`, one after another. With `verify`, each one's header CRC and chain are checked and that it
 * continues the one before; throws `WalError` "mismatch" where one does not. Bytes that end inside a record are a mismatch
 * in any case.
 */
export function* decodeRecords(bytes: Uint8Array, verify = false): Generator<LogRecord> {
  const buffer = asBuffer(bytes);
  let before: LogRecord | undefined;
  for (let offset = 0; offset < buffer.length;) {
    // The header's own CRC goes first: without it a damaged length or seq would be believed.
    if (verify && buffer.length - offset >= RECORD_HEADER_BYTES) checkHeader(buffer, offset);
    const record = decodeRecord(buffer, offset);
    if (!record) {
      throw new WalError("mismatch", `${buffer.length - offset} bytes at byte ${offset} hold no whole record`);
    }
    if (verify) {
      const damage = recordDamage(buffer, offset);
      if (damage) throw new WalError("mismatch", `record ${record.seq} is damaged`, { offset, ...damage });
      if (before) checkSuccession(before, record, offset);
      before = record;
    }
    yield record;
    offset += record.byteLength;
  }
}

function checkHeader(bytes: Buffer, offset: number): void {
  const expected = crc32(bytes.subarray(offset + 4, offset + RECORD_HEADER_BYTES));
  const found = bytes.readUInt32LE(offset);
  if (expected === found) return;
  throw new WalError("mismatch", `the header of the record at byte ${offset} is damaged`, {
    offset,
    expected: `header CRC ${expected}`,
    found: `${found}`,
  });
}

function checkSuccession(before: LogRecord, record: LogRecord, offset: number): void {
  if (record.seq === before.seq + 1 && record.chainBefore === before.chain) return;
  throw new WalError("mismatch", `record ${record.seq} does not follow record ${before.seq}`, {
    offset,
    expected: `seq ${before.seq + 1} after chain ${before.chain}`,
    found: `seq ${record.seq} after chain ${record.chainBefore}`,
  });
}

/** The same bytes as a Buffer, whose accessors are the fastest that Node has; no copy. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

export function writeU64(into: Buffer, value: number, offset: number): void {
  into.writeUInt32LE(value >>> 0, offset);
  into.writeUInt32LE(Math.floor(value / TWO_32), offset + 4);
}

/** May exceed the safe integers when the bytes are damaged; the makers of `Seq` and its like refuse that. */
export function readU64(bytes: Buffer, offset: number): number {
  return bytes.readUInt32LE(offset) + bytes.readUInt32LE(offset + 4) * TWO_32;
}
