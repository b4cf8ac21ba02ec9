/**
 * Backups: everything that is replicated, as one stream of bytes that is consistent and can be checked, while the node goes
 * on. A snapshot is taken first; then it, the log after it and the record log are read from the disk as fast as they are
 * sent, and are pinned there until then. What the bytes are, `backup-format.ts` says.
 */
import { must } from "../base/assert.js";
import type { Clock } from "../base/clock.js";
import { crc32 } from "../base/crc32.js";
import type { RandomSource } from "../base/ids.js";
import type { Logger } from "../base/logger.js";
import type { Position, Seq } from "../base/position.js";
import { type RecordLog, RecordLogError, type RecordLogPlace } from "../records/record-log.js";
import { asBuffer } from "../wal/bytes.js";
import { type File, type FileSystem, FileSystemError } from "../wal/file-system.js";
import type { Log } from "../wal/log.js";
import { recordEnd, recordSeq } from "../wal/record.js";
import {
  BACKUP_CHUNK_BYTES,
  backupChunks,
  type BackupHeader,
  type BackupKind,
  encodeBackupEnd,
  encodeBackupHeader,
  encodeState,
} from "./backup-format.js";
import { FormatError } from "./byte-codec.js";
import type { ChunkCodec } from "./chunk-codec.js";
import type { ClusterSettings, Member } from "./change.js";
import type { ClusterState } from "./cluster-state.js";
import type { Lineage } from "./lineage.js";
import type { Pin, Pins } from "./pins.js";
import type { Produced } from "./produced.js";
import { readChunks, readHeader } from "./snapshot-file.js";
import { decodeEnd, encodeEpochs, encodeMembers, encodeSettings } from "./snapshot-format.js";
import type { SnapshotFile, Snapshots } from "./snapshots.js";
import { StoreError } from "./store-error.js";

/** A backup on its way. */
export interface BackupStream {
  readonly header: BackupHeader;
  /** About how many bytes there will be. */
  readonly bytesEstimate: number;
  /**
   * The bytes of the file, in pieces of some 256 KiB; the first one comes at once, and the second when the snapshot is taken. End the
   * iteration, or what was kept for it is given back only after ten idle minutes. Rejects with `StoreError`: "disk_full",
   * "lineage_lost" (history was cut in a failover), "overloaded" (too many backups, or idle for too long), "closing",
   * "failed"; and with `WalError`.
   */
  readonly bytes: AsyncGenerator<Uint8Array, void, undefined>;
}

export interface BackupsOptions {
  readonly fileSystem: FileSystem;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly logger: Logger;
  readonly log: Log;
  readonly lineage: Lineage;
  readonly snapshots: Snapshots;
  readonly records: RecordLog;
  readonly produced: Produced;
  readonly pins: Pins;
  readonly applied: () => Position;
  readonly cluster: ClusterState;
  /** How many there are at the applied position. */
  readonly keys: () => number;
  /** Whether `keys` counts nothing that is deleted. */
  readonly isSettled: () => boolean;
  /** Resolves when that is so. Rejects with `StoreError`. */
  readonly whenSettled: () => Promise<void>;
  readonly bytesEstimate: () => number;
  readonly createSnapshot: () => Promise<unknown>;
}

export class Backups {
  readonly #options: BackupsOptions;

  constructor(options: BackupsOptions) {
    this.#options = options;
  }

  begin(): BackupStream {
    const { lineage, random, applied, bytesEstimate } = this.#options;
    const header = { clusterId: lineage.clusterId, position: applied(), salt: random.bytes(16) };
    return { header, bytesEstimate: bytesEstimate(), bytes: this.#send(header) };
  }

  async *#send(header: BackupHeader): AsyncGenerator<Uint8Array, void, undefined> {
    const { clock, logger, pins } = this.#options;
    const startMs = clock.monotonicMs();
    const writer = new BackupWriter(header);
    yield writer.begin();
    let snapshot = await this.#snapshot();
    while (!this.#options.isSettled()) {
      await this.#options.whenSettled();
      // Meanwhile a later one may have taken its place.
      snapshot = this.#newestSnapshot();
    }
    const { start, end } = this.#options.produced.range;
    const { start: toldStart } = this.#options.produced.mark();
    const capture: Capture = {
      to: this.#options.applied().seq,
      epochs: this.#options.lineage.history.starts,
      settings: this.#options.cluster.settings,
      members: this.#options.cluster.members,
      keys: this.#options.keys(),
      toldStart,
      producedEnd: end,
      producedChain: this.#options.records.chain,
    };
    // On the tick of the capture: nothing of it can go any more.
    const pin = pins.take({ logSeq: snapshot.from, recordOffset: start, snapshot: snapshot.path });
    let outcome = "given up";
    try {
      const producedStart = await this.#options.records.placeAt(start);
      for await (const piece of this.#pieces(writer, snapshot, producedStart, capture)) {
        pin.touch();
        yield piece;
        pin.touch();
      }
      outcome = "sent";
    } catch (error) {
      throw translated(error, pin, snapshot.path);
    } finally {
      pin.release();
      logger.info(`a backup was ${outcome}`, {
        to_seq: capture.to,
        bytes: writer.bytes,
        duration_ms: Math.round(clock.monotonicMs() - startMs),
      });
    }
  }

  /** The newest snapshot, taken now unless nothing has changed since, or the disk has no room for it. */
  async #snapshot(): Promise<SnapshotFile> {
    const { snapshots, applied, createSnapshot, logger } = this.#options;
    if (snapshots.newest?.to !== applied().seq) {
      try {
        await createSnapshot();
      } catch (error) {
        if (!(error instanceof StoreError && error.code === "disk_full" && snapshots.newest)) throw error;
        // The one before will do as well, with more of the log; and a full disk is a good reason for a backup.
        logger.warn("no snapshot can be taken for a backup; an older one is sent", { reason: error.message });
      }
    }
    return this.#newestSnapshot();
  }

  #newestSnapshot(): SnapshotFile {
    return must(this.#options.snapshots.newest, "a snapshot was taken");
  }

  async *#pieces(
    writer: BackupWriter,
    snapshot: SnapshotFile,
    producedStart: RecordLogPlace,
    capture: Capture,
  ): AsyncGenerator<Uint8Array> {
    const { fileSystem, log, records } = this.#options;
    const file = await fileSystem.open(snapshot.path, "read");
    try {
      const header = await readHeader(file);
      // What is read below must be in the files.
      await records.flush();
      const from = await log.endAt(header.from.seq);
      if (from.chain !== header.from.chain) throw new FormatError("it does not fit the log");
      const to = await log.endAt(capture.to);
      const { toldStart, producedEnd, producedChain, keys } = capture;
      const state = { from, to, producedStart, toldStart, producedEnd, producedChain, keys };
      yield writer.chunk("state", encodeState(state));
      const epochs = capture.epochs.filter(({ firstSeq }) => firstSeq <= to.seq);
      yield writer.chunk("epochs", encodeEpochs(epochs));
      yield writer.chunk("settings", encodeSettings(capture.settings));
      yield writer.chunk("members", encodeMembers(capture.members));
      const { entries, checksum } = yield* this.#entries(writer, file, header);
      for (let after = from.seq as number; after < to.seq;) {
        const found = upTo(await log.read(after as Seq, BACKUP_CHUNK_BYTES), to.seq);
        yield writer.chunk("log", found);
        after += writer.countLog(found);
      }
      for (let { offset } = producedStart; offset < producedEnd;) {
        const found = upTo(await records.readEncoded(offset, BACKUP_CHUNK_BYTES), producedEnd);
        yield writer.chunk("produced", found);
        offset += writer.countProduced(found);
      }
      yield writer.end(entries, checksum);
    } finally {
      await file.close();
    }
  }

  async *#entries(
    writer: BackupWriter,
    file: File,
    header: Awaited<ReturnType<typeof readHeader>>,
  ): AsyncGenerator<Uint8Array, { entries: number; checksum: number }> {
    for await (const { kind, content } of readChunks(file, header)) {
      if (kind === "entries" || kind === "retries") yield writer.chunk(kind, content);
      else if (kind === "end") return decodeEnd(content, header);
    }
    throw new FormatError("the snapshot has no end");
  }
}

/** What holds at the place of the log at which the backup gives the state. */
interface Capture {
  readonly to: Seq;
  readonly epochs: Lineage["history"]["starts"];
  readonly settings: ClusterSettings;
  readonly members: readonly Member[];
  readonly keys: number;
  readonly toldStart: number;
  readonly producedEnd: number;
  readonly producedChain: number;
}

/** Makes the bytes of a backup, and counts what goes into its end. */
class BackupWriter {
  readonly #header: BackupHeader;
  readonly #codec: ChunkCodec<BackupKind>;
  #checksum = 0;
  #logRecords = 0;
  #producedRecords = 0;
  bytes = 0;

  constructor(header: BackupHeader) {
    this.#header = header;
    this.#codec = backupChunks(header);
  }

  begin(): Uint8Array {
    return this.#count(encodeBackupHeader(this.#header));
  }

  chunk(kind: BackupKind, content: Uint8Array): Uint8Array {
    return this.#count(this.#codec.encode(kind, content));
  }

  /** Adds the records of a chunk, and gives their number. */
  countLog(records: Buffer): number {
    const count = countRecords(records);
    this.#logRecords += count;
    return count;
  }

  countProduced(records: Buffer): number {
    const count = countRecords(records);
    this.#producedRecords += count;
    return count;
  }

  end(entries: number, entriesChecksum: number): Uint8Array {
    return this.chunk(
      "end",
      encodeBackupEnd({
        entries,
        entriesChecksum,
        logRecords: this.#logRecords,
        producedRecords: this.#producedRecords,
        bytes: this.bytes,
        checksum: this.#checksum,
      }),
    );
  }

  #count(bytes: Uint8Array): Uint8Array {
    this.#checksum = crc32(bytes, this.#checksum);
    this.bytes += bytes.length;
    return bytes;
  }
}

/** Those of some whole encoded records that come up to `seq`; at least one. */
function upTo(encoded: Uint8Array, seq: number): Buffer {
  const records = asBuffer(encoded);
  // A cut of the log takes away what was there; its pin has ended then, and says so.
  if (records.length === 0) throw new FormatError("the log ends too early");
  let end = 0;
  while (end < records.length && recordSeq(records, end) <= seq) end = recordEnd(records, end);
  return records.subarray(0, end);
}

function countRecords(records: Buffer): number {
  let count = 0;
  for (let at = 0; at < records.length; at = recordEnd(records, at)) count++;
  return count;
}

/** What a reader is told when a backup fails. */
function translated(error: unknown, pin: Pin, snapshot: string): unknown {
  // Whatever was found wrong in files that may be gone already: this is why.
  pin.touch();
  if (error instanceof RecordLogError && error.code === "disk_full") {
    return new StoreError("disk_full", error.message, { cause: error });
  }
  if (error instanceof FormatError || error instanceof FileSystemError) {
    const what = error instanceof FormatError ? `${snapshot} is damaged: ` : "a file cannot be read: ";
    return new StoreError("failed", `${what}${error.message}; back up another node`, { cause: error });
  }
  return error;
}
