/** The one error of the log room. */
import { FileSystemError } from "./file-system.js";

/**
 * - `corrupt`: bytes that were written whole are not what was written; nothing has been changed.
 * - `newer_format`: written by a newer Cambium; nothing has been changed.
 * - `foreign_cluster`: the log belongs to another cluster.
 * - `out_of_range`: the place lies below what is kept, or past the end.
 * - `mismatch`: records that were handed in do not continue this log, or are damaged.
 * - `disk_full`: there was no room; what was refused is not in the log, and later writes may succeed.
 * - `failed`: a write or a sync failed; final, nothing is taken or kept any more.
 * - `closed`: the log has been closed.
 * - `locked`: another process holds the directory.
 * - `io`: the file system refused something else; the cause says what.
 */
export type WalErrorCode =
  | "corrupt"
  | "newer_format"
  | "foreign_cluster"
  | "out_of_range"
  | "mismatch"
  | "disk_full"
  | "failed"
  | "closed"
  | "locked"
  | "io";

/** Where in the files, and what stood there. */
export interface WalErrorPlace {
  /** Path inside the data directory. */
  readonly file?: string;
  /** Byte in that file. */
  readonly offset?: number;
  readonly expected?: string;
  readonly found?: string;
}

export interface WalErrorOptions extends WalErrorPlace {
  readonly cause?: unknown;
}

/** An operating error of the log. */
export class WalError extends Error {
  override readonly name = "WalError";
  readonly code: WalErrorCode;
  readonly file: string | undefined;
  readonly offset: number | undefined;
  readonly expected: string | undefined;
  readonly found: string | undefined;

  constructor(code: WalErrorCode, message: string, options: WalErrorOptions = {}) {
    super(describe(message, options), options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.file = options.file;
    this.offset = options.offset;
    this.expected = options.expected;
    this.found = options.found;
  }
}

function describe(message: string, place: WalErrorPlace): string {
  let text = message;
  if (place.file !== undefined)
    text += ` (${place.file}${place.offset === undefined ? "" : ` at byte ${place.offset}`})`;
  if (place.expected !== undefined) text += `; expected ${place.expected}`;
  if (place.found !== undefined) text += `, found ${place.found}`;
  return text;
}

/** What the file system said, in the log's words. */
export function walErrorOf(error: FileSystemError, doing: string): WalError {
  const code = error.code === "ELOCKED" ? "locked" : isDiskFull(error) ? "disk_full" : "io";
  return new WalError(code, `${doing} failed: ${error.message}`, { cause: error });
}

/** An error of the file system as `walErrorOf` says it; any other error as it is. */
export function translated(error: unknown, doing: string): unknown {
  return error instanceof FileSystemError ? walErrorOf(error, doing) : error;
}

/** Whether bytes of the log are not what was written there. */
export function isCorrupt(error: unknown): error is WalError {
  return error instanceof WalError && error.code === "corrupt";
}

/** Whether the file system has no room, rather than something broken. */
export function isDiskFull(error: unknown): error is FileSystemError {
  return error instanceof FileSystemError && (error.code === "ENOSPC" || error.code === "EDQUOT");
}
