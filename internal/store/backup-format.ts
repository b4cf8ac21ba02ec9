/**
 * The bytes of a backup: one file with everything that is replicated. All numbers are little-endian.
 *
 * ```
 *  ┌────────┬───────┬────────┬──────────┬─────────┬───────────┬───────────┬───────┬────────────┬─────┐
 *  │ header │ state │ epochs │ settings │ members │ entries … │ retries … │ log … │ produced … │ end │
 *  └────────┴───────┴────────┴──────────┴─────────┴───────────┴───────────┴───────┴────────────┴─────┘
 *
 * header, 64 bytes
 *   0  "CAMBBACK"   8  format version (4)   12  CRC of the header with this field 0 (4)   16  cluster id (16)
 *  32  seq (8)   40  epoch (8): applied when the backup was asked for; the backup holds all up to there, and more
 *  48  salt (16): random, so that no chunk of another backup can stand in this one
 *
 * chunks (chunk-codec.ts) behind the header, in this order; `…` stands for any number of them
 *
 * kind 1  state     from: place   to: place   produced, start: place   produced, told start (8)   produced, end (8)
 *                   produced, chain (4)   keys (8)
 *                   where place = { seq, or offset (8)  epoch (8)  timestamp ms (8)  chain (4) }
 * kind 2  epochs    as in a snapshot, those that began up to `to`
 * kind 3  settings  as in a snapshot, as they were at `to`
 * kind 4  members   as in a snapshot, as they were at `to`
 * kind 5  entries   as in a snapshot that begins at `from`
 * kind 9  retries   as in a snapshot that begins at `from`; none where nothing is remembered
 * kind 6  log       whole encoded records: from + 1 … to
 * kind 7  produced  whole encoded records of the record log: from its start up to its end
 * kind 8  end       entries (8)   sum of their CRCs, modulo 2^32 (4)   log records (8)   produced records (8)
 *                   bytes before this chunk (8)   their CRC (4)
 * ```
 *
 * Entries and retries were walked while the state changed; with the records of the log replayed over them they are the state at
 * `to`, at which epochs, settings, members and the record log stood as they are here.
 */
import { crc32 } from "../base/crc32.js";
import { type ClusterId, clusterId, idFromBytes, idToBytes } from "../base/ids.js";
import { epoch, epochMs, type Position, seq } from "../base/position.js";
import type { RecordLogPlace } from "../records/record-log.js";
import type { LogEnd } from "../wal/log.js";
import { ByteReader, ByteWriter, FormatError } from "./byte-codec.js";
import { ChunkCodec } from "./chunk-codec.js";

export const BACKUP_FORMAT = 1;
export const BACKUP_HEADER_BYTES = 64;
/** Records are gathered up to this size in a chunk; one that is larger has a chunk of its own. */
export const BACKUP_CHUNK_BYTES = 256 * 1024;

const MAGIC = Buffer.from("CAMBBACK");
const SALT_BYTES = 16;
const PLACE_BYTES = 28;
const KINDS = [
  undefined,
  "state",
  "epochs",
  "settings",
  "members",
  "entries",
  "log",
  "produced",
  "end",
  "retries",
] as const;

export type BackupKind = NonNullable<(typeof KINDS)[number]>;

const ORDER: readonly BackupKind[] = [
  "state",
  "epochs",
  "settings",
  "members",
  "entries",
  "retries",
  "log",
  "produced",
  "end",
];

export interface BackupHeader {
  readonly clusterId: ClusterId;
  /** Applied when the backup was asked for. */
  readonly position: Position;
  readonly salt: Uint8Array;
}

export interface BackupState {
  /** Where the walk over the entries began. */
  readonly from: LogEnd;
  /** The place in the log at which the backup gives the state. */
  readonly to: LogEnd;
  /** The record log's start, which the first record that is here goes on from. */
  readonly producedStart: RecordLogPlace;
  /** The record log's start as the log says it: `producedStart` lies behind it where what was between is gone already. */
  readonly toldStart: number;
  /** The record log's next offset. */
  readonly producedEnd: number;
  /** The record log's chain value after its last record. */
  readonly producedChain: number;
  /** Keys at `to`, those past their deadline included until they are removed. */
  readonly keys: number;
}

export interface BackupEnd {
  readonly entries: number;
  readonly entriesChecksum: number;
  readonly logRecords: number;
  readonly producedRecords: number;
  /** Of the file, before the chunk that says so. */
  readonly bytes: number;
  readonly checksum: number;
}

/** Makes and checks the chunks of one backup, in their order. */
export function backupChunks(header: BackupHeader): ChunkCodec<BackupKind> {
  return new ChunkCodec(header.salt, KINDS);
}

/** How far on in a backup a kind of chunk stands. */
export const kindOrder = (kind: BackupKind): number => ORDER.indexOf(kind);

export function encodeBackupHeader(header: BackupHeader): Buffer {
  const writer = new ByteWriter(Buffer.alloc(BACKUP_HEADER_BYTES));
  writer.raw(MAGIC);
  writer.uint32(BACKUP_FORMAT);
  writer.uint32(0);
  writer.raw(idToBytes(header.clusterId));
  writer.uint64(header.position.seq);
  writer.uint64(header.position.epoch);
  writer.raw(header.salt);
  writer.bytes.writeUInt32LE(crc32(writer.bytes), 12);
  return writer.bytes;
}

/** Throws `FormatError`. */
export function decodeBackupHeader(bytes: Uint8Array): BackupHeader {
  const header = Buffer.from(bytes);
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) throw new FormatError("this is no backup");
  const reader = new ByteReader(header);
  reader.raw(MAGIC.length);
  const format = reader.uint32();
  const found = reader.uint32();
  header.writeUInt32LE(0, 12);
  // The checksum first: a damaged number must not send anybody to look for a newer version.
  if (crc32(header) !== found) throw new FormatError("the header is damaged");
  if (format > BACKUP_FORMAT) {
    throw new FormatError(`format ${format} is newer than the ${BACKUP_FORMAT} of this version; use a newer one`);
  }
  const id = clusterId(idFromBytes(reader.raw(16)));
  const position = { seq: seq(reader.uint64()), epoch: epoch(reader.uint64()) };
  return { clusterId: id, position, salt: new Uint8Array(reader.raw(SALT_BYTES)) };
}

export function encodeState(state: BackupState): Uint8Array {
  const writer = new ByteWriter(Buffer.allocUnsafe(3 * PLACE_BYTES + 28));
  const start = { ...state.producedStart, seq: state.producedStart.offset };
  for (const place of [state.from, state.to, start]) {
    writer.uint64(place.seq);
    writer.uint64(place.epoch);
    writer.uint64(place.timestampMs);
    writer.uint32(place.chain);
  }
  writer.uint64(state.toldStart);
  writer.uint64(state.producedEnd);
  writer.uint32(state.producedChain);
  writer.uint64(state.keys);
  return writer.bytes;
}

export function decodeState(content: Uint8Array): BackupState {
  const reader = new ByteReader(content);
  const place = (): LogEnd => ({
    seq: seq(reader.uint64()),
    epoch: epoch(reader.uint64()),
    timestampMs: epochMs(reader.uint64()),
    chain: reader.uint32(),
  });
  const [from, to, { seq: offset, ...start }] = [place(), place(), place()];
  return {
    from,
    to,
    producedStart: { offset, ...start },
    toldStart: reader.uint64(),
    producedEnd: reader.uint64(),
    producedChain: reader.uint32(),
    keys: reader.uint64(),
  };
}

export function encodeBackupEnd(end: BackupEnd): Uint8Array {
  const writer = new ByteWriter(Buffer.allocUnsafe(40));
  writer.uint64(end.entries);
  writer.uint32(end.entriesChecksum);
  writer.uint64(end.logRecords);
  writer.uint64(end.producedRecords);
  writer.uint64(end.bytes);
  writer.uint32(end.checksum);
  return writer.bytes;
}

export function decodeBackupEnd(content: Uint8Array): BackupEnd {
  const reader = new ByteReader(content);
  return {
    entries: reader.uint64(),
    entriesChecksum: reader.uint32(),
    logRecords: reader.uint64(),
    producedRecords: reader.uint64(),
    bytes: reader.uint64(),
    checksum: reader.uint32(),
  };
}
