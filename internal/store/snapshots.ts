/**
 * The snapshots of a node: a directory of whole, checked files, named by the seqs between which they were walked. A file
 * gets its name only once it is complete and synced, so a crash at any moment leaves those before it as they were.
 */
import { assert } from "../base/assert.js";
import type { Logger } from "../base/logger.js";
import { type LogMark, type Seq, seq as toSeq } from "../base/position.js";
import { type FileSystem, FileSystemError } from "../wal/file-system.js";
import { WalError } from "../wal/wal-error.js";
import { FormatError, NewerFormatError } from "./byte-codec.js";
import {
  readSnapshot,
  type SnapshotContent,
  type SnapshotSummary,
  type SnapshotVisitor,
  writeSnapshot,
} from "./snapshot-file.js";

/** Snapshots that are there, and none of them can be used: the state cannot be told from the log alone. */
export class SnapshotError extends Error {
  override readonly name = "SnapshotError";
}

/** No damage: a newer version reads it. */
export function newerSnapshot(file: string, cause: NewerFormatError): WalError {
  return new WalError("newer_format", `a snapshot was written by a newer Cambium: ${cause.message}`, { file, cause });
}

/** A snapshot on the disk, by its name. */
export interface SnapshotFile {
  readonly path: string;
  readonly from: Seq;
  readonly to: Seq;
  /** The record log must stay as it is up to here; 0 as long as this process has not read or written the snapshot. */
  readonly recordsEnd: number;
}

export interface SnapshotsOptions {
  readonly fileSystem: FileSystem;
  readonly logger: Logger;
  /** How many are kept, at least 1. */
  readonly keep: number;
  readonly isPinned?: (path: string) => boolean;
}

export const SNAPSHOT_DIRECTORY = "snapshots";
const DIRECTORY = SNAPSHOT_DIRECTORY;
const UNFINISHED = `${DIRECTORY}/unfinished`;
const NAME = /^(\d{20})-(\d{20})\.snapshot$/;

/** Whether a file in the directory of the snapshots is one, rather than unfinished. */
export const isSnapshotName = (name: string): boolean => NAME.test(name);

export class Snapshots {
  readonly #fileSystem: FileSystem;
  readonly #logger: Logger;
  /** How many are kept; the newest always is. */
  readonly #keep: number;
  /** Whether somebody is reading a file that would have to go otherwise; it goes when a later one has come. */
  readonly #isPinned: (path: string) => boolean;
  /** Oldest first. */
  #files: SnapshotFile[] = [];
  #newestBytes = 0;
  /** A snapshot that failed when it got its name: it never counts, and may be on the disk. */
  #discarded: string | undefined;

  private constructor(options: SnapshotsOptions) {
    assert(options.keep >= 1, "one snapshot at least is kept");
    this.#fileSystem = options.fileSystem;
    this.#logger = options.logger;
    this.#keep = options.keep;
    this.#isPinned = options.isPinned ?? (() => false);
  }

  /** Finds the snapshots of a data directory, and removes what a crash left unfinished. */
  static async open(options: SnapshotsOptions): Promise<Snapshots> {
    const snapshots = new Snapshots(options);
    const { fileSystem } = options;
    for (const name of await fileSystem.list(DIRECTORY)) {
      const match = NAME.exec(name);
      if (match) {
        const [, from, to] = match;
        snapshots.#files.push({
          path: `${DIRECTORY}/${name}`,
          from: toSeq(Number(from)),
          to: toSeq(Number(to)),
          recordsEnd: 0,
        });
      }
    }
    await snapshots.#removeUnfinished();
    // What is there and what is not is relied on from now on, be it a name or a removal that the run before could not sync: a
    // snapshot that came back with the power would rely on a record log that was cut without it.
    await fileSystem.makeDirectory(DIRECTORY);
    await fileSystem.syncDirectory("");
    await fileSystem.syncDirectory(DIRECTORY);
    return snapshots;
  }

  /** Oldest first. */
  get files(): readonly SnapshotFile[] {
    return this.#files;
  }

  /** The log is needed from the seq after this on, by the oldest snapshot that is kept; undefined without any. */
  get oldestFrom(): Seq | undefined {
    return this.#files[0]?.from;
  }

  /** The record log is needed as it is up to here, by every snapshot that is kept; below it, what is truncated may go. */
  get recordsEnd(): number {
    return this.#files.length === 0 ? 0 : Math.min(...this.#files.map((file) => file.recordsEnd));
  }

  get newest(): SnapshotFile | undefined {
    return this.#files.at(-1);
  }

  /** Bytes of the newest, as far as it was read or written by this process. */
  get newestBytes(): number {
    return this.#newestBytes;
  }

  /**
   * Loads the newest snapshot that is whole and fits the log; undefined when there is none on the disk. `markAt` gives the
   * log's mark where a snapshot begins, or says in words why the log does not fit it. `reset` is called before each try,
   * and throws away what the one before has shown. Rejects with `SnapshotError` when there are some and none will do, and with
   * `WalError` "newer_format".
   */
  async load(options: {
    markAt: (snapshot: SnapshotFile) => Promise<LogMark | string>;
    reset: () => void;
    visitor: SnapshotVisitor;
  }): Promise<SnapshotSummary | undefined> {
    const problems: string[] = [];
    for (const file of this.#files.toReversed()) {
      options.reset();
      const mark = await options.markAt(file);
      if (typeof mark === "string") {
        problems.push(`${file.path}: ${mark}`);
        continue;
      }
      try {
        let recordsEnd = 0;
        const summary = await readSnapshot(this.#fileSystem, file.path, {
          ...options.visitor,
          records: (mark) => {
            recordsEnd = mark.end;
            options.visitor.records(mark);
          },
        });
        const { from } = summary.header;
        if (from.chain !== mark.chain) {
          throw new FormatError(`it begins at chain value ${from.chain}, the log has ${mark.chain} at seq ${from.seq}`);
        }
        for (const problem of problems) this.#logger.warn("a snapshot cannot be used; an older one is", { problem });
        this.#newestBytes = summary.bytes;
        this.#files = this.#files.map((other) => (other === file ? { ...file, recordsEnd } : other));
        return summary;
      } catch (error) {
        // No damage, and nothing to fall back from: what the newer version has written since stands in the log.
        if (error instanceof NewerFormatError) throw newerSnapshot(file.path, error);
        if (!(error instanceof FormatError)) throw error;
        problems.push(`${file.path}: ${error.message}`);
      }
    }
    if (problems.length === 0) return undefined;
    options.reset();
    throw new SnapshotError(`no snapshot of this node can be used; ${problems.join("; ")}`);
  }

  /**
   * Writes a snapshot and gives it its name; durable when it resolves. `beforeNaming` must make the log durable up to
   * the snapshot's end. Older ones beyond those to keep are removed afterwards.
   */
  async create(
    content: SnapshotContent,
    options: { beforeNaming: () => Promise<void>; signal: AbortSignal },
  ): Promise<SnapshotSummary> {
    await this.#removeUnfinished();
    await this.#removeDiscarded();
    try {
      const summary = await writeSnapshot(this.#fileSystem, UNFINISHED, content, options.signal);
      await options.beforeNaming();
      options.signal.throwIfAborted();
      const from = summary.header.from.seq;
      const { to } = summary.end;
      const path = `${DIRECTORY}/${digits(from)}-${digits(to)}.snapshot`;
      // In the place of one with the same content it does no harm.
      if (!this.#files.some((file) => file.path === path)) this.#discarded = path;
      await this.#fileSystem.rename(UNFINISHED, path);
      await this.#fileSystem.syncDirectory(DIRECTORY);
      this.#discarded = undefined;
      this.#files = [
        ...this.#files.filter((file) => file.path !== path),
        { path, from, to, recordsEnd: content.records.end },
      ];
      this.#newestBytes = summary.bytes;
      await this.#removeAll(this.#files.slice(0, -this.#keep).filter((file) => !this.#isPinned(file.path)));
      return summary;
    } catch (error) {
      // What is left unfinished may be what filled the disk.
      await this.#removeUnfinished();
      throw error;
    }
  }

  /** Removes the snapshots that hold anything after `seq`, which is no longer history. */
  async removeAfter(seq: Seq): Promise<void> {
    await this.#removeDiscarded();
    await this.#removeAll(this.#files.filter((file) => file.to > seq));
  }

  async #removeAll(files: readonly SnapshotFile[]): Promise<void> {
    if (files.length === 0) return;
    // An earlier try may have removed some, and failed on the way.
    for (const file of files) await this.#removeIfThere(file.path);
    await this.#fileSystem.syncDirectory(DIRECTORY);
    this.#files = this.#files.filter((file) => !files.includes(file));
  }

  async #removeDiscarded(): Promise<void> {
    if (this.#discarded === undefined) return;
    await this.#removeIfThere(this.#discarded);
    await this.#fileSystem.syncDirectory(DIRECTORY);
    this.#discarded = undefined;
  }

  #removeUnfinished(): Promise<void> {
    return this.#removeIfThere(UNFINISHED);
  }

  async #removeIfThere(path: string): Promise<void> {
    try {
      await this.#fileSystem.remove(path);
    } catch (error) {
      if (!(error instanceof FileSystemError && error.code === "ENOENT")) throw error;
    }
  }
}

const digits = (seq: Seq): string => String(seq).padStart(20, "0");
