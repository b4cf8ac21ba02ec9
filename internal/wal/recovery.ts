/**
 * Makes a log that a run before left behind ready to be written to. It is read and judged as a whole first (`survey.ts`);
 * only then what a crash tore is saved and cut, and whatever may never have reached the disk is brought there.
 *
 * Every step leaves, should a crash end it, a log that the next start reads the same way.
 */
import { must } from "../base/assert.js";
import { seq, type Seq } from "../base/position.js";
import { ByteWindow } from "./byte-window.js";
import { createSynced, reading } from "./files.js";
import type { LogEnd } from "./record.js";
import { indexName, isIndexName, isUnfinishedName, segmentName, tornName } from "./segment-header.js";
import { Segments, type SegmentsOptions } from "./segments.js";
import { isDiskFull } from "./wal-error.js";
import { surveyLog, type Cut, type FoundSegment, type Survey, type SurveyOptions } from "./survey.js";

const COPY_CHUNK_BYTES = 1024 * 1024;

export type RecoveryOptions = SegmentsOptions & SurveyOptions;

/** A log that is ready to be written to; everything up to `end` is synced. */
export interface RecoveredLog {
  readonly segments: Segments;
  readonly end: LogEnd;
  readonly records: number;
  /** The highest that any frame carries. */
  readonly appliedSeq: Seq;
  /** What was proven to be synced as the log was found. */
  readonly syncedSeq: Seq;
  /** Nothing says that the run before ended otherwise than in order. */
  readonly cleanShutdown: boolean;
  /** The last frame is the mark of an orderly close. */
  readonly endsClean: boolean;
  readonly tornBytes: number;
  readonly tornFile?: string;
}

/** Rejects with `WalError` "corrupt", "newer_format", "foreign_cluster", having changed no byte. */
export async function recoverLog(options: RecoveryOptions): Promise<RecoveredLog> {
  const survey = await surveyLog(options);
  const { cursor } = survey;
  const { syncedSeq } = cursor;
  const endsClean = cursor.clean && !survey.cut;
  await removeLeftovers(options, survey);
  const torn = await new Repair(options, survey).run();

  const segments = new Segments(options, survey.segments);
  if (segments.all.length === 0) await segments.begin(cursor.end);
  else await secureEnd(options, survey, segments);
  for (const segment of segments.all) if (segment !== segments.active) await segment.writeIndex();
  // Names that were made by a process which died are durable only now.
  await options.fileSystem.syncDirectory(options.directory);
  return {
    segments,
    end: cursor.end,
    records: cursor.records,
    appliedSeq: seq(cursor.appliedSeq),
    syncedSeq: seq(syncedSeq),
    cleanShutdown: survey.found.length === 0 || endsClean,
    endsClean,
    ...torn,
  };
}

/** Removes what never counted: segments that were not finished, and the indexes of segments that are gone. */
async function removeLeftovers(options: RecoveryOptions, survey: Survey): Promise<void> {
  const indexes = new Set(survey.found.map((segment) => indexName(segment.firstSeq)));
  for (const name of survey.names) {
    if (isUnfinishedName(name) || (isIndexName(name) && !indexes.has(name))) {
      await options.fileSystem.remove(`${options.directory}/${name}`);
    }
  }
}

/** Cuts what has to go, having saved it. */
class Repair {
  readonly #options: RecoveryOptions;
  readonly #survey: Survey;
  #tornBytes = 0;
  #tornFile: string | undefined;

  constructor(options: RecoveryOptions, survey: Survey) {
    this.#options = options;
    this.#survey = survey;
  }

  async run(): Promise<{ tornBytes: number; tornFile?: string }> {
    const { takenOver, voidEnd, cut } = this.#survey;
    // When the segment that took over is given up, the end that it took over goes the same way, saved.
    const losesBoth = voidEnd && cut && cut.offset === 0 && cut.index === voidEnd.index + 1;
    // Also when it is cut off already: the run that did so may not have come to sync it, and the end would be back.
    if (!losesBoth) for (const end of new Set([voidEnd, takenOver])) if (end) await this.#cutSegment(end);
    if (cut) await this.#cutLog(losesBoth ? voidEnd : cut);
    return { tornBytes: this.#tornBytes, ...(this.#tornFile === undefined ? {} : { tornFile: this.#tornFile }) };
  }

  /** From the last segment back, each step durable before the next, so that a crash leaves no gap. */
  async #cutLog(cut: Cut): Promise<void> {
    for (let index = this.#survey.found.length - 1; index > cut.index; index--) await this.#moveAside(index);
    if (cut.offset === 0) {
      await this.#moveAside(cut.index);
    } else {
      await this.#saveFrom(this.#foundAt(cut.index), cut.offset);
      await this.#cutSegment(cut);
    }
    this.#options.logger.warn("the end of the log was cut", {
      last_seq: this.#survey.cursor.seq,
      cut_bytes: this.#tornBytes,
      saved_as: this.#tornFile,
    });
  }

  async #cutSegment(cut: Cut): Promise<void> {
    const segment = must(this.#survey.segments[cut.index], "a segment that is cut inside was read");
    await segment.openForWriting(false);
    await segment.cut(cut.offset, segment.lastSeq);
    await segment.close();
  }

  /** Takes a whole segment out of the log; its file is kept under another name unless it is empty. */
  async #moveAside(index: number): Promise<void> {
    const { fileSystem, directory } = this.#options;
    const found = this.#foundAt(index);
    this.#survey.segments.splice(index);
    if (this.#survey.names.includes(indexName(found.firstSeq))) {
      await fileSystem.remove(`${directory}/${indexName(found.firstSeq)}`);
    }
    if (found.size === 0) {
      await fileSystem.remove(found.path);
    } else {
      const aside = await this.#freeName(found.firstSeq, 0);
      await fileSystem.rename(found.path, aside);
      this.#note(found.size, aside);
    }
    await fileSystem.syncDirectory(directory);
  }

  /** Copies a segment's bytes from `offset` on into a synced file. */
  async #saveFrom(found: FoundSegment, offset: number): Promise<void> {
    const { fileSystem } = this.#options;
    const path = await this.#freeName(found.firstSeq, offset);
    await reading(fileSystem, found.path, async (file) => {
      const window = new ByteWindow(file, found.size, COPY_CHUNK_BYTES);
      await createSynced(fileSystem, path, async (saved) => {
        for (let at = offset; at < found.size;) {
          await window.fill(at, 1);
          const length = window.available(at);
          await saved.write(window.view(at, length), at - offset);
          at += length;
        }
      });
    });
    this.#note(found.size - offset, path);
  }

  /** A name for what is cut that no earlier cut has taken. */
  async #freeName(firstSeq: Seq, offset: number): Promise<string> {
    const { fileSystem, directory } = this.#options;
    const taken = new Set(await fileSystem.list(directory));
    const first = tornName(firstSeq, offset);
    let name = first;
    for (let number = 2; taken.has(name); number++) name = `${first}.${number}`;
    return `${directory}/${name}`;
  }

  #note(bytes: number, savedAs: string): void {
    this.#tornBytes += bytes;
    this.#tornFile = savedAs;
  }

  #foundAt(index: number): FoundSegment {
    return must(this.#survey.found[index], "the segment was found");
  }
}

/**
 * Brings the end of the last segment to the disk, and opens it. A sync that failed in the run before may have left pages
 * that read well and are nowhere but in memory, and that no later sync writes. So records which are not proven to be synced are
 * copied into a new, synced segment; frames without records after those that are proven are written again in place, the same
 * bytes: what is written after them later would else stand behind a gap.
 */
async function secureEnd(options: RecoveryOptions, survey: Survey, segments: Segments): Promise<void> {
  const { cursor } = survey;
  const scan = must(survey.lastScan, "the last segment was read");
  await segments.openLast();
  const first = scan.unproven.seqs.findIndex((firstSeq) => firstSeq > cursor.syncedSeq);
  if (first < 0) {
    await segments.active.rewrite(scan.recordsEnd);
    return;
  }
  const from = {
    firstSeq: must(scan.unproven.seqs[first], "the frame was found"),
    offset: must(scan.unproven.offsets[first], "the frame was found"),
  };
  await segments.active.rewrite(must(scan.unproven.recordEnds[first], "the frame was found"), from.offset);
  options.logger.info("records that may not have reached the disk are copied into a new segment", {
    segment: segmentName(seq(from.firstSeq)),
    last_seq: cursor.seq,
  });
  const last = segments.active;
  try {
    await segments.moveEnd(from, cursor.seq, cursor.appliedSeq);
  } catch (error) {
    // Once the new segment has its name, it counts, and there is no way back.
    if (!isDiskFull(error) || segments.active !== last) throw error;
    // A node whose disk is full must come up to serve reads. Written again in place, the pages are at least synced anew.
    await segments.active.rewrite(from.offset);
  }
}
