/**
 * The segments of a log in their order, without a gap between them. The last one is open for writing. Here are the acts
 * that concern more than one segment: rotating, reading across them, cutting the log's end off, and moving an end
 * into a segment of its own.
 */
import { assert, must } from "../base/assert.js";
import type { ClusterId, RandomSource } from "../base/ids.js";
import { seq, type Seq } from "../base/position.js";
import { asBuffer } from "./bytes.js";
import { FrameGroup, type FrameFields } from "./frame-group.js";
import { FRAME_BODY_BYTES_MAX } from "./frame.js";
import { logEndAt, recordEnd, type LogEnd } from "./record.js";
import { SALT_BYTES, type SegmentHeader } from "./segment-header.js";
import { Segment, type LocatedFrame, type SegmentPlace } from "./segment.js";

/** Records are moved between segments in runs of about this size. */
const MOVE_BYTES = 1024 * 1024;

export interface SegmentsOptions extends SegmentPlace {
  readonly random: RandomSource;
  readonly clusterId: ClusterId;
  /** Whether zeros are written ahead of the data. */
  readonly preallocates: boolean;
}

export class Segments {
  readonly #options: SegmentsOptions;
  readonly #list: Segment[];

  /** Takes over checked segments; `openLast` or `begin` makes the log writable. */
  constructor(options: SegmentsOptions, list: Segment[]) {
    this.#options = options;
    this.#list = list;
  }

  get all(): readonly Segment[] {
    return this.#list;
  }

  /** The one that is written to. */
  get active(): Segment {
    return must(this.#list.at(-1), "a log has a segment");
  }

  get firstSeq(): Seq {
    return must(this.#list[0], "a log has a segment").firstSeq;
  }

  get byteLength(): number {
    return this.#list.reduce((sum, segment) => sum + segment.end, 0);
  }

  /** Opens the last segment for writing. */
  openLast(): Promise<void> {
    return this.active.openForWriting(this.#options.preallocates);
  }

  /** Begins an empty segment after `before`. The one before it must be synced. */
  async begin(before: LogEnd): Promise<void> {
    const segment = await Segment.create(this.#options, this.#headerAfter(before, false), this.#options);
    const sealed = this.#list.at(-1);
    this.#list.push(segment);
    await sealed?.seal();
  }

  /** Whole encoded records from `fromSeq` on, of one segment; see `Segment.read`. */
  read(fromSeq: number, toSeq: number, maxBytes: number): Promise<Buffer> {
    return this.#holding(fromSeq).read(fromSeq, toSeq, maxBytes);
  }

  /** Shows records from `fromSeq` on, of one segment; see `Segment.visit`. */
  visit(fromSeq: number, toSeq: number, bytesMax: number, show: (records: Buffer) => void): Promise<number> {
    const segment = this.#holding(fromSeq);
    return segment.visit(fromSeq, Math.min(toSeq, segment.lastSeq), bytesMax, show);
  }

  /** The end of the log as it was after the record `seq`, or before the first record. */
  async endAt(seq: Seq): Promise<LogEnd> {
    const first = must(this.#list[0], "a log has a segment");
    if (seq < first.firstSeq) {
      assert(seq === first.firstSeq - 1, "the record at a mark is kept, or is the one before the first");
      return first.header.before;
    }
    return logEndAt(await this.read(seq, seq, 1), 0);
  }

  /**
   * Removes every record after `seq`, durably. A crash on the way leaves a log that ends at `seq` or later, never earlier.
   * Frames that have to be written anew carry `appliedSeq`, as far as it lies before them.
   */
  async cutAfter(seq: Seq, appliedSeq: number): Promise<void> {
    assert(seq >= this.firstSeq - 1, "a cut lies in the log");
    // From the last one back, each removal durable before the next: a gap would look like damage.
    while (this.#list.length > 1 && this.active.firstSeq > seq) {
      await this.active.remove();
      this.#list.pop();
    }
    await this.openLast();
    const segment = this.active;
    if (segment.lastSeq <= seq) return;
    // Also where a frame ends: a crash in the middle of a truncation may leave the first blocks of what goes as zeros, and later
    // ones, which prove that they were synced, as they were.
    await this.moveEnd(await segment.locate(seq + 1), seq, appliedSeq);
  }

  /** Removes the segments that hold only records up to `seq`, but never the last one. A crash on the way leaves fewer removed. */
  async removeBelow(seq: Seq): Promise<void> {
    // From the first one on, each removal durable before the next: a gap would look like damage.
    while (this.#list.length > 1 && this.#list[1]!.firstSeq <= seq + 1) {
      await must(this.#list[0], "a log has a segment").remove();
      this.#list.shift();
    }
  }

  /** The seq before the first of as many last segments as have `bytes` at most together; the last one always counts. */
  seqBeforeLast(bytes: number): Seq {
    let first = this.#list.length - 1;
    for (let sum = this.active.end; first > 0; first--) {
      sum += this.#list[first - 1]!.end;
      if (sum > bytes) break;
    }
    return seq(must(this.#list[first], "a log has a segment").firstSeq - 1);
  }

  /** Bytes of the segments that hold records after `seq`. */
  bytesAfter(seq: Seq): number {
    let bytes = 0;
    for (const segment of this.#list) if (segment.lastSeq > seq) bytes += segment.end;
    return bytes;
  }

  /**
   * Moves the end of the last segment into a new, synced one: the records from the frame `from` on, up to `lastSeq`, which may
   * be none; what lies after that is dropped. Until the new segment has its name, the old one is whole; from then on the new one
   * counts, and says by its header that the old end is void.
   */
  async moveEnd(from: LocatedFrame, lastSeq: Seq, appliedSeq: number): Promise<void> {
    const old = this.active;
    const replacesAll = from.firstSeq === old.firstSeq;
    const before = replacesAll ? old.header.before : await this.endAt(seq(from.firstSeq - 1));
    // The new segment proves by its header that what comes before it is on the disk, in every mode.
    await old.datasync();
    const segment = await Segment.create(this.#options, this.#headerAfter(before, !replacesAll), {
      preallocates: this.#options.preallocates,
      fill: (segment) => copyRecords(old, segment, lastSeq, appliedSeq),
    });
    // A segment of the same first seq has replaced the old file under its name, and only its handle is left.
    if (replacesAll) this.#list.pop();
    this.#list.push(segment);
    if (replacesAll) await old.close();
    else await endAt(old, from.offset, before.seq);
  }

  /** Closes the active segment's file. */
  close(): Promise<void> {
    return this.active.close();
  }

  #headerAfter(before: LogEnd, takesOver: boolean): SegmentHeader {
    return {
      clusterId: this.#options.clusterId,
      salt: this.#options.random.bytes(SALT_BYTES),
      firstSeq: seq(before.seq + 1),
      before,
      takesOver,
    };
  }

  #holding(seq: number): Segment {
    let low = 0;
    let high = this.#list.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#list[middle]!.firstSeq <= seq) low = middle + 1;
      else high = middle;
    }
    return must(this.#list[low - 1], "the log holds the seq");
  }
}

/** Ends a segment at a frame's beginning and seals it. */
async function endAt(segment: Segment, offset: number, lastSeq: Seq): Promise<void> {
  await segment.openForWriting(false);
  await segment.cut(offset, lastSeq);
  await segment.seal();
}

/**
 * Writes the records from `to`'s first seq up to `lastSeq` into `to`, and a frame that says that they are synced: `to`
 * counts only once it is.
 */
async function copyRecords(from: Segment, to: Segment, lastSeq: Seq, appliedSeq: number): Promise<void> {
  const group = new FrameGroup();
  const fields = (before: number): FrameFields => ({
    flags: 0,
    syncedSeq: before,
    appliedSeq: Math.min(appliedSeq, before),
  });
  while (to.lastSeq < lastSeq) {
    const records = await from.read(to.lastSeq + 1, lastSeq, MOVE_BYTES);
    group.begin(to.saltCrc, to.end);
    const last = addInFrames(group, records, to.lastSeq + 1, fields(to.firstSeq - 1));
    await to.append(group, last);
  }
  group.begin(to.saltCrc, to.end);
  group.add(Buffer.alloc(0), lastSeq + 1, 0, fields(lastSeq));
  await to.append(group, lastSeq);
}

/** Adds encoded records in frames of the usual size; returns the last seq. */
function addInFrames(group: FrameGroup, records: Uint8Array, firstSeq: number, fields: FrameFields): Seq {
  const bytes = asBuffer(records);
  let frameStart = 0;
  let frameSeq = firstSeq;
  let nextSeq = firstSeq;
  for (let at = 0; at < bytes.length; nextSeq++) {
    const end = recordEnd(bytes, at);
    if (end - frameStart > FRAME_BODY_BYTES_MAX && at > frameStart) {
      group.add(bytes.subarray(frameStart, at), frameSeq, nextSeq - frameSeq, fields);
      frameStart = at;
      frameSeq = nextSeq;
    }
    at = end;
  }
  group.add(bytes.subarray(frameStart), frameSeq, nextSeq - frameSeq, fields);
  return seq(nextSeq - 1);
}
