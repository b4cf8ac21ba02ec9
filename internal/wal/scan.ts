/**
 * Reads a segment from front to back, checks every byte of it, and shows its records. It says where the frames end and
 * how, and judges nothing: whether a bad frame is torn or corrupt is `torn-frame.ts`'s question.
 */
import { crc32, crc32Range } from "../base/crc32.js";
import type { Epoch, EpochMs, Seq } from "../base/position.js";
import type { ByteWindow } from "./byte-window.js";
import { allZero } from "./bytes.js";
import { decodeFrameHeader, FLAG_CLEAN_SHUTDOWN, FRAME_HEADER_BYTES, frameSeed, type FrameHeader } from "./frame.js";
import { followRecord, recordEnd, RecordView, type LogEnd } from "./record.js";
import { SEGMENT_HEADER_BYTES, type SegmentHeader } from "./segment-header.js";
import { SegmentIndex } from "./segment-index.js";

/** How far the log has been followed, over all segments so far. */
export class LogCursor {
  seq: Seq;
  epoch: Epoch;
  chain: number;
  timestampMs: EpochMs;
  records = 0;
  /** The highest that any frame carries. */
  appliedSeq = 0;
  /** The highest seq that is proven to have been synced. */
  syncedSeq = 0;
  /** The last frame is the mark of an orderly close. */
  clean = false;

  constructor(before: LogEnd) {
    this.seq = before.seq;
    this.epoch = before.epoch;
    this.chain = before.chain;
    this.timestampMs = before.timestampMs;
  }

  get end(): LogEnd {
    return { seq: this.seq, epoch: this.epoch, chain: this.chain, timestampMs: this.timestampMs };
  }

  /** Goes on to the end of the log before a segment. */
  follow(end: LogEnd): void {
    this.seq = end.seq;
    this.epoch = end.epoch;
    this.chain = end.chain;
    this.timestampMs = end.timestampMs;
  }
}

/** How the frames of a segment end, at `offset`. */
export type ScanEnd =
  /** With the file, or with zeros up to its end. */
  | { readonly kind: "end"; readonly offset: number }
  /** Where the next segment takes over. */
  | { readonly kind: "taken-over"; readonly offset: number }
  /** With bytes that are not a whole, sound frame; `frameEnd` is known when its header is sound. */
  | {
      readonly kind: "bad";
      readonly offset: number;
      readonly frameEnd: number | undefined;
      readonly expected: string;
      readonly found: string;
    }
  /** With a frame whose checksums are right and whose content cannot be: no crash leaves that. */
  | { readonly kind: "impossible"; readonly offset: number; readonly expected: string; readonly found: string };

/** A whole, sound frame, as it is shown. */
export interface ScannedFrame {
  readonly offset: number;
  readonly header: FrameHeader;
  /** The seq of its first record; the next one's when it has none. */
  readonly firstSeq: Seq;
  /** Its records. The view is valid until what it was shown to is done. */
  readonly body: Buffer;
}

export interface ScanResult {
  readonly end: ScanEnd;
  readonly index: SegmentIndex;
  /** End of the last frame that has records; the header's end when there is none. */
  readonly recordsEnd: number;
  /**
   * The frames with records that no later one proves to be synced, oldest first: first seq and offset of each, and where the
   * records before it end. Between that and its offset lie frames without records.
   */
  readonly unproven: {
    readonly seqs: readonly number[];
    readonly offsets: readonly number[];
    readonly recordEnds: readonly number[];
  };
}

export interface ScanOptions {
  readonly window: ByteWindow;
  readonly header: SegmentHeader;
  /** Followed from the segment's first record on; moves as records are seen. */
  readonly cursor: LogCursor;
  /** The last record before the next segment, when that has taken over this one's end: nothing past it is looked at. */
  readonly takenOverAfter?: number;
  /** Shown each record, valid during the call only. */
  readonly replay?: ((record: RecordView) => void) | undefined;
  /** Shown each sound frame; the next one is read once it is done. What it throws ends the scan. */
  readonly onFrame?: ((frame: ScannedFrame) => Promise<void> | void) | undefined;
}

export async function scanSegment(options: ScanOptions): Promise<ScanResult> {
  const { window, cursor } = options;
  const saltCrc = crc32(options.header.salt);
  const index = new SegmentIndex();
  const seqs: number[] = [];
  const offsets: number[] = [];
  const recordEnds: number[] = [];
  let recordsEnd = SEGMENT_HEADER_BYTES;
  let offset = SEGMENT_HEADER_BYTES;
  const result = (end: ScanEnd): ScanResult => ({ end, index, recordsEnd, unproven: { seqs, offsets, recordEnds } });

  for (;;) {
    if (options.takenOverAfter !== undefined && cursor.seq >= options.takenOverAfter) {
      return result({ kind: "taken-over", offset });
    }
    if (offset >= window.fileEnd) return result({ kind: "end", offset });
    // `ensure` hands out a promise only when it must read, so that small frames do not each cost a turn.
    const readHeader = window.ensure(offset, FRAME_HEADER_BYTES);
    if (readHeader) await readHeader;
    const header =
      window.available(offset) < FRAME_HEADER_BYTES
        ? undefined
        : decodeFrameHeader(window.bytes, window.at(offset), frameSeed(saltCrc, offset));
    if (!header) {
      if (await isZeroToEnd(window, offset)) return result({ kind: "end", offset });
      return result({ kind: "bad", offset, frameEnd: undefined, expected: "a frame", found: "other bytes" });
    }

    const body = offset + FRAME_HEADER_BYTES;
    const frameEnd = body + header.bodyLength;
    const readBody = window.ensure(body, header.bodyLength);
    if (readBody) await readBody;
    const damage = bodyDamage(window, body, header);
    if (damage) return result({ kind: "bad", offset, frameEnd, ...damage });
    const firstSeq = cursor.seq + 1;
    const nonsense = followFrame(window, body, header, cursor, options.replay);
    if (nonsense) return result({ kind: "impossible", offset, ...nonsense });
    if (options.onFrame) {
      await options.onFrame({ offset, header, firstSeq: firstSeq as Seq, body: window.view(body, header.bodyLength) });
    }

    if (cursor.syncedSeq >= firstSeq - 1) seqs.length = offsets.length = recordEnds.length = 0;
    if (header.recordCount > 0) {
      index.note(firstSeq, offset);
      seqs.push(firstSeq);
      offsets.push(offset);
      recordEnds.push(recordsEnd);
      recordsEnd = frameEnd;
    }
    offset = frameEnd;
  }
}

interface Mismatch {
  readonly expected: string;
  readonly found: string;
}

function bodyDamage(window: ByteWindow, body: number, header: FrameHeader): Mismatch | undefined {
  if (!window.has(body, header.bodyLength)) {
    return {
      expected: `${header.bodyLength} bytes of records`,
      found: `the file's end after ${window.available(body)}`,
    };
  }
  const crc = crc32Range(window.bytes, window.at(body), window.at(body) + header.bodyLength);
  return crc === header.bodyCrc ? undefined : { expected: `body CRC ${header.bodyCrc}`, found: `${crc}` };
}

/** Moves the cursor over a frame whose checksums are right; what is wrong with its content, if anything. */
function followFrame(
  window: ByteWindow,
  body: number,
  header: FrameHeader,
  cursor: LogCursor,
  replay: ((record: RecordView) => void) | undefined,
): Mismatch | undefined {
  if (header.syncedSeq > cursor.seq || header.appliedSeq > cursor.seq) {
    return {
      expected: `synced and applied seqs up to ${cursor.seq}`,
      found: `${header.syncedSeq} and ${header.appliedSeq}`,
    };
  }
  const bytes = window.bytes;
  const start = window.at(body);
  const end = start + header.bodyLength;
  // The whole frame is looked at before any of it counts: the cursor never stands inside a frame, nor is half of one shown.
  const last = { seq: cursor.seq, epoch: cursor.epoch, chain: cursor.chain, timestampMs: cursor.timestampMs };
  let count = 0;
  for (let at = start; at < end; count++) {
    const problem = followRecord(bytes, at, end, last);
    if (problem) return problem;
    at = recordEnd(bytes, at);
  }
  if (count !== header.recordCount) return { expected: `${header.recordCount} records`, found: `${count}` };

  cursor.appliedSeq = Math.max(cursor.appliedSeq, header.appliedSeq);
  cursor.clean = (header.flags & FLAG_CLEAN_SHUTDOWN) !== 0;
  cursor.syncedSeq = Math.max(cursor.syncedSeq, cursor.clean ? cursor.seq : header.syncedSeq);
  cursor.records += count;
  cursor.follow(last);
  if (replay) {
    const record = new RecordView();
    for (let at = start; at < end; at = recordEnd(bytes, at)) {
      record.moveTo(bytes, at);
      replay(record);
    }
  }
  return undefined;
}

/** Whether all bytes from `offset` to the end of the file are zero. Moves the window. */
export async function isZeroToEnd(window: ByteWindow, offset: number): Promise<boolean> {
  for (let at = offset; at < window.fileEnd;) {
    await window.ensure(at, 1);
    const length = window.available(at);
    if (length === 0) return true;
    if (!allZero(window.bytes, window.at(at), window.at(at) + length)) return false;
    at += length;
  }
  return true;
}
