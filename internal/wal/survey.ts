/**
 * Reads a log that a run before left behind, all of it, and judges it; changes nothing.
 *
 * The rule: the last segment may end in a torn frame (`torn-frame.ts`), or inside its header when there is one before it;
 * everything else that is not as it was written is corruption.
 */
import { assert, must } from "../base/assert.js";
import type { ClusterId } from "../base/ids.js";
import { epoch, epochMs, seq, type Seq } from "../base/position.js";
import { ByteWindow } from "./byte-window.js";
import { reading } from "./files.js";
import { chainSeed, type LogEnd, type RecordView } from "./record.js";
import { isZeroToEnd, LogCursor, scanSegment, type ScannedFrame, type ScanResult } from "./scan.js";
import {
  decodeSegmentHeader,
  firstSeqOfName,
  FORMAT_VERSION,
  isIndexName,
  SEGMENT_HEADER_BYTES,
  segmentName,
  type SegmentHeader,
} from "./segment-header.js";
import { Segment, type SegmentPlace } from "./segment.js";
import { whyNotTorn } from "./torn-frame.js";
import { WalError, type WalErrorPlace } from "./wal-error.js";

const SCAN_CHUNK_BYTES = 2 * 1024 * 1024;

export interface SurveyOptions extends SegmentPlace {
  readonly clusterId: ClusterId;
  /** Judge damage as the place to cut at, instead of refusing the log. */
  readonly recover?: "truncate-tail" | undefined;
  readonly mustExist?: boolean | undefined;
  readonly replay?: ((record: RecordView) => void) | undefined;
  /** Shown each sound frame, with the path of its segment. */
  readonly onFrame?: ((path: string, frame: ScannedFrame) => Promise<void> | void) | undefined;
  /** Where a log that is not there yet goes on from. */
  readonly start?: LogEnd | undefined;
}

/** A segment file as it was found. */
export interface FoundSegment {
  readonly firstSeq: Seq;
  readonly path: string;
  readonly size: number;
  readonly header:
    | { readonly kind: "header"; readonly header: SegmentHeader }
    /** The file is shorter than a header, or all zero. */
    | { readonly kind: "unborn" }
    | { readonly kind: "damaged"; readonly expected: string; readonly found: string };
}

/** Where the log has to end: in segment number `index`, before the byte at `offset`; 0 drops the whole segment. */
export interface Cut {
  readonly index: number;
  readonly offset: number;
}

export interface Survey {
  /** All names in the directory. */
  readonly names: readonly string[];
  readonly found: readonly FoundSegment[];
  /** Those that were read, from the first on. */
  readonly segments: Segment[];
  /** Of the last of them. */
  readonly lastScan: ScanResult | undefined;
  /** Stands after the last sound record. */
  readonly cursor: LogCursor;
  readonly cut: Cut | undefined;
  /** Why it has to be cut, unless a crash tore it; only with `truncate-tail`. */
  readonly damage: WalError | undefined;
  /** The last place from which on the next segment has taken over; what comes there may be cut off already. */
  readonly takenOver: Cut | undefined;
  /** The next segment has taken over what segment number `index` holds from `offset` on. */
  readonly voidEnd: Cut | undefined;
}

/** Rejects with `WalError` "corrupt", "newer_format", "foreign_cluster". */
export async function surveyLog(options: SurveyOptions): Promise<Survey> {
  const names = await options.fileSystem.list(options.directory);
  const found: FoundSegment[] = [];
  // All headers first: what is newer or foreign is told before anything is called damaged.
  for (const name of names) {
    const firstSeq = firstSeqOfName(name);
    if (firstSeq !== undefined) found.push(await findSegment(options, firstSeq));
  }
  if (found.length === 0 && (options.mustExist || names.some(isIndexName))) {
    throw new WalError(
      "corrupt",
      "the log was here and is gone: restore its directory, or start over with an empty one",
      {
        file: options.directory,
        expected: "segments of a log",
        found: "none",
      },
    );
  }
  assert(!options.start || found.length === 0, "only a log that is not there yet is given its start");
  const reader = new Reader(options, found);
  const cut = await reader.read();
  return { names, found, cut, ...reader.result };
}

/** A segment file and its header. Rejects with `WalError` "newer_format", "foreign_cluster". */
export async function findSegment(
  options: Pick<SurveyOptions, "fileSystem" | "directory" | "clusterId">,
  firstSeq: Seq,
): Promise<FoundSegment> {
  const path = `${options.directory}/${segmentName(firstSeq)}`;
  return reading(options.fileSystem, path, async (file) => {
    const size = await file.size();
    const window = new ByteWindow(file, size, SCAN_CHUNK_BYTES);
    await window.fill(0, SEGMENT_HEADER_BYTES);
    const whole = window.available(0) >= SEGMENT_HEADER_BYTES;
    const decoded = whole ? decodeSegmentHeader(window.view(0, SEGMENT_HEADER_BYTES)) : undefined;
    if (!decoded || (decoded.kind === "damaged" && (await isZeroToEnd(window, 0)))) {
      return { firstSeq, path, size, header: { kind: "unborn" } };
    }
    if (decoded.kind === "newer") {
      throw new WalError("newer_format", "the log was written by a newer Cambium: start that one, or a later one", {
        file: path,
        offset: 8,
        expected: `format version ${FORMAT_VERSION} or lower`,
        found: `${decoded.version}`,
      });
    }
    if (decoded.kind === "header" && decoded.header.clusterId !== options.clusterId) {
      throw new WalError("foreign_cluster", "the log belongs to another cluster", {
        file: path,
        offset: 16,
        expected: options.clusterId,
        found: decoded.header.clusterId,
      });
    }
    return { firstSeq, path, size, header: decoded };
  });
}

/** Damage, and the place from which on the log would have to be given up. */
class CorruptAt extends WalError {
  readonly cut: Cut;

  constructor(cut: Cut, what: string, place: WalErrorPlace) {
    const wayOut =
      "restore the directory, or start with --recover=truncate-tail to keep what comes before and save the rest";
    super("corrupt", `the log is damaged: ${what}; ${wayOut}`, place);
    this.cut = cut;
  }
}

class Reader {
  readonly #options: SurveyOptions;
  readonly #found: readonly FoundSegment[];
  readonly #segments: Segment[] = [];
  readonly #cursor: LogCursor;
  #lastScan: ScanResult | undefined;
  #takenOver: Cut | undefined;
  #voidEnd: Cut | undefined;
  #damage: WalError | undefined;

  constructor(options: SurveyOptions, found: readonly FoundSegment[]) {
    this.#options = options;
    this.#found = found;
    this.#cursor = new LogCursor(options.start ?? beginning(options.clusterId));
  }

  get result(): Pick<Survey, "segments" | "lastScan" | "cursor" | "takenOver" | "voidEnd" | "damage"> {
    return {
      segments: this.#segments,
      lastScan: this.#lastScan,
      cursor: this.#cursor,
      takenOver: this.#takenOver,
      voidEnd: this.#voidEnd,
      damage: this.#damage,
    };
  }

  /** Reads all segments in order; gives the place where the log has to be cut, if it has to be. */
  async read(): Promise<Cut | undefined> {
    for (let index = 0; index < this.#found.length; index++) {
      try {
        const cut = await this.#readSegment(index);
        if (cut) return cut;
      } catch (error) {
        if (!(error instanceof CorruptAt) || this.#options.recover !== "truncate-tail") throw error;
        // Without the first header no frame can be told from chance. All would be lost, and nobody asked for that.
        if (error.cut.index === 0 && error.cut.offset === 0 && !this.#mayBeginAnew()) throw error;
        this.#options.logger.warn("the log is damaged and is cut there, as was asked for", { reason: error.message });
        this.#damage = error;
        return error.cut;
      }
    }
    return undefined;
  }

  async #readSegment(index: number): Promise<Cut | undefined> {
    const found = must(this.#found[index], "the segment was found");
    const next = this.#found[index + 1];
    if (!next && index > 0 && found.size < SEGMENT_HEADER_BYTES) return { index, offset: 0 };
    const header = this.#checkedHeader(index, found);
    if (index === 0) this.#cursor.follow(header.before);
    // A segment begins only after the one before it is synced.
    this.#cursor.syncedSeq = this.#cursor.seq;
    this.#cursor.clean = false;

    const { onFrame } = this.#options;
    const takenOver = next?.header.kind === "header" && next.header.header.takesOver;
    return reading(this.#options.fileSystem, found.path, async (file) => {
      const window = new ByteWindow(file, found.size, SCAN_CHUNK_BYTES, { readsAhead: true });
      let scan: ScanResult;
      try {
        scan = await scanSegment({
          window,
          header,
          cursor: this.#cursor,
          ...(next && takenOver ? { takenOverAfter: next.firstSeq - 1 } : {}),
          replay: this.#options.replay,
          ...(onFrame && { onFrame: (frame) => onFrame(found.path, frame) }),
        });
      } finally {
        await window.settled();
      }
      const { end } = scan;
      const content = { end: end.offset, lastSeq: this.#cursor.seq, index: scan.index };
      const segment = Segment.existing(this.#options, header, content);
      this.#segments.push(segment);
      this.#lastScan = scan;
      const place = { index, offset: end.offset };
      if (end.kind === "taken-over") {
        this.#takenOver = place;
        if (end.offset < found.size) this.#voidEnd = place;
      }
      if (end.kind === "taken-over" || end.kind === "end") return undefined;

      const reason = next
        ? "the segment after it proves that it was synced"
        : end.kind === "impossible"
          ? "its checksums are right, so no crash left it so"
          : await whyNotTorn({
              file,
              fileEnd: found.size,
              saltCrc: segment.saltCrc,
              offset: end.offset,
              frameEnd: end.frameEnd,
              firstSeq: segment.lastSeq + 1,
            });
      if (reason === undefined) return place;
      throw new CorruptAt(place, `the frame after record ${segment.lastSeq} is not what was written, and ${reason}`, {
        file: found.path,
        offset: end.offset,
        expected: end.expected,
        found: end.found,
      });
    });
  }

  /**
   * Whether a log that is to be cut at its very beginning may become an empty one: when its only segment is the first one and
   * holds nothing at all, so that there is nothing to lose, and the caller does not know better. Even so it takes the wish
   * to cut. No crash leaves a segment without a header: it gets its name once that is synced, so what has lost it may have
   * held records that were acknowledged.
   */
  #mayBeginAnew(): boolean {
    const [only, ...others] = this.#found;
    return only?.firstSeq === 1 && only.header.kind === "unborn" && others.length === 0 && !this.#options.mustExist;
  }

  /** The header of a segment, when it is sound and continues the segments before. */
  #checkedHeader(index: number, found: FoundSegment): SegmentHeader {
    const cut = { index, offset: 0 };
    const place = { file: found.path, offset: 0 };
    if (found.header.kind === "damaged") {
      throw new CorruptAt(cut, "a segment's header is not what was written", { ...place, ...found.header });
    }
    if (found.header.kind === "unborn") {
      const size = `${found.size} bytes without one`;
      throw new CorruptAt(cut, "a segment has lost its header", { ...place, expected: "a header", found: size });
    }
    const { header } = found.header;
    if (header.firstSeq !== found.firstSeq) {
      const expected = segmentName(header.firstSeq);
      throw new CorruptAt(cut, "a segment has another one's name", {
        ...place,
        expected,
        found: segmentName(found.firstSeq),
      });
    }
    const first = header.firstSeq === 1 ? beginning(header.clusterId) : header.before;
    const expected = describeEnd(index === 0 ? first : this.#cursor.end);
    const claimed = describeEnd(header.before);
    if (claimed !== expected) {
      const what = "a segment does not continue the one before it; one between them may be missing";
      throw new CorruptAt(cut, what, { ...place, expected, found: claimed });
    }
    return header;
  }
}

function beginning(clusterId: ClusterId): LogEnd {
  return { seq: seq(0), epoch: epoch(0), timestampMs: epochMs(0), chain: chainSeed(clusterId) };
}

function describeEnd(end: LogEnd): string {
  return `seq ${end.seq} of epoch ${end.epoch} with chain ${end.chain} at ${end.timestampMs} ms before it`;
}
