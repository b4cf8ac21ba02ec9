export type RecordLogErrorCode =
  /** The offset is not in the record log; `range` tells what is. */
  | "out_of_range"
  /** The disk has no room for what has been appended; it is kept in memory and written once there is room. */
  | "disk_full"
  /** The record log is closed. */
  | "closed";

/** What the record log could not do, for reasons that are no bug. What fails on the disk stays a `WalError`. */
export class RecordLogError extends Error {
  override readonly name = "RecordLogError";
  readonly code: RecordLogErrorCode;
  /** With `out_of_range`. */
  readonly range?: OffsetRange;

  constructor(code: RecordLogErrorCode, message: string, options: ErrorOptions & { range?: OffsetRange } = {}) {
    super(message, options);
    this.code = code;
    if (options.range) this.range = options.range;
  }
}

/** The records that are there: from `start` up to, but without, `end`. */
export interface OffsetRange {
  readonly start: number;
  /** The next record to be appended gets this offset. */
  readonly end: number;
}
