import type { Position, Seq } from "../base/position.js";
import type { OffsetRange } from "../records/record-log.js";

export type StoreErrorCode =
  /** This node is a replica, or its mastership has not begun. */
  | "not_master"
  /** This node has never caught up with a master, so it has nothing to show. */
  | "not_ready"
  /** The disk has no room; nothing was changed. */
  | "disk_full"
  /** No more may be stored (`storage.max_entries`, `storage.max_bytes`), and nothing may go for it; nothing was changed. */
  | "storage_full"
  /** This node keeps no order of keys (`storage.ordered`). */
  | "not_ordered"
  /** More writes are in flight than `limits.max_pending_bytes` allows; nothing was changed. */
  | "overloaded"
  /** The record is in the log at `position`, but it is not known whether it is, or will be, committed. */
  | "outcome_unknown"
  /** The log does not hold the place that was asked for; `range` tells what it holds. */
  | "out_of_range"
  /** The record log does not hold the offset that was asked for; `offsets` tells what it holds. */
  | "offset_out_of_range"
  /** A token names a history that is not, or is no longer, this cluster's. */
  | "lineage_lost"
  /** A token that no node of Cambium has made. */
  | "invalid_token"
  /** A condition of the write does not hold (`failedCondition`); nothing was changed. */
  | "condition_failed"
  /** A value that was to be incremented is no decimal number of 64 bits (`counter`); nothing was changed. */
  | "not_an_integer"
  /** A sum would pass its bounds (`counter`); nothing was changed. */
  | "out_of_bounds"
  /** What was asked for belongs to one record, or one answer, and is more than that may hold (`passed`); nothing was changed. */
  | "too_large"
  /** A repeat whose answer is not remembered any more (`oldestClientSeq`); it was not executed now. */
  | "retry_too_old"
  /** The client has made another write under this number; nothing was changed. */
  | "retry_differs"
  /** No more answers can be remembered (`retries.max_bytes`); nothing was changed. */
  | "retries_full"
  /** The node shuts down. */
  | "closing"
  /** The disk failed this node, and it acknowledges nothing more. */
  | "failed";

/** What the store could not do, for reasons that are no bug. */
export class StoreError extends Error {
  override readonly name = "StoreError";
  readonly code: StoreErrorCode;
  /** With `outcome_unknown`: the record in question. */
  readonly position?: Position;
  /** With `out_of_range`: the log can be read from `compactSeq` + 1 to `appliedSeq`. */
  readonly range?: LogRange;
  /** With `offset_out_of_range`. */
  readonly offsets?: OffsetRange;
  /** With `lineage_lost`: the last position that the lost history and this node's have in common, as far as it is known. */
  readonly fork?: Position;
  /** With `storage_full`, `too_large` and `retries_full`. */
  readonly passed?: PassedLimit;
  /** With `condition_failed`. */
  readonly failedCondition?: FailedCondition;
  /** With `not_an_integer` and `out_of_bounds`. */
  readonly counter?: RefusedCounter;
  /** With `retry_too_old`: the lowest that this client can send. */
  readonly oldestClientSeq?: number;

  constructor(
    code: StoreErrorCode,
    message: string,
    options: ErrorOptions & {
      position?: Position;
      range?: LogRange;
      offsets?: OffsetRange;
      fork?: Position;
      passed?: PassedLimit;
      failedCondition?: FailedCondition;
      counter?: RefusedCounter;
      oldestClientSeq?: number;
    } = {},
  ) {
    super(message, options);
    this.code = code;
    if (options.position) this.position = options.position;
    if (options.range) this.range = options.range;
    if (options.offsets) this.offsets = options.offsets;
    if (options.fork) this.fork = options.fork;
    if (options.passed) this.passed = options.passed;
    if (options.failedCondition) this.failedCondition = options.failedCondition;
    if (options.counter) this.counter = options.counter;
    if (options.oldestClientSeq !== undefined) this.oldestClientSeq = options.oldestClientSeq;
  }
}

/** A limit that a write would have passed. */
export interface PassedLimit {
  /** The configuration key. */
  readonly limit: string;
  readonly maximum: number;
  readonly actual: number;
}

/** The key as it was when the condition was judged. */
export interface FailedCondition {
  readonly key: Uint8Array;
  readonly exists: boolean;
  /** 0: the key is absent. */
  readonly modSeq: Seq;
  /** Which command of the write, or operation of the transaction's list, from 0 on. */
  readonly operation: number;
}

export interface RefusedCounter {
  readonly key: Uint8Array;
  /** As in `FailedCondition`. */
  readonly operation: number;
  /** With `out_of_bounds`: what the key holds, or counts as, and the bounds. */
  readonly value?: bigint;
  readonly min?: bigint;
  readonly max?: bigint;
}

export interface LogRange {
  readonly compactSeq: Seq;
  readonly appliedSeq: Seq;
}

export const DISK_FULL = "the disk has no room; nothing was changed; free some and try again";

export function notMasterError(): StoreError {
  return new StoreError("not_master", "this node is a replica and takes no writes");
}

export function notOrderedError(): StoreError {
  return new StoreError("not_ordered", "this node keeps no order of keys (storage.ordered: false); ask another one");
}

/** The answer of a node that shuts down. */
export function closingError(): StoreError {
  return new StoreError("closing", "this node is shutting down; ask another one");
}
