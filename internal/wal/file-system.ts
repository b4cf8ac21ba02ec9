/**
 * The files that a data directory is made of, as a port: without format, without policy. Production uses
 * `NodeFileSystem`, tests `MemoryFileSystem` with its error knobs, the simulator its own faults.
 *
 * A path is relative to the data directory, with `/` between its parts; "" is the directory itself. Every promise rejects with a `FileSystemError`.
 */

/** Why a call failed. `code` is the system's: ENOSPC, EIO, ENOENT, EACCES, EROFS, EEXIST, … */
export class FileSystemError extends Error {
  override readonly name = "FileSystemError";
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export interface File {
  /** Reads up to `into.length` bytes from `position`; resolves to the bytes read, less than asked only at the end. */
  read(into: Uint8Array, position: number): Promise<number>;
  /**
   * Writes at `position` and resolves to the bytes written, which may be fewer than given (a short write). Nothing is
   * durable before `datasync` resolves. The caller leaves `bytes` alone until then.
   */
  write(bytes: Uint8Array, position: number): Promise<number>;
  /** Everything written before the call is on the disk when it resolves (fdatasync). After a failure, believe nothing. */
  datasync(): Promise<void>;
  /**
   * `write` and `datasync` while the caller's thread stands still: done when they return, and they throw what those reject with. Only
   * for what is known to be brief. Absent where there is no such way.
   */
  readonly atOnce?: {
    write(bytes: Uint8Array, position: number): number;
    datasync(): void;
  };
  /** Cuts or zero-extends the file. */
  truncate(size: number): Promise<void>;
  size(): Promise<number>;
  close(): Promise<void>;
}

/** A taken lock of a data directory. */
export interface DirectoryLock {
  /**
   * Resolves when another process has taken the directory over, which can happen only to one that stood still for seconds:
   * this one must not write any more. Otherwise it stays pending.
   */
  readonly lost: Promise<FileSystemError>;
  release(): Promise<void>;
}

export interface FileSystem {
  /**
   * Opens a file: `read` and `write` (reads too) want it to exist, `create` wants it not to. The name of a created file
   * is durable only after `syncDirectory` of its directory.
   */
  open(path: string, mode: "read" | "write" | "create"): Promise<File>;
  /** Names in a directory, sorted; none when the directory does not exist. */
  list(directory: string): Promise<string[]>;
  /** Makes a directory (0700) and those above it; no error when it exists. */
  makeDirectory(path: string): Promise<void>;
  /**
   * Puts a file in the place of another, atomically; durable after `syncDirectory`. Into another directory: durable there after
   * `syncDirectory` of that one, gone here after that of this one; sync them in this order, and it is always in one of them.
   */
  rename(from: string, to: string): Promise<void>;
  /** Removes a file; durable after `syncDirectory`. */
  remove(path: string): Promise<void>;
  /** Makes created, renamed and removed names of a directory durable. */
  syncDirectory(path: string): Promise<void>;
  /**
   * Takes the data directory for this process. Rejects with code `ELOCKED` when another process holds it; the lock of a
   * process that is gone is taken over.
   */
  lock(): Promise<DirectoryLock>;
  /** Bytes that this process could still write to the disk of the data directory; undefined when nobody tells. */
  freeBytes?(): number | undefined;
}
