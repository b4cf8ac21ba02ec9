/** Reads the records of a log in their order without opening it: that of a stopped node, or of a running one. */
import { ByteWindow } from "./byte-window.js";
import { FileSystemError, type FileSystem } from "./file-system.js";
import { reading } from "./files.js";
import { ReadOnlyFileSystem } from "./read-only-file-system.js";
import { recordAt, recordEnd, type LogRecord } from "./record.js";
import { LogCursor, type ScanEnd, scanSegment } from "./scan.js";
import { decodeSegmentHeader, firstSeqOfName, SEGMENT_HEADER_BYTES, segmentName } from "./segment-header.js";
import { translated } from "./wal-error.js";

const CHUNK_BYTES = 2 * 1024 * 1024;
const ATTEMPTS_MAX = 5;

/** Where reading ended before the log did, and why. */
export interface ReadStop {
  readonly file: string;
  readonly offset: number;
  readonly expected: string;
  readonly found: string;
  /** In the last segment, where a running node may be writing, and where a crash may have torn the end. */
  readonly isLast: boolean;
}

export interface ReadLogOptions {
  readonly fileSystem: FileSystem;
  readonly directory: string;
  /** The first record is the one after it, or the first that the log still has. */
  readonly afterSeq: number;
  /** Shown the sound records of a frame, valid until it resolves. False ends the reading. */
  readonly visit: (records: readonly LogRecord[]) => Promise<boolean>;
}

/**
 * Shows records up to the log's end, or up to the first place that is no sound frame, which it returns. Rejects with
 * `WalError` "io", and with what `visit` rejects with.
 */
export async function readLog(options: ReadLogOptions): Promise<ReadStop | undefined> {
  const reader = new LogReader({ ...options, fileSystem: new ReadOnlyFileSystem(options.fileSystem) });
  for (let attempt = 1; ; attempt++) {
    try {
      return await reader.read();
    } catch (error) {
      if (error instanceof Enough) return undefined;
      // A running node may have removed the segment since its name was listed; the reading goes on with the next.
      const isGone = error instanceof FileSystemError && error.code === "ENOENT";
      if (!isGone || attempt === ATTEMPTS_MAX) throw translated(error, `reading the log in ${options.directory}`);
    }
  }
}

/** Thrown through a scan to end it. */
class Enough extends Error {}

class LogReader {
  readonly #options: ReadLogOptions;
  /** Shown up to here. */
  #seq: number;

  constructor(options: ReadLogOptions) {
    this.#options = options;
    this.#seq = options.afterSeq;
  }

  async read(): Promise<ReadStop | undefined> {
    const { fileSystem, directory } = this.#options;
    const firstSeqs = (await fileSystem.list(directory)).map(firstSeqOfName).filter((seq) => seq !== undefined);
    const containing = firstSeqs.findLastIndex((firstSeq) => firstSeq <= this.#seq + 1);
    const segments = firstSeqs.slice(Math.max(containing, 0));
    for (const [index, firstSeq] of segments.entries()) {
      const path = `${directory}/${segmentName(firstSeq)}`;
      const isLast = index === segments.length - 1;
      const end = await reading(fileSystem, path, async (file) => {
        const bytes = Buffer.alloc(SEGMENT_HEADER_BYTES);
        const size = await file.size();
        const length = await file.read(bytes, 0);
        const decoded = length === bytes.length ? decodeSegmentHeader(bytes) : undefined;
        if (decoded?.kind !== "header") return headerProblem(decoded, length);
        const { end } = await scanSegment({
          window: new ByteWindow(file, size, CHUNK_BYTES),
          header: decoded.header,
          cursor: new LogCursor(decoded.header.before),
          ...(isLast ? {} : { takenOverAfter: segments[index + 1]! - 1 }),
          onFrame: ({ body }) => this.#show(body),
        });
        return end;
      });
      if (end.kind === "bad" || end.kind === "impossible") {
        const { offset, expected, found } = end;
        return { file: path, offset, expected, found, isLast };
      }
    }
    return undefined;
  }

  async #show(body: Buffer): Promise<void> {
    const records: LogRecord[] = [];
    for (let at = 0; at < body.length; at = recordEnd(body, at)) {
      const record = recordAt(body, at);
      if (record.seq > this.#seq) records.push(record);
    }
    const last = records.at(-1);
    if (!last) return;
    this.#seq = last.seq;
    if (!(await this.#options.visit(records))) throw new Enough();
  }
}

function headerProblem(decoded: ReturnType<typeof decodeSegmentHeader> | undefined, length: number): ScanEnd {
  const place = { kind: "impossible", offset: 0 } as const;
  if (decoded?.kind === "damaged") return { ...place, expected: decoded.expected, found: decoded.found };
  if (decoded?.kind === "newer") {
    return { ...place, expected: "a format that this version knows", found: `version ${decoded.version}` };
  }
  return { ...place, expected: `a header of ${SEGMENT_HEADER_BYTES} bytes`, found: `${length}` };
}
