/** Writing and reading one snapshot file, while the store goes on. */
import type { EpochStart } from "../base/epoch-history.js";
import type { Seq } from "../base/position.js";
import type { Engine } from "../engine/engine.js";
import { EntryRun } from "../engine/entry-run.js";
import { ByteWindow } from "../wal/byte-window.js";
import { type File, type FileSystem } from "../wal/file-system.js";
import { ByteWriter, FormatError } from "./byte-codec.js";
import type { ClusterSettings, Member } from "./change.js";
import { CHUNK_HEADER_BYTES } from "./chunk-codec.js";
import type { RememberedClient, RetryTable } from "./retries.js";
import {
  CHUNK_BYTES,
  type ChunkKind,
  clientBytes,
  decodeEnd,
  decodeEpochs,
  decodeHeader,
  decodeMembers,
  decodeRecordsMark,
  decodeSettings,
  encodeEnd,
  encodeEpochs,
  encodeHeader,
  encodeMembers,
  encodeRecordsMark,
  encodeSettings,
  entryBytes,
  readClients,
  readEntries,
  readEntryRuns,
  type RecordsMark,
  type ReadHeader,
  RETRIES_CHUNK_BYTES,
  SNAPSHOT_HEADER_BYTES,
  snapshotChunks,
  type SnapshotEnd,
  type SnapshotHeader,
  writeClient,
  writeEntry,
} from "./snapshot-format.js";

/** Read in one go; others have their turn in between. */
const READ_BYTES = 512 * 1024;

/** What a snapshot is made of. Epochs, settings and members are taken at once, entries and what is remembered while the state changes. */
export interface SnapshotContent {
  readonly header: SnapshotHeader;
  readonly epochs: readonly EpochStart[];
  readonly settings: ClusterSettings;
  readonly members: readonly Member[];
  readonly records: RecordsMark;
  readonly engine: Engine;
  readonly retries: RetryTable;
  /** The applied seq at the moment of the call. */
  readonly appliedSeq: () => Seq;
}

export interface SnapshotSummary {
  readonly header: SnapshotHeader;
  readonly end: SnapshotEnd;
  readonly bytes: number;
}

/**
 * Writes a snapshot to a new file and syncs it; its name is not durable yet. A chunk of `CHUNK_BYTES` is gathered at a
 * time, so that others have their turn between chunks. Rejects with the signal's reason when it aborts.
 */
export async function writeSnapshot(
  fileSystem: FileSystem,
  path: string,
  content: SnapshotContent,
  signal: AbortSignal,
): Promise<SnapshotSummary> {
  const { header, epochs, settings, members, records, engine, retries } = content;
  const file = await fileSystem.open(path, "create");
  try {
    const codec = snapshotChunks(header);
    let at = 0;
    const write = async (bytes: Uint8Array): Promise<void> => {
      signal.throwIfAborted();
      at = await writeAll(file, bytes, at);
    };
    await write(encodeHeader(header));
    await write(codec.encode("epochs", encodeEpochs(epochs)));
    await write(codec.encode("settings", encodeSettings(settings)));
    await write(codec.encode("members", encodeMembers(members)));
    await write(codec.encode("records", encodeRecordsMark(records)));
    const walk = engine.walk(header.from.seq);
    let count = 0;
    let checksum = 0;
    let stateChecksum = 0;
    // One buffer for all chunks: garbage of their size would take the memory that a snapshot must not.
    let buffer = Buffer.allocUnsafeSlow(CHUNK_HEADER_BYTES + CHUNK_BYTES);
    for (let step = walk.next(); !step.done;) {
      const needed = CHUNK_HEADER_BYTES + entryBytes(step.value);
      if (needed > buffer.length) buffer = Buffer.allocUnsafeSlow(needed);
      const writer = new ByteWriter(buffer);
      writer.at = CHUNK_HEADER_BYTES;
      do {
        checksum = (checksum + writeEntry(writer, step.value)) >>> 0;
        stateChecksum = (stateChecksum + step.value.checksum) >>> 0;
        count++;
        step = walk.next();
      } while (!step.done && writer.at + entryBytes(step.value) <= buffer.length);
      // What the walk handed out last is valid only until the store goes on, which it does during the write.
      if (!step.done) {
        const { key, value } = step.value;
        step = { done: false, value: { ...step.value, key: new Uint8Array(key), value: new Uint8Array(value) } };
      }
      const chunk = buffer.subarray(0, writer.at);
      codec.seal("entries", chunk);
      await write(chunk);
    }
    const clients = retries.walk();
    for (let step = clients.next(); !step.done;) {
      const gathered: RememberedClient[] = [];
      let size = 0;
      do {
        gathered.push(step.value);
        size += clientBytes(step.value);
        step = clients.next();
      } while (!step.done && size + clientBytes(step.value) <= RETRIES_CHUNK_BYTES);
      const writer = new ByteWriter(Buffer.allocUnsafe(size));
      for (const client of gathered) writeClient(writer, client);
      await write(codec.encode("retries", writer.bytes));
    }
    const end = { to: content.appliedSeq(), entries: count, members: members.length, checksum, stateChecksum };
    await write(codec.encode("end", encodeEnd(end)));
    await file.datasync();
    return { header, end, bytes: at };
  } finally {
    await file.close();
  }
}

/** Where the parts of a snapshot go. */
export interface SnapshotVisitor {
  epochs(starts: EpochStart[]): void;
  settings(settings: ClusterSettings): void;
  members(members: Member[]): void;
  records(mark: RecordsMark): void;
  /** Valid during the call only. Gives the sum of their `entryChecksum`s modulo 2^32, as they were reckoned from these bytes. */
  entries(run: EntryRun): number;
  /** Behind the entries. Answers are valid during the call only. */
  client(client: RememberedClient): void;
}

/**
 * Reads a snapshot from beginning to end, checking all of it. Rejects with `FormatError` when it is damaged or cut
 * short; the visitor has then seen parts of it, which must be thrown away.
 */
export async function readSnapshot(
  fileSystem: FileSystem,
  path: string,
  visitor: SnapshotVisitor,
): Promise<SnapshotSummary> {
  const file = await fileSystem.open(path, "read");
  try {
    const header = await readHeader(file);
    let entries = 0;
    let members = 0;
    // One of the two is compared: each tells of every byte of every entry.
    let checksum = 0;
    let stateChecksum = 0;
    const run = new EntryRun();
    for await (const { kind, content, bytes } of readChunks(file, header)) {
      switch (kind) {
        case "epochs":
          visitor.epochs(decodeEpochs(content));
          break;
        case "settings":
          visitor.settings(decodeSettings(content));
          break;
        case "members": {
          const found = decodeMembers(content);
          members += found.length;
          visitor.members(found);
          break;
        }
        case "records":
          visitor.records(decodeRecordsMark(content));
          break;
        case "entries":
          readEntryRuns(content, run, (run) => {
            entries += run.count;
            stateChecksum = (stateChecksum + visitor.entries(run)) >>> 0;
          });
          if (header.hasStateChecksum) break;
          readEntries(content, ({ crc }) => (checksum = (checksum + crc) >>> 0));
          break;
        case "retries":
          for (const client of readClients(content)) visitor.client(client);
          break;
        case "end": {
          const end = decodeEnd(content, header);
          const [found, expected] =
            end.stateChecksum === undefined ? [checksum, end.checksum] : [stateChecksum, end.stateChecksum];
          if (end.entries !== entries || end.members !== members || expected !== found) {
            throw new FormatError(
              `the snapshot holds ${entries} entries and ${members} members with checksum ${found}; ${end.entries}, ${end.members} and ${expected} were expected`,
            );
          }
          return { header, end, bytes };
        }
      }
    }
    throw new FormatError("the snapshot has no end");
  } finally {
    await file.close();
  }
}

/** A chunk of a snapshot, whole and in its place; valid until the next one is asked for. */
export interface SnapshotChunk {
  readonly kind: ChunkKind;
  readonly content: Uint8Array;
  /** Of the file, up to the chunk's end. */
  readonly bytes: number;
}

/** Rejects with `FormatError`. */
export async function readHeader(file: File): Promise<ReadHeader> {
  return decodeHeader(await readExactly(file, 0, Math.min(await file.size(), SNAPSHOT_HEADER_BYTES)));
}

/**
 * The chunks of a snapshot up to its end, which is the last. Rejects with `FormatError` where one is damaged or cut short, and when
 * something follows on the end.
 */
export async function* readChunks(file: File, header: SnapshotHeader): AsyncGenerator<SnapshotChunk, void> {
  const size = await file.size();
  const codec = snapshotChunks(header);
  const window = new ByteWindow(file, size, READ_BYTES, { readsAhead: true });
  try {
    for (let at = SNAPSHOT_HEADER_BYTES, isEnd = false; !isEnd;) {
      if (at + CHUNK_HEADER_BYTES > size)
        throw new FormatError(`the file ends at byte ${size}, before the snapshot does`);
      const length = codec.contentLength(await bytesAt(window, at, CHUNK_HEADER_BYTES));
      const next = at + CHUNK_HEADER_BYTES + length;
      if (next > size) throw new FormatError(`the file ends at byte ${size}, inside a chunk that ends at ${next}`);
      const chunk = codec.decode(await bytesAt(window, at, next - at));
      at = next;
      isEnd = chunk.kind === "end";
      if (isEnd && at !== size) throw new FormatError(`${size - at} bytes follow on the snapshot's end`);
      yield { ...chunk, bytes: at };
    }
  } finally {
    await window.settled();
  }
}

/** A view of bytes that the file had when its size was asked for. */
async function bytesAt(window: ByteWindow, at: number, length: number): Promise<Uint8Array> {
  const reading = window.ensure(at, length);
  if (reading) await reading;
  if (!window.has(at, length)) {
    const end = at + window.available(at);
    throw new FormatError(`the file ends at byte ${end}, ${at + length} were announced`);
  }
  return window.view(at, length);
}

async function writeAll(file: File, bytes: Uint8Array, at: number): Promise<number> {
  let done = 0;
  while (done < bytes.length) done += await file.write(bytes.subarray(done), at + done);
  return at + bytes.length;
}

async function readExactly(file: File, at: number, length: number): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafe(length);
  let done = 0;
  while (done < length) {
    const read = await file.read(bytes.subarray(done), at + done);
    if (read === 0) throw new FormatError(`the file ends at byte ${at + done}, ${at + length} were announced`);
    done += read;
  }
  return bytes;
}
