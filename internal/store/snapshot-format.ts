/**
 * The bytes of a snapshot. All numbers are little-endian.
 *
 * ```
 * header, 80 bytes
 *   0  "CAMBSNAP"   8  format version (4)   12  CRC of the header with this field 0 (4)   16  cluster id (16)
 *  32  from: seq (8)   40  from: epoch (8)   48  from: chain (4)   52  flags (4)   56  from: timestamp ms (8)
 *  64  salt (16): random, so that no chunk of another snapshot can stand in this one
 *
 * chunks (chunk-codec.ts), behind the header and behind each other
 *
 * kind 1  epochs    count × { epoch (8)  epoch id (8)  first seq (8)  flags (1): bit 0 = forced }
 * kind 2  settings  one change of kind settings, as in a record
 * kind 3  members   changes of kind member, as in a record
 * kind 4  records   start (8)  end (8)  chain (4): the record log at `from`, which is synced up to there
 * kind 5  entries   count × { create seq (8)  mod seq (8)  deadline + 1, or 0 for none (8)  length key  length value }
 * kind 7  retries   count × { length client id   floor   last seq   last time, ms since 1970   count   count × { client seq   seq   length answer } }
 *                   behind the entries, of clients whose answers are remembered (retries.ts); numbers are LEB128
 * kind 6  end       to: seq (8)   entries (8)   members (8)   checksum (4): the sum of the CRCs of all entries, modulo 2^32
 *                   state checksum (4): the sum of the `entryChecksum`s of all entries; with bit 0 of the flags
 * ```
 *
 * The state checksum sums what was reckoned when each entry was written to the engine, and an engine that loads the entries
 * reckons in any case. The first snapshots had none, and versions that do not know it pass over it.
 *
 * `from` and `to` are the applied seqs when the walk over the state began and ended. The snapshot with the records
 * from + 1 … to replayed over it is the state at `to`.
 */
import { crc32, crc32Range } from "../base/crc32.js";
import type { EpochStart } from "../base/epoch-history.js";
import { type ClusterId, clusterId, epochId, idFromBytes, idToBytes } from "../base/ids.js";
import { epoch, type EpochMs, epochMs, type LogMark, type Seq, seq } from "../base/position.js";
import { varintSize } from "../base/varint.js";
import type { EntryBytes, KeyedEntry } from "../engine/engine.js";
import type { EntryRun } from "../engine/entry-run.js";
import { ByteReader, ByteWriter, FormatError, NewerFormatError, prefixedSize } from "./byte-codec.js";
import { type ClusterSettings, decodeChanges, encodeChanges, type Member } from "./change.js";
import { ChunkCodec } from "./chunk-codec.js";
import type { RememberedClient } from "./retries.js";

export const SNAPSHOT_HEADER_BYTES = 80;
/**
 * Contents grow no larger than this, but for one entry that alone is: making a chunk must not hold up the event loop, and while the
 * node is busy one is made in each turn of it, so that this is what a snapshot takes of the rate of writes.
 */
export const CHUNK_BYTES = 32 * 1024;

/** The same of what is remembered, whose parts are small and many. */
export const RETRIES_CHUNK_BYTES = 64 * 1024;

const MAGIC = Buffer.from("CAMBSNAP");
const FORMAT = 1;
const SALT_BYTES = 16;
const EPOCH_BYTES = 25;
const FLAG_FORCED = 1;
const FLAG_STATE_CHECKSUM = 1;
const ENTRY_NUMBERS_BYTES = 24;
/** The upper half of the largest whole number that is held exactly. */
const SAFE_HIGH_MAX = 2 ** 21 - 1;
const NO_SEQ = seq(0);
const NO_TIME = epochMs(0);

const KINDS = [undefined, "epochs", "settings", "members", "records", "entries", "end", "retries"] as const;
export type ChunkKind = NonNullable<(typeof KINDS)[number]>;

export interface SnapshotHeader {
  readonly clusterId: ClusterId;
  /** Where the walk began. */
  readonly from: LogMark;
  /** Of the record at `from`. */
  readonly fromTimestampMs: EpochMs;
  readonly salt: Uint8Array;
}

/** A header as it was read. */
export interface ReadHeader extends SnapshotHeader {
  /** The snapshot's end tells the state checksum. */
  readonly hasStateChecksum: boolean;
}

/** The record log as a snapshot relies on it. */
export interface RecordsMark {
  /** The lowest offset that can be read. */
  readonly start: number;
  /** The next offset. */
  readonly end: number;
  /** The record log's own chain value after its last record. */
  readonly chain: number;
}

export interface SnapshotEnd {
  /** Applied when the walk ended. */
  readonly to: Seq;
  readonly entries: number;
  readonly members: number;
  readonly checksum: number;
  /** Absent in snapshots that were made before there was one. */
  readonly stateChecksum?: number;
}

export function encodeHeader(header: SnapshotHeader): Buffer {
  const writer = new ByteWriter(Buffer.alloc(SNAPSHOT_HEADER_BYTES));
  writer.raw(MAGIC);
  writer.uint32(FORMAT);
  writer.uint32(0);
  writer.raw(idToBytes(header.clusterId));
  writer.uint64(header.from.seq);
  writer.uint64(header.from.epoch);
  writer.uint32(header.from.chain);
  writer.uint32(FLAG_STATE_CHECKSUM);
  writer.uint64(header.fromTimestampMs);
  writer.raw(header.salt);
  writer.bytes.writeUInt32LE(crc32(writer.bytes), 12);
  return writer.bytes;
}

/** Throws `FormatError`. */
export function decodeHeader(bytes: Uint8Array): ReadHeader {
  if (bytes.length < SNAPSHOT_HEADER_BYTES) throw new FormatError("the header is cut short");
  const header = Buffer.from(bytes.subarray(0, SNAPSHOT_HEADER_BYTES));
  if (!header.subarray(0, MAGIC.length).equals(MAGIC)) throw new FormatError("this is no snapshot");
  const reader = new ByteReader(header);
  reader.raw(MAGIC.length);
  const format = reader.uint32();
  const found = reader.uint32();
  header.writeUInt32LE(0, 12);
  // The checksum first: a damaged number must not send anybody to look for a newer version.
  if (crc32(header) !== found) throw new FormatError("the header is damaged");
  if (format > FORMAT) {
    throw new NewerFormatError(`format ${format} is newer than the ${FORMAT} of this version; use a newer one`);
  }
  if (format !== FORMAT) throw new FormatError(`format ${format} was never released`);
  const id = clusterId(idFromBytes(reader.raw(16)));
  const from = { seq: seq(reader.uint64()), epoch: epoch(reader.uint64()), chain: reader.uint32() };
  const flags = reader.uint32();
  return {
    hasStateChecksum: (flags & FLAG_STATE_CHECKSUM) !== 0,
    clusterId: id,
    from,
    fromTimestampMs: epochMs(reader.uint64()),
    salt: new Uint8Array(reader.raw(SALT_BYTES)),
  };
}

/** Makes and checks the chunks of one snapshot, in their order. */
export function snapshotChunks(header: SnapshotHeader): ChunkCodec<ChunkKind> {
  return new ChunkCodec(header.salt, KINDS);
}

export function encodeEpochs(starts: readonly EpochStart[]): Uint8Array {
  const writer = new ByteWriter(Buffer.allocUnsafe(starts.length * EPOCH_BYTES));
  for (const start of starts) {
    writer.uint64(start.epoch);
    writer.raw(idToBytes(start.epochId));
    writer.uint64(start.firstSeq);
    writer.byte(start.forced ? FLAG_FORCED : 0);
  }
  return writer.bytes;
}

export function decodeEpochs(content: Uint8Array): EpochStart[] {
  const reader = new ByteReader(content);
  const starts: EpochStart[] = [];
  while (!reader.atEnd) {
    const start = {
      epoch: epoch(reader.uint64()),
      epochId: epochId(idFromBytes(reader.raw(8))),
      firstSeq: seq(reader.uint64()),
    };
    starts.push(reader.flags(FLAG_FORCED) === 0 ? start : { ...start, forced: true });
  }
  return starts;
}

export function encodeSettings(settings: ClusterSettings): Uint8Array {
  return encodeChanges([{ kind: "settings", settings }]);
}

export function decodeSettings(content: Uint8Array): ClusterSettings {
  const [change, ...rest] = decodeChanges(content);
  if (change?.kind !== "settings" || rest.length > 0) throw new FormatError("a chunk of settings holds something else");
  return change.settings;
}

export function encodeMembers(members: readonly Member[]): Uint8Array {
  return members.length === 0
    ? new Uint8Array(0)
    : encodeChanges(members.map((member) => ({ kind: "member", member })));
}

export function decodeMembers(content: Uint8Array): Member[] {
  if (content.length === 0) return [];
  return decodeChanges(content).map((change) => {
    if (change.kind !== "member") throw new FormatError("a chunk of members holds something else");
    return change.member;
  });
}

export function encodeRecordsMark(mark: RecordsMark): Uint8Array {
  const writer = new ByteWriter(Buffer.allocUnsafe(20));
  writer.uint64(mark.start);
  writer.uint64(mark.end);
  writer.uint32(mark.chain);
  return writer.bytes;
}

export function decodeRecordsMark(content: Uint8Array): RecordsMark {
  const reader = new ByteReader(content);
  return { start: reader.uint64(), end: reader.uint64(), chain: reader.uint32() };
}

/** Bytes of an entry in a chunk. */
export function entryBytes(entry: KeyedEntry): number {
  return ENTRY_NUMBERS_BYTES + prefixedSize(entry.key.length) + prefixedSize(entry.value.length);
}

/** Writes an entry and gives the CRC of its bytes. */
export function writeEntry(writer: ByteWriter, entry: KeyedEntry): number {
  const start = writer.at;
  writer.uint64(entry.createSeq);
  writer.uint64(entry.modSeq);
  writer.uint64(entry.expiresAtMs === undefined ? 0 : entry.expiresAtMs + 1);
  writer.prefixed(entry.key);
  writer.prefixed(entry.value);
  return crc32Range(writer.bytes, start, writer.at);
}

/** An entry where it lies in a chunk; one of these for all entries of it. */
export class ChunkEntry implements EntryBytes {
  readonly #view: DataView;
  /** For lengths of more than one byte. */
  readonly #reader: ByteReader;
  /** Where the entry begins, and where it ends. */
  #start = 0;
  #end = 0;
  readonly keyIn: Uint8Array;
  keyStart = 0;
  keyEnd = 0;
  readonly valueIn: Uint8Array;
  valueStart = 0;
  valueEnd = 0;
  createSeq = NO_SEQ;
  modSeq = NO_SEQ;
  deadlineMs = Infinity;

  constructor(content: Uint8Array) {
    this.#view = new DataView(content.buffer, content.byteOffset, content.length);
    this.#reader = new ByteReader(content);
    this.keyIn = this.valueIn = content;
  }

  /** The CRC of the entry's bytes, as `writeEntry` gives it. */
  get crc(): number {
    return crc32Range(this.keyIn, this.#start, this.#end);
  }

  /** Goes on to the next entry; false at the end of the chunk. Throws `FormatError`. */
  next(): boolean {
    const start = this.#end;
    if (start === this.keyIn.length) return false;
    if (start + ENTRY_NUMBERS_BYTES > this.keyIn.length) throw new FormatError("the bytes end too early");
    this.createSeq = this.#numberAt(start) as Seq;
    this.modSeq = this.#numberAt(start + 8) as Seq;
    const deadline = this.#numberAt(start + 16);
    this.deadlineMs = deadline === 0 ? Infinity : deadline - 1;
    this.#start = start;
    this.#end = start + ENTRY_NUMBERS_BYTES;
    this.keyStart = this.#passPrefixed();
    this.keyEnd = this.#end;
    this.valueStart = this.#passPrefixed();
    this.valueEnd = this.#end;
    return true;
  }

  /** As `ByteReader.uint64`, four bytes a look. */
  #numberAt(at: number): number {
    const high = this.#view.getUint32(at + 4, true);
    if (high > SAFE_HIGH_MAX) throw new FormatError("a number is out of range");
    return this.#view.getUint32(at, true) + high * 2 ** 32;
  }

  /** Passes over bytes behind their length. Returns the place where they begin; they end at `#end`. */
  #passPrefixed(): number {
    const bytes = this.keyIn;
    const at = this.#end;
    const length = at < bytes.length ? bytes[at]! : 0x80;
    if (length < 0x80 && at + 1 + length <= bytes.length) {
      this.#end = at + 1 + length;
      return at + 1;
    }
    const reader = this.#reader;
    reader.moveTo(bytes, at, bytes.length);
    const start = reader.passPrefixed();
    this.#end = reader.at;
    return start;
  }
}

/** Calls `visit` for each entry of a chunk; valid during the call only. Throws `FormatError`. */
export function readEntries(content: Uint8Array, visit: (entry: ChunkEntry) => void): void {
  const entry = new ChunkEntry(content);
  while (entry.next()) visit(entry);
}

/** Calls `visit` for the entries of a chunk, as many at a time as `run` holds; valid during the call only. Throws `FormatError`. */
export function readEntryRuns(content: Uint8Array, run: EntryRun, visit: (run: EntryRun) => void): void {
  const entry = new ChunkEntry(content);
  run.begin(content);
  while (entry.next()) {
    run.add(entry, entry.createSeq, entry.modSeq, NO_TIME);
    if (!run.isFull) continue;
    visit(run);
    run.begin(content);
  }
  if (run.count > 0) visit(run);
}

/** Bytes of a client in a chunk. */
export function clientBytes({ id, floor, lastSeq, lastMs, answers }: RememberedClient): number {
  let size = prefixedSize(Buffer.byteLength(id)) + varintSize(floor) + varintSize(lastSeq) + varintSize(lastMs);
  size += varintSize(answers.length);
  for (const { clientSeq, seq, answer } of answers)
    size += varintSize(clientSeq) + varintSize(seq) + prefixedSize(answer.length);
  return size;
}

export function writeClient(writer: ByteWriter, { id, floor, lastSeq, lastMs, answers }: RememberedClient): void {
  writer.prefixed(Buffer.from(id));
  writer.varint(floor);
  writer.varint(lastSeq);
  writer.varint(lastMs);
  writer.varint(answers.length);
  for (const { clientSeq, seq, answer } of answers) {
    writer.varint(clientSeq);
    writer.varint(seq);
    writer.prefixed(answer);
  }
}

/** The clients of a chunk; answers are views. Throws `FormatError`. */
export function* readClients(content: Uint8Array): Generator<RememberedClient, void> {
  const reader = new ByteReader(content);
  while (!reader.atEnd) {
    const id = Buffer.from(reader.prefixed()).toString();
    const floor = reader.varint();
    const lastSeq = seq(reader.varint());
    const lastMs = epochMs(reader.varint());
    const answers = [];
    for (let left = reader.varint(); left > 0; left--)
      answers.push({ clientSeq: reader.varint(), seq: seq(reader.varint()), answer: reader.prefixed() });
    yield { id, floor, lastSeq, lastMs, answers };
  }
}

export function encodeEnd(end: SnapshotEnd & { readonly stateChecksum: number }): Uint8Array {
  const writer = new ByteWriter(Buffer.allocUnsafe(32));
  writer.uint64(end.to);
  writer.uint64(end.entries);
  writer.uint64(end.members);
  writer.uint32(end.checksum);
  writer.uint32(end.stateChecksum);
  return writer.bytes;
}

export function decodeEnd(content: Uint8Array, { hasStateChecksum }: ReadHeader): SnapshotEnd {
  const reader = new ByteReader(content);
  const end = {
    to: seq(reader.uint64()),
    entries: reader.uint64(),
    members: reader.uint64(),
    checksum: reader.uint32(),
  };
  return hasStateChecksum ? { ...end, stateChecksum: reader.uint32() } : end;
}
