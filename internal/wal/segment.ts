/**
 * A segment: a run of the log in one file, with its index. The last segment of a log is open for writing, the others are
 * sealed: synced, trimmed, never written again. Records are read from any of them by seq, and are checked against their
 * frame's CRC on every read.
 */
import { assert, must } from "../base/assert.js";
import { crc32, crc32Range } from "../base/crc32.js";
import type { Logger } from "../base/logger.js";
import type { Seq } from "../base/position.js";
import { ByteWindow } from "./byte-window.js";
import { type File, type FileSystem, FileSystemError } from "./file-system.js";
import { createAnew, holds, reading, removeIfThere } from "./files.js";
import type { FrameGroup } from "./frame-group.js";
import { decodeFrameHeader, frameSeed, FRAME_HEADER_BYTES, type FrameHeader } from "./frame.js";
import { recordEnd, recordSeq, RECORD_HEADER_BYTES, type RecordProblem } from "./record.js";
import { SegmentFile } from "./segment-file.js";
import {
  encodeSegmentHeader,
  indexName,
  SEGMENT_HEADER_BYTES,
  segmentName,
  unfinishedName,
  type SegmentHeader,
} from "./segment-header.js";
import { SegmentIndex } from "./segment-index.js";
import { WalError } from "./wal-error.js";

const READ_CHUNK_BYTES_MIN = 128 * 1024;
const READ_CHUNK_BYTES_MAX = 2 * 1024 * 1024;
/** What is shown in between does not hold up others for long. */
const VISIT_CHUNK_BYTES = 512 * 1024;

/** Where segments live. */
export interface SegmentPlace {
  readonly fileSystem: FileSystem;
  readonly directory: string;
  readonly logger: Logger;
}

/** What is known of a segment's content. */
export interface SegmentContent {
  /** End of the last frame. */
  readonly end: number;
  /** The last record; `firstSeq - 1` while there is none. */
  readonly lastSeq: Seq;
  readonly index: SegmentIndex;
}

/** A frame found in a segment. */
export interface LocatedFrame {
  readonly offset: number;
  readonly firstSeq: number;
}

export class Segment {
  readonly header: SegmentHeader;
  /** The CRC-32 of the salt. */
  readonly saltCrc: number;
  readonly #place: SegmentPlace;
  readonly #index: SegmentIndex;
  #end: number;
  #lastSeq: Seq;
  /** Open while the segment is the log's last. */
  #file: SegmentFile | undefined;

  private constructor(place: SegmentPlace, header: SegmentHeader, content: SegmentContent) {
    this.#place = place;
    this.header = header;
    this.saltCrc = crc32(header.salt);
    this.#index = content.index;
    this.#end = content.end;
    this.#lastSeq = content.lastSeq;
  }

  /** A segment that lies on the disk and has been checked; sealed until `openForWriting`. */
  static existing(place: SegmentPlace, header: SegmentHeader, content: SegmentContent): Segment {
    return new Segment(place, header, content);
  }

  /**
   * Makes a segment, open for writing. It appears under its name, replacing one of the same name, only once its header and
   * what `fill` wrote into it are synced; when this resolves, its name is durable too.
   */
  static async create(
    place: SegmentPlace,
    header: SegmentHeader,
    options: { preallocates: boolean; fill?: (segment: Segment) => Promise<void> },
  ): Promise<Segment> {
    const { fileSystem, directory } = place;
    const unfinished = `${directory}/${unfinishedName(header.firstSeq)}`;
    const segment = new Segment(place, header, {
      end: SEGMENT_HEADER_BYTES,
      lastSeq: header.before.seq,
      index: new SegmentIndex(),
    });
    segment.#file = new SegmentFile(await createAnew(fileSystem, unfinished), 0, options.preallocates);
    let isNamed = false;
    try {
      await segment.#file.write(encodeSegmentHeader(header), 0);
      await options.fill?.(segment);
      await segment.#file.datasync();
      isNamed = true;
      await fileSystem.rename(unfinished, segment.path);
      await fileSystem.syncDirectory(directory);
    } catch (error) {
      await segment.#file.close().catch(() => {});
      try {
        await fileSystem.remove(unfinished);
      } catch {
        // Unfinished, the file does not count, and the next start removes it. But if it may have its name already, records
        // written to the segment before it would stand in both: then there is no way back, not even from a full disk.
        if (isNamed) throw brokenDisk(`it is not known whether ${segment.path} has its name on the disk`, error);
      }
      throw error;
    }
    return segment;
  }

  get firstSeq(): Seq {
    return this.header.firstSeq;
  }

  get lastSeq(): Seq {
    return this.#lastSeq;
  }

  /** End of the last frame: where the next one goes. */
  get end(): number {
    return this.#end;
  }

  get path(): string {
    return `${this.#place.directory}/${segmentName(this.firstSeq)}`;
  }

  /** Opens the file to be written to; nothing when it is open. */
  async openForWriting(preallocates: boolean): Promise<void> {
    if (this.#file) return;
    const file = await this.#place.fileSystem.open(this.path, "write");
    this.#file = new SegmentFile(file, await file.size(), preallocates);
  }

  /** Writes the frames of a group, which was begun for this segment's end; `lastSeq` is the last of its records. `atOnce`: see `File`. */
  async append(group: FrameGroup, lastSeq: Seq, atOnce = false): Promise<void> {
    await this.#writable().write(group.bytes, this.#end, atOnce);
    for (const frame of group.frames) this.#index.note(frame.firstSeq, frame.offset);
    this.#end += group.byteLength;
    this.#lastSeq = lastSeq;
  }

  /** Writes zeros ahead where the segment does so, up to `bytesMax` at most. */
  preallocate(bytesMax: number): Promise<void> {
    return this.#writable().preallocate(this.#end, bytesMax);
  }

  /** Its failure is final, and so is never told as a lack of room. `atOnce`: see `File`. */
  async datasync(atOnce = false): Promise<void> {
    try {
      await this.#writable().datasync(atOnce);
    } catch (error) {
      throw brokenDisk(`${this.path} could not be synced`, error);
    }
  }

  /** Cuts off zeros written ahead, and whatever a failed write left, and syncs. */
  async trimAndSync(): Promise<void> {
    await this.#writable().trim(this.#end);
    await this.datasync();
  }

  /** Ends the segment at `offset`, a frame's beginning, after which `lastSeq` is the last record; synced on return. */
  async cut(offset: number, lastSeq: Seq): Promise<void> {
    assert(offset >= SEGMENT_HEADER_BYTES && offset <= this.#end, "a cut lies between the header and the end");
    this.#end = offset;
    this.#lastSeq = lastSeq;
    this.#index.cut(offset);
    await this.#writable().truncate(offset);
    await this.datasync();
  }

  /** Writes the data at `offset`..`end` once more and syncs: a sync that failed earlier may have left it in memory only. */
  async rewrite(offset: number, end = this.#end): Promise<void> {
    const file = this.#writable();
    await file.lend(async (readable) => {
      const window = new ByteWindow(readable, end, READ_CHUNK_BYTES_MAX);
      for (let at = offset; at < end;) {
        await window.fill(at, 1);
        const length = window.available(at);
        assert(length > 0, "what was scanned can be read again");
        await file.write(window.view(at, length), at);
        at += length;
      }
    });
    await this.datasync();
  }

  /** Closes the file of a segment that is trimmed and synced, and writes its index beside it. */
  async seal(): Promise<void> {
    await this.writeIndex();
    await this.close();
  }

  /** Closes the file as it is. */
  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /** What the index file of the segment holds when it is right. */
  indexBytes(): Buffer {
    return this.#index.encode(this.header, this.#end);
  }

  /** Writes the index file unless it is there and right. It is a cache: a failure costs a line in the log of events. */
  async writeIndex(): Promise<void> {
    const { fileSystem, directory, logger } = this.#place;
    const path = `${directory}/${indexName(this.firstSeq)}`;
    const bytes = this.indexBytes();
    try {
      if (await holds(fileSystem, path, bytes)) return;
      const file = await createAnew(fileSystem, path);
      try {
        await new SegmentFile(file, 0, false).write(bytes, 0);
      } finally {
        await file.close();
      }
    } catch (error) {
      logger.warn("the index of a segment could not be written; the next start tries again", {
        file: path,
        reason: error instanceof Error ? error.message : String(error),
      });
    }
  }

  /** Removes the segment's files; durable on return. */
  async remove(): Promise<void> {
    const { fileSystem, directory } = this.#place;
    await this.close();
    await removeIfThere(fileSystem, `${directory}/${indexName(this.firstSeq)}`);
    // An earlier try may have come so far, and failed to sync the directory.
    await removeIfThere(fileSystem, this.path);
    await fileSystem.syncDirectory(directory);
  }

  /** The frame that holds the record `seq`, which is in this segment. */
  locate(seq: number): Promise<LocatedFrame> {
    return this.#withFile(async (file) => {
      const window = new ByteWindow(file, this.#end, READ_CHUNK_BYTES_MIN);
      let at = this.#startFor(seq);
      for (;;) {
        const header = await this.#readHeader(window, at.offset);
        if (seq < at.firstSeq + header.recordCount) return at;
        at = {
          offset: at.offset + FRAME_HEADER_BYTES + header.bodyLength,
          firstSeq: at.firstSeq + header.recordCount,
        };
      }
    });
  }

  /**
   * Whole encoded records from `fromSeq` on, which is in this segment: up to `toSeq` or this segment's end, and up to
   * `maxBytes` bytes, but at least one. Rejects with `WalError` "corrupt" when the disk no longer gives what was written.
   */
  read(fromSeq: number, toSeq: number, maxBytes: number): Promise<Buffer> {
    assert(fromSeq >= this.firstSeq && fromSeq <= toSeq, "a read begins in its segment");
    return this.#withFile(async (file) => {
      let at = this.#startFor(fromSeq);
      const chunk = Math.min(READ_CHUNK_BYTES_MAX, Math.max(READ_CHUNK_BYTES_MIN, maxBytes + READ_CHUNK_BYTES_MIN));
      const end = this.#end;
      const window = new ByteWindow(file, end, Math.min(chunk, end - at.offset));
      const out = new RecordCollector(fromSeq, toSeq, maxBytes);
      while (at.offset < end && !out.full) {
        // What was gathered lies in the window, which may not move any more.
        if (out.length > 0 && !this.#holdsFrame(window, at.offset)) break;
        const header = await this.#readHeader(window, at.offset);
        const nextSeq = at.firstSeq + header.recordCount;
        if (nextSeq > fromSeq) {
          await this.#frameBody(window, at.offset, header);
          const problem = out.take(window, at.offset + FRAME_HEADER_BYTES, at.firstSeq, header);
          if (problem) throw this.#corrupt(at.offset, problem.expected, problem.found);
        }
        at = { offset: at.offset + FRAME_HEADER_BYTES + header.bodyLength, firstSeq: nextSeq };
      }
      return out.bytes;
    });
  }

  /**
   * Shows the records from `fromSeq` on, which is in this segment, up to `toSeq` at most: those of one frame after another, as views
   * that are valid during the call, until some `bytesMax` were read. Resolves to the last seq that was shown. Rejects as `read`; the
   * bodies of frames are summed only where `show` throws, see `Log.visit`.
   */
  visit(fromSeq: number, toSeq: number, bytesMax: number, show: (records: Buffer) => void): Promise<number> {
    assert(fromSeq >= this.firstSeq && fromSeq <= toSeq, "a read begins in its segment");
    return this.#withFile(async (file) => {
      const end = this.#end;
      let { offset, firstSeq } = this.#startFor(fromSeq);
      const stopAt = Math.min(end, offset + bytesMax);
      const window = new ByteWindow(file, end, VISIT_CHUNK_BYTES, { readsAhead: true });
      try {
        let seq = fromSeq;
        while (seq <= toSeq && offset < end && (offset < stopAt || seq === fromSeq)) {
          // A frame may be small: none costs a turn, or a promise, that is in the window.
          const readHeader = window.ensure(offset, FRAME_HEADER_BYTES);
          if (readHeader) await readHeader;
          const header = this.#frameHeader(window, offset);
          const body = offset + FRAME_HEADER_BYTES;
          const nextSeq = firstSeq + header.recordCount;
          if (nextSeq > seq) {
            const readBody = window.ensure(body, header.bodyLength);
            if (readBody) await readBody;
            if (!window.has(body, header.bodyLength)) throw this.#bodyCutShort(window, offset, header);
            try {
              show(this.#wanted(window, offset, header, { firstSeq, fromSeq: seq, toSeq }));
            } catch (error) {
              // Who is shown them has found them wrong: was it the disk?
              this.#checkBody(window, offset, header);
              throw error;
            }
            seq = Math.min(nextSeq, toSeq + 1);
          }
          offset = body + header.bodyLength;
          firstSeq = nextSeq;
        }
        return seq - 1;
      } finally {
        await window.settled();
      }
    });
  }

  /** The records of a frame that are wanted; a view where those are all. */
  #wanted(
    window: ByteWindow,
    offset: number,
    { bodyLength, recordCount }: FrameHeader,
    { firstSeq, fromSeq, toSeq }: { readonly firstSeq: number; readonly fromSeq: number; readonly toSeq: number },
  ): Buffer {
    const body = offset + FRAME_HEADER_BYTES;
    if (fromSeq <= firstSeq && firstSeq + recordCount - 1 <= toSeq) {
      const found = recordSeq(window.bytes, window.at(body));
      if (found !== firstSeq) throw this.#corrupt(offset, `record ${firstSeq}`, `${found}`);
      return window.view(body, bodyLength);
    }
    const out = new RecordCollector(fromSeq, toSeq, Infinity);
    const problem = out.take(window, body, firstSeq, { bodyLength, recordCount });
    if (problem) throw this.#corrupt(offset, problem.expected, problem.found);
    return out.bytes;
  }

  /** The frame that the index knows to begin nearest before `seq`. */
  #startFor(seq: number): LocatedFrame {
    const entry = this.#index.floor(seq);
    return entry
      ? { offset: entry.offset, firstSeq: entry.seq }
      : { offset: SEGMENT_HEADER_BYTES, firstSeq: this.firstSeq };
  }

  /** Whether the frame that begins there is in the window, all of it. */
  #holdsFrame(window: ByteWindow, offset: number): boolean {
    if (!window.has(offset, FRAME_HEADER_BYTES)) return false;
    return window.has(offset, FRAME_HEADER_BYTES + this.#frameHeader(window, offset).bodyLength);
  }

  async #readHeader(window: ByteWindow, offset: number): Promise<FrameHeader> {
    await window.ensure(offset, FRAME_HEADER_BYTES);
    return this.#frameHeader(window, offset);
  }

  /** The header of a frame that is in the window. */
  #frameHeader(window: ByteWindow, offset: number): FrameHeader {
    const header =
      window.available(offset) < FRAME_HEADER_BYTES
        ? undefined
        : decodeFrameHeader(window.bytes, window.at(offset), frameSeed(this.saltCrc, offset));
    if (!header) throw this.#corrupt(offset, "the frame that was written here", "none");
    return header;
  }

  async #frameBody(window: ByteWindow, offset: number, header: FrameHeader): Promise<void> {
    const body = offset + FRAME_HEADER_BYTES;
    await window.ensure(body, header.bodyLength);
    this.#checkBody(window, offset, header);
  }

  #checkBody(window: ByteWindow, offset: number, header: FrameHeader): void {
    const body = offset + FRAME_HEADER_BYTES;
    if (!window.has(body, header.bodyLength)) throw this.#bodyCutShort(window, offset, header);
    const crc = crc32Range(window.bytes, window.at(body), window.at(body) + header.bodyLength);
    if (crc !== header.bodyCrc) throw this.#corrupt(offset, `body CRC ${header.bodyCrc}`, `${crc}`);
  }

  #bodyCutShort(window: ByteWindow, offset: number, { bodyLength }: FrameHeader): WalError {
    return this.#corrupt(offset, `${bodyLength} bytes of records`, `${window.available(offset + FRAME_HEADER_BYTES)}`);
  }

  #corrupt(offset: number, expected: string, found: string): WalError {
    return new WalError("corrupt", "a read from the log found other bytes than were written", {
      file: this.path,
      offset,
      expected,
      found,
    });
  }

  async #withFile<T>(use: (file: File) => Promise<T>): Promise<T> {
    if (this.#file) return this.#file.lend(use);
    return reading(this.#place.fileSystem, this.path, use);
  }

  #writable(): SegmentFile {
    return must(this.#file, "only the last segment is written to");
  }
}

/** What nothing can be built on any more, whatever the system calls it. */
function brokenDisk(what: string, cause: unknown): FileSystemError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new FileSystemError("EIO", `${what}: ${reason}`, { cause });
}

/** Gathers the records of a read out of the frames that it meets, in the window's own memory, over what stood between them. */
class RecordCollector {
  readonly #fromSeq: number;
  readonly #toSeq: number;
  readonly #maxBytes: number;
  #window: Buffer = Buffer.alloc(0);
  #start = 0;
  length = 0;
  /** Nothing more is wanted. */
  full = false;

  constructor(fromSeq: number, toSeq: number, maxBytes: number) {
    this.#fromSeq = fromSeq;
    this.#toSeq = toSeq;
    this.#maxBytes = maxBytes;
  }

  get bytes(): Buffer {
    return this.#window.subarray(this.#start, this.#start + this.length);
  }

  /** Takes what is wanted out of a frame's body, which begins with the record `firstSeq`. */
  take(
    window: ByteWindow,
    bodyOffset: number,
    firstSeq: number,
    { bodyLength, recordCount }: Pick<FrameHeader, "bodyLength" | "recordCount">,
  ): RecordProblem | undefined {
    // One that only says what is synced and applied.
    if (recordCount === 0) return undefined;
    const { bytes } = window;
    let at = window.at(bodyOffset);
    const end = at + bodyLength;
    // The CRC of the body vouches for what lies between its ends.
    const lastSeq = firstSeq + recordCount - 1;
    if (firstSeq >= this.#fromSeq && lastSeq < this.#toSeq && this.length + bodyLength <= this.#maxBytes) {
      if (bodyLength < RECORD_HEADER_BYTES || recordSeq(bytes, at) !== firstSeq) return notRecord(firstSeq);
      this.#add(bytes, at, end);
      return undefined;
    }
    let seq = firstSeq;
    let from = at;
    for (; at < end && !this.full; seq++) {
      if (end - at < RECORD_HEADER_BYTES || recordEnd(bytes, at) > end || recordSeq(bytes, at) !== seq) {
        return notRecord(seq);
      }
      const next = recordEnd(bytes, at);
      if (seq < this.#fromSeq) from = next;
      else if (this.length + (at - from) > 0 && this.length + (next - from) > this.#maxBytes) this.full = true;
      if (!this.full) at = next;
      if (seq >= this.#toSeq) this.full = true;
    }
    this.#add(bytes, from, at);
    return undefined;
  }

  #add(bytes: Buffer, from: number, to: number): void {
    if (this.length === 0) {
      this.#window = bytes;
      this.#start = from;
    } else {
      assert(this.#window === bytes, "the window has not moved");
      bytes.copyWithin(this.#start + this.length, from, to);
    }
    this.length += to - from;
  }
}

function notRecord(seq: number): RecordProblem {
  return { expected: `record ${seq}`, found: "something else" };
}
