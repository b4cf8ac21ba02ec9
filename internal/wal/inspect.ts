/**
 * Looks at a log without changing a byte, and without the lock: that of a stopped node, or of one that writes to it right
 * now. What counts is judged by the same code that a start judges with (`survey.ts`), and each record is summed besides. What
 * lies behind a damaged place is looked at too, as far as it stands in segments of its own.
 *
 * A log that is written to is never seen as a whole: its end may be half-written, and segments may go while they are read.
 * So with a living holder a torn end is "in flight", and damage counts only when it is found twice at one place.
 */
import { must } from "../base/assert.js";
import { type ClusterId, clusterId } from "../base/ids.js";
import { silentLogger } from "../base/logger.js";
import { seq as toSeq, type Seq } from "../base/position.js";
import { ByteWindow } from "./byte-window.js";
import { FileSystemError, type FileSystem } from "./file-system.js";
import { reading } from "./files.js";
import { FRAME_HEADER_BYTES } from "./frame.js";
import { indexFinding } from "./inspect-index.js";
import { damageProblem, type LogEnd, recordAt, recordEnd, type LogRecord } from "./record.js";
import { LogCursor, type ScannedFrame, scanSegment } from "./scan.js";
import { decodeSegmentHeader, firstSeqOfName, SEGMENT_HEADER_BYTES, segmentName } from "./segment-header.js";
import { ReadOnlyFileSystem } from "./read-only-file-system.js";
import { findSegment, type FoundSegment, surveyLog, type Survey } from "./survey.js";
import { whyNotTorn } from "./torn-frame.js";
import { translated, WalError } from "./wal-error.js";
import { crc32 } from "../base/crc32.js";

const CHUNK_BYTES = 2 * 1024 * 1024;
const ATTEMPTS_MAX = 5;
const NO_CLUSTER = clusterId("0".repeat(32));

/**
 * - `corrupt`: not what was written; a start refuses it.
 * - `newer_format`, `foreign_cluster`: a start refuses it as well.
 * - `torn`: what a crash leaves; the next start puts it right by itself.
 * - `given_up`: any of these, in data that the next start puts out of use without reading it.
 * - `in_flight`: `torn` while a living process holds the directory, so that it is no more than a write under way.
 */
export type FindingKind = "corrupt" | "newer_format" | "foreign_cluster" | "torn" | "given_up" | "in_flight";

/** A place that is not as a log at rest has it. */
export interface Finding {
  readonly kind: FindingKind;
  /** Path inside the data directory. */
  readonly file: string;
  readonly offset?: number;
  readonly expected?: string;
  readonly found?: string;
  /** One sentence for people, without the fields above. */
  readonly reason: string;
}

export interface SegmentInspection {
  readonly file: string;
  readonly firstSeq: Seq;
  /** Of its last sound record; `firstSeq - 1` without any. */
  readonly lastSeq: Seq;
  /** Of the file, zeros ahead of the data included. */
  readonly bytes: number;
  /** Up to the end of its last sound frame; 0 when its header is unreadable. */
  readonly dataBytes: number;
  readonly records: number;
  readonly frames: number;
  /** Its last frame is the mark of an orderly close. */
  readonly clean: boolean;
  /** As its last frame says; 0 without any. */
  readonly syncedSeq: Seq;
  readonly appliedSeq: Seq;
}

export interface LogInspection {
  /** As the first segment says; absent without a readable one. */
  readonly clusterId?: ClusterId;
  /** Before the first record; absent without a readable segment. */
  readonly before?: LogEnd;
  /** After the last record that counts. */
  readonly end?: LogEnd;
  readonly segments: readonly SegmentInspection[];
  /** Ends that earlier starts have cut and saved. */
  readonly setAside: readonly { readonly file: string; readonly bytes: number }[];
  readonly findings: readonly Finding[];
}

export interface LogInspectionOptions {
  readonly fileSystem: FileSystem;
  /** Of the log, inside the file system. */
  readonly directory: string;
  /** The log must belong to it; without it the first segment says whose the log is. */
  readonly clusterId?: ClusterId;
  /** A log was made here before: none is corrupt. */
  readonly mustExist?: boolean;
  /** Whether a living process holds the directory. Asked only when something is found. */
  readonly isHeld: () => Promise<boolean>;
  /** Waits before a log that is written to is read again. */
  readonly pause: () => Promise<void>;
  /** Called at the beginning of each reading; what it gives is shown every sound record, in order. */
  readonly visitor?: () => (record: LogRecord) => void;
}

/** Reads a log from end to end. Rejects with `WalError` "io" when it cannot be read; what is wrong with it is a finding. */
export async function inspectLog(options: LogInspectionOptions): Promise<LogInspection> {
  const fileSystem = new ReadOnlyFileSystem(options.fileSystem);
  let before: readonly Finding[] = [];
  for (let attempt = 1; ; attempt++) {
    let inspection: LogInspection;
    try {
      inspection = await new Inspection({ ...options, fileSystem }).run();
    } catch (error) {
      // A segment may be removed between its name's listing and its reading.
      const isGone = error instanceof FileSystemError && error.code === "ENOENT";
      if (!isGone || attempt === ATTEMPTS_MAX) throw translated(error, `reading the log in ${options.directory}`);
      continue;
    }
    const { findings } = inspection;
    if (findings.length === 0 || !(await options.isHeld())) return inspection;
    const confirmed = findings.every((finding) => finding.kind === "torn" || before.some(samePlace(finding)));
    if (!confirmed && attempt < ATTEMPTS_MAX) {
      before = findings;
      await options.pause();
      continue;
    }
    const isDamage = (finding: Finding): boolean => finding.kind !== "torn" && before.some(samePlace(finding));
    const kindOf = (finding: Finding): FindingKind => (isDamage(finding) ? finding.kind : "in_flight");
    return { ...inspection, findings: findings.map((finding) => withKind(finding, kindOf(finding))) };
  }
}

function withKind(finding: Finding, kind: FindingKind): Finding {
  return { ...finding, kind };
}

function samePlace(a: Finding): (b: Finding) => boolean {
  return (b) => a.kind === b.kind && a.file === b.file && a.offset === b.offset && a.found === b.found;
}

/** One reading of a log. */
class Inspection {
  readonly #options: LogInspectionOptions;
  readonly #visit: ((record: LogRecord) => void) | undefined;
  readonly #findings: Finding[] = [];
  readonly #segments = new Map<string, { -readonly [K in keyof SegmentInspection]: SegmentInspection[K] }>();

  constructor(options: LogInspectionOptions) {
    this.#options = options;
    this.#visit = options.visitor?.();
  }

  async run(): Promise<LogInspection> {
    const { fileSystem, directory } = this.#options;
    const names = await fileSystem.list(directory);
    const setAside = [];
    for (const name of names) {
      const file = `${directory}/${name}`;
      if (/\.torn(\.\d+)?$/.test(name)) setAside.push({ file, bytes: await this.#sizeOf(file) });
    }
    const clusterId = this.#options.clusterId ?? (await this.#clusterIdOf(names));
    // Without a readable header no id is ever compared.
    const found = await this.#findAll(clusterId ?? NO_CLUSTER, names);
    const survey = found && (await this.#survey(clusterId ?? NO_CLUSTER, found));
    const first = found?.[0]?.header;
    return {
      ...(clusterId !== undefined && { clusterId }),
      ...(first?.kind === "header" && { before: first.header.before }),
      ...(survey && survey.segments.length > 0 && { end: survey.cursor.end }),
      segments: [...this.#segments.values()],
      setAside,
      findings: this.#findings,
    };
  }

  /** The segments with their headers; undefined when one of them must not be looked at, which is a finding. */
  async #findAll(clusterId: ClusterId, names: readonly string[]): Promise<FoundSegment[] | undefined> {
    const { fileSystem, directory } = this.#options;
    const found: FoundSegment[] = [];
    for (const name of names) {
      const firstSeq = firstSeqOfName(name);
      if (firstSeq === undefined) continue;
      try {
        found.push(await findSegment({ fileSystem, directory, clusterId }, firstSeq));
      } catch (error) {
        this.#noteError(error);
        return undefined;
      }
    }
    for (const { path, firstSeq, size, header } of found) this.#begin(path, firstSeq, size, header.kind === "header");
    return found;
  }

  async #survey(clusterId: ClusterId, found: readonly FoundSegment[]): Promise<Survey | undefined> {
    const { fileSystem, directory, mustExist } = this.#options;
    let survey: Survey | undefined;
    try {
      survey = await surveyLog({
        fileSystem,
        directory,
        clusterId,
        mustExist,
        logger: silentLogger,
        recover: "truncate-tail",
        onFrame: (path, frame) => this.#frame(path, frame),
      });
    } catch (error) {
      this.#noteError(error);
    }
    if (survey?.damage) this.#noteError(survey.damage);
    else if (survey?.cut) this.#noteCut(survey.cut, survey, "the end of the log is torn");
    if (survey?.voidEnd) this.#noteCut(survey.voidEnd, survey, "the next segment has taken over what comes here");
    for (const [index, segment] of (survey?.segments ?? []).entries()) {
      // Of a segment that is damaged itself its index may know more.
      const mayDiffer = index === found.length - 1 || (survey?.damage !== undefined && index === survey.cut?.index);
      const damagedIndex = await indexFinding(fileSystem, directory, segment, mayDiffer);
      if (damagedIndex) this.#findings.push(damagedIndex);
    }
    // The log is read up to its first damage; what lies in later segments can be judged by their own headers.
    const read = survey?.damage && survey.cut ? survey.cut.index + 1 : survey ? found.length : 1;
    for (const segment of found.slice(read)) await this.#readAlone(segment, segment === found.at(-1));
    return survey;
  }

  /** Checks a segment as if the log began with it. */
  async #readAlone(found: FoundSegment, isLast: boolean): Promise<void> {
    const { header } = found;
    if (header.kind !== "header") {
      const what =
        header.kind === "damaged" ? header : { expected: "a header", found: `${found.size} bytes without one` };
      this.#findings.push({
        kind: "corrupt",
        file: found.path,
        offset: 0,
        reason: "its header is damaged",
        ...pick(what),
      });
      return;
    }
    await reading(this.#options.fileSystem, found.path, async (file) => {
      const cursor = new LogCursor(header.header.before);
      const { end } = await scanSegment({
        window: new ByteWindow(file, found.size, CHUNK_BYTES),
        header: header.header,
        cursor,
        onFrame: (frame) => this.#frame(found.path, frame),
      });
      if (end.kind === "end" || end.kind === "taken-over") return;
      const isTorn =
        isLast &&
        end.kind === "bad" &&
        (await whyNotTorn({
          file,
          fileEnd: found.size,
          saltCrc: crc32(header.header.salt),
          offset: end.offset,
          frameEnd: end.frameEnd,
          firstSeq: cursor.seq + 1,
        })) === undefined;
      this.#findings.push({
        kind: isTorn ? "torn" : "corrupt",
        file: found.path,
        offset: end.offset,
        ...pick(end),
        reason: `the frame after record ${cursor.seq} is not what was written`,
      });
    });
  }

  #begin(file: string, firstSeq: Seq, bytes: number, hasHeader: boolean): void {
    this.#segments.set(file, {
      file,
      firstSeq,
      lastSeq: toSeq(firstSeq - 1),
      bytes,
      dataBytes: hasHeader ? SEGMENT_HEADER_BYTES : 0,
      records: 0,
      frames: 0,
      clean: false,
      syncedSeq: toSeq(0),
      appliedSeq: toSeq(0),
    });
  }

  #frame(path: string, { offset, header, firstSeq, body }: ScannedFrame): void {
    // A segment that was made after the names were listed.
    if (!this.#segments.has(path)) this.#begin(path, firstSeq, 0, true);
    const segment = must(this.#segments.get(path), "the segment is listed");
    segment.frames++;
    segment.records += header.recordCount;
    segment.lastSeq = toSeq(firstSeq + header.recordCount - 1);
    segment.dataBytes = offset + FRAME_HEADER_BYTES + header.bodyLength;
    segment.bytes = Math.max(segment.bytes, segment.dataBytes);
    segment.clean = header.flags !== 0;
    segment.syncedSeq = toSeq(header.syncedSeq);
    segment.appliedSeq = toSeq(header.appliedSeq);
    for (let at = 0; at < body.length; at = recordEnd(body, at)) {
      const problem = damageProblem(body, at, body.length);
      if (problem) {
        this.#findings.push({
          kind: "corrupt",
          file: path,
          offset: offset + FRAME_HEADER_BYTES + at,
          ...problem,
          reason: "a record is damaged inside a frame whose checksum is right",
        });
      }
      this.#visit?.(recordAt(body, at));
    }
  }

  #noteCut(cut: { readonly index: number; readonly offset: number }, survey: Survey, reason: string): void {
    const { path, size } = must(survey.found[cut.index], "the segment was found");
    this.#findings.push({
      kind: "torn",
      file: path,
      offset: cut.offset,
      expected: "a whole frame, or the end",
      found: `${size - cut.offset} other bytes`,
      reason,
    });
  }

  /** Notes what a start would refuse with; rethrows what says nothing about the log's bytes. */
  #noteError(error: unknown): void {
    if (!(error instanceof WalError)) throw error;
    const { code, file, offset, expected, found } = error;
    if (code !== "corrupt" && code !== "newer_format" && code !== "foreign_cluster") throw error;
    this.#findings.push({
      kind: code,
      file: file ?? this.#options.directory,
      ...(offset !== undefined && { offset }),
      ...(expected !== undefined && { expected }),
      ...(found !== undefined && { found }),
      reason: REASONS[code],
    });
  }

  /** Whose the log is, by the first header that can be read. */
  async #clusterIdOf(names: readonly string[]): Promise<ClusterId | undefined> {
    const { fileSystem, directory } = this.#options;
    for (const name of names) {
      const firstSeq = firstSeqOfName(name);
      if (firstSeq === undefined) continue;
      const decoded = await reading(fileSystem, `${directory}/${segmentName(firstSeq)}`, async (file) => {
        const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
        return (await file.read(bytes, 0)) === bytes.length ? decodeSegmentHeader(bytes) : undefined;
      });
      if (decoded?.kind === "header") return decoded.header.clusterId;
    }
    return undefined;
  }

  #sizeOf(path: string): Promise<number> {
    return reading(this.#options.fileSystem, path, (file) => file.size());
  }
}

const REASONS = {
  corrupt: "the log is damaged",
  newer_format: "it was written by a newer Cambium",
  foreign_cluster: "it belongs to another cluster",
} as const;

function pick({
  expected,
  found,
}: {
  readonly expected: string;
  readonly found: string;
}): Pick<Finding, "expected" | "found"> {
  return { expected, found };
}
