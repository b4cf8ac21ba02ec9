/**
 * Reads a backup as its bytes come in, and checks every one of them: each chunk, the order of the chunks, both chains of
 * records, and the numbers at the end. What it has shown is known to be good only once `finish` has returned.
 */
import { assert } from "../base/assert.js";
import { crc32 } from "../base/crc32.js";
import type { EpochStart } from "../base/epoch-history.js";
import { seq as toSeq } from "../base/position.js";
import type { EntryBytes } from "../engine/engine.js";
import { decodeRecord, PREFIX_BYTES, type ProducedRecord } from "../records/record-codec.js";
import { asBuffer } from "../wal/bytes.js";
import type { LogEnd, LogRecord } from "../wal/log.js";
import { damageProblem, followRecord, type MovingLogEnd, recordAt, recordEnd } from "../wal/record.js";
import {
  BACKUP_HEADER_BYTES,
  backupChunks,
  type BackupEnd,
  type BackupHeader,
  type BackupKind,
  type BackupState,
  decodeBackupEnd,
  decodeBackupHeader,
  decodeState,
  kindOrder,
} from "./backup-format.js";
import { FormatError } from "./byte-codec.js";
import type { ClusterSettings, Member } from "./change.js";
import { CHUNK_HEADER_BYTES, type ChunkCodec } from "./chunk-codec.js";
import type { RememberedClient } from "./retries.js";
import { decodeEpochs, decodeMembers, decodeSettings, readClients, readEntries } from "./snapshot-format.js";

/** A backup that cannot be used: it is damaged, cut short, of a newer format, or none at all. */
export class BackupError extends Error {
  override readonly name = "BackupError";
  /** The byte of the file at which what is wrong begins. */
  readonly offset: number;

  constructor(offset: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.offset = offset;
  }
}

/** Where the parts of a backup go, in this order. Entries, answers and payloads are valid during the call only. */
export interface BackupVisitor {
  state?(state: BackupState): void;
  epochs?(starts: readonly EpochStart[]): void;
  settings?(settings: ClusterSettings): void;
  members?(members: readonly Member[]): void;
  entry?(entry: EntryBytes): void;
  client?(client: RememberedClient): void;
  /** The records of the log that are to be replayed over the entries. */
  logRecord?(record: LogRecord): void;
  produced?(record: ProducedRecord): void;
}

/** A backup that was read to its end, and is whole. */
export interface BackupSummary {
  readonly header: BackupHeader;
  readonly state: BackupState;
  readonly end: BackupEnd;
  /** Of the file. */
  readonly bytes: number;
}

/** Kinds of which there is exactly one chunk. */
const SINGLE: readonly BackupKind[] = ["state", "epochs", "settings", "members", "end"];

export class BackupReader {
  readonly #visitor: BackupVisitor;
  /** What comes next: the header, a chunk's header, or the whole chunk; filled up to `#filled`. */
  #wanted = Buffer.allocUnsafe(BACKUP_HEADER_BYTES);
  #filled = 0;
  #expects: "header" | "chunk header" | "chunk" | "nothing" = "header";
  /** Where in the file `#wanted` begins. */
  #offset = 0;
  #checksum = 0;
  #header: BackupHeader | undefined;
  #codec: ChunkCodec<BackupKind> | undefined;
  #lastKind: BackupKind | undefined;
  #state: BackupState | undefined;
  /** Followed along the records of the log, and of the record log. */
  #logEnd: MovingLogEnd | undefined;
  #producedEnd: MovingLogEnd | undefined;
  #entries = 0;
  #entriesChecksum = 0;
  #logRecords = 0;
  #producedRecords = 0;
  #end: BackupEnd | undefined;

  constructor(visitor: BackupVisitor = {}) {
    this.#visitor = visitor;
  }

  /** Takes the next bytes of the file, cut anywhere. Throws `BackupError`. */
  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      if (this.#expects === "nothing") {
        throw new BackupError(this.#offset, `bytes follow on the end of the backup, which is at byte ${this.#offset}`);
      }
      const part = bytes.subarray(at, at + this.#wanted.length - this.#filled);
      this.#wanted.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === this.#wanted.length) this.#take();
    }
  }

  /** Says that there are no more bytes. Throws `BackupError` when some are missing. */
  finish(): BackupSummary {
    if (this.#expects !== "nothing" || !this.#header || !this.#state || !this.#end) {
      const size = this.#offset + this.#filled;
      throw new BackupError(
        this.#offset,
        `the backup is cut short, or damaged at byte ${this.#offset}: it ends at byte ${size}, before what begins there does`,
      );
    }
    return { header: this.#header, state: this.#state, end: this.#end, bytes: this.#offset };
  }

  #take(): void {
    const bytes = this.#wanted;
    try {
      switch (this.#expects) {
        case "header":
          this.#header = decodeBackupHeader(bytes);
          this.#codec = backupChunks(this.#header);
          break;
        case "chunk header": {
          assert(this.#codec, "chunks come behind the header");
          const length = this.#codec.contentLength(bytes);
          this.#wanted = Buffer.allocUnsafe(CHUNK_HEADER_BYTES + length);
          this.#wanted.set(bytes);
          this.#expects = "chunk";
          if (length > 0) return;
          this.#takeChunk(this.#wanted);
          break;
        }
        case "chunk":
          this.#takeChunk(bytes);
          break;
        case "nothing":
          assert(false, "nothing is taken behind the end");
      }
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      const last = this.#offset + this.#wanted.length - 1;
      throw new BackupError(
        this.#offset,
        this.#expects === "header"
          ? error.message
          : `the backup is damaged between byte ${this.#offset} and byte ${last}: ${error.message}`,
        { cause: error },
      );
    }
    this.#checksum = crc32(this.#wanted, this.#checksum);
    this.#offset += this.#wanted.length;
    this.#wanted = Buffer.allocUnsafe(CHUNK_HEADER_BYTES);
    this.#filled = 0;
    this.#expects = this.#end ? "nothing" : "chunk header";
  }

  #takeChunk(chunk: Buffer): void {
    assert(this.#codec, "chunks come behind the header");
    const { kind, content } = this.#codec.decode(chunk);
    this.#checkOrder(kind);
    this.#lastKind = kind;
    switch (kind) {
      case "state":
        this.#takeState(decodeState(content));
        return;
      case "epochs":
        this.#takeEpochs(decodeEpochs(content));
        return;
      case "settings":
        this.#visitor.settings?.(decodeSettings(content));
        return;
      case "members":
        this.#visitor.members?.(decodeMembers(content));
        return;
      case "entries":
        readEntries(content, (entry) => {
          this.#entries++;
          this.#entriesChecksum = (this.#entriesChecksum + entry.crc) >>> 0;
          this.#visitor.entry?.(entry);
        });
        return;
      case "retries":
        for (const client of readClients(content)) this.#visitor.client?.(client);
        return;
      case "log":
        for (const record of follow(content, this.#logEnd)) {
          this.#logRecords++;
          this.#visitor.logRecord?.(record);
        }
        return;
      case "produced":
        for (const record of follow(content, this.#producedEnd)) {
          this.#producedRecords++;
          if (record.payload.length < PREFIX_BYTES) throw new FormatError("a produced record has no position");
          this.#visitor.produced?.(decodeRecord(record));
        }
        return;
      case "end":
        this.#takeEnd(decodeBackupEnd(content));
    }
  }

  #checkOrder(kind: BackupKind): void {
    const before = this.#lastKind;
    const passed = before === undefined ? 0 : kindOrder(before);
    const skipsOne = SINGLE.some((single) => kindOrder(single) > passed && kindOrder(single) < kindOrder(kind));
    const comesAgain = kind === before && SINGLE.includes(kind);
    if (kindOrder(kind) < passed || skipsOne || comesAgain) {
      throw new FormatError(`a chunk of ${kind} stands behind ${before ?? "the header"}`);
    }
  }

  #takeState(state: BackupState): void {
    const { from, to, producedStart, toldStart, producedEnd } = state;
    const isBackward = from.seq > to.seq || producedStart.offset > producedEnd || toldStart > producedStart.offset;
    if (isBackward) throw new FormatError("it ends before it begins");
    this.#state = state;
    this.#logEnd = { ...from };
    const { offset, ...start } = producedStart;
    this.#producedEnd = { seq: toSeq(offset), ...start };
    this.#visitor.state?.(state);
  }

  #takeEpochs(starts: readonly EpochStart[]): void {
    for (const [index, start] of starts.entries()) {
      const before = starts[index - 1];
      if (before && (start.epoch <= before.epoch || start.firstSeq <= before.firstSeq)) {
        throw new FormatError(`epoch ${start.epoch} at seq ${start.firstSeq} does not follow epoch ${before.epoch}`);
      }
    }
    this.#visitor.epochs?.(starts);
  }

  #takeEnd(end: BackupEnd): void {
    assert(this.#state && this.#logEnd && this.#producedEnd, "the end comes behind the state");
    const { to, producedEnd, producedChain } = this.#state;
    const found = {
      entries: this.#entries,
      entriesChecksum: this.#entriesChecksum,
      logRecords: this.#logRecords,
      producedRecords: this.#producedRecords,
      bytes: this.#offset,
      checksum: this.#checksum,
    };
    for (const [name, value] of Object.entries(found)) {
      const expected = end[name as keyof BackupEnd];
      if (value !== expected) throw new FormatError(`${name} is ${value}, ${expected} was expected`);
    }
    const { seq, epoch, chain, timestampMs } = this.#logEnd;
    if (seq !== to.seq || epoch !== to.epoch || chain !== to.chain || timestampMs !== to.timestampMs) {
      throw new FormatError(`the log ends at seq ${seq}, it should at ${to.seq}`);
    }
    if (this.#producedEnd.seq !== producedEnd || this.#producedEnd.chain !== producedChain) {
      throw new FormatError(`the record log ends at offset ${this.#producedEnd.seq}, it should at ${producedEnd}`);
    }
    this.#end = end;
  }
}

/** The records of a chunk, each checked, and that it continues `end`, which moves along. */
function* follow(content: Uint8Array, end: LogEnd | undefined): Generator<LogRecord> {
  assert(end, "records come behind the state");
  const bytes = asBuffer(content);
  for (let at = 0; at < bytes.length; at = recordEnd(bytes, at)) {
    const problem = damageProblem(bytes, at, bytes.length) ?? followRecord(bytes, at, bytes.length, end);
    if (problem) throw new FormatError(`a record is damaged; expected ${problem.expected}, found ${problem.found}`);
    yield recordAt(bytes, at);
  }
}
